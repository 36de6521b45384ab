"""What the learning-rate finder knows: a short search in a process of its own, read from the file that it writes."""

from __future__ import annotations

import atexit
import json
import math
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from automodel.errors import AutomodelError, RequestError
from automodel.run.files import LineReader, tail_text

ENGINE = "automodel.tasks.lr_find"
RANGE = (1e-7, 10.0)
LORA_RANGE = (1e-6, 1e-2)
STEPS = (100, 60)
FEWEST_STEPS, MOST_STEPS = 20, 1000
# A search is over in well under a minute for a small model; a large one on a CPU is not left running unseen.
SECONDS = 900
NAMES = {
    "valley": "Half-way down the longest fall of the loss. A safe choice, and the usual one.",
    "minimum/10": "A tenth of the rate with the lowest loss. Bolder.",
    "steep": "Where the loss falls fastest. Between the two on most curves.",
}
ENDS = {
    "finished": "The search reached the highest rate.",
    "diverged": "The search ended where the loss grew to four times its best: higher rates can only be worse.",
    "stopped": "The search was stopped.",
    "out of time": "The search took too long and was ended.",
}


@dataclass(frozen=True)
class Settings:
    """What the user set; None takes the usual value."""

    low: float | None = None
    high: float | None = None
    steps: int | None = None

    def having(self, name: str, value: str) -> Settings:
        """Return these with one of them changed to what was typed, nothing for the usual value; raises ValueError when it is no number."""
        typed = value.strip()
        if name == "steps":
            return replace(self, steps=int(typed) if typed else None)
        number = float(typed) if typed else None
        if number is not None and not math.isfinite(number):
            raise ValueError(typed)
        return replace(self, low=number) if name == "low" else replace(self, high=number)

    def checked(self, usual: tuple[float, float]) -> Settings:
        """Return itself when the values make sense.

        Raises:
            RequestError: the range is empty, or the number of steps is out of bounds.
        """
        low, high = usual[0] if self.low is None else self.low, usual[1] if self.high is None else self.high
        if not 0 < low < high:
            raise RequestError("The range of learning rates is empty.", found=f"{low:g} to {high:g}", expected="from a small rate to a larger one")
        if self.steps is not None and not FEWEST_STEPS <= self.steps <= MOST_STEPS:
            raise RequestError("The number of steps is out of bounds.", found=str(self.steps), expected=f"{FEWEST_STEPS} to {MOST_STEPS}")
        return self


@dataclass(frozen=True)
class Point:
    """One step of the search."""

    lr: float
    loss: float
    smoothed: float


@dataclass
class LrFinderState:
    """One search: `start`, then `look` until it is no longer `running`."""

    points: list[Point] = field(default_factory=list)
    suggestions: dict[str, float] = field(default_factory=dict)
    ended: str = ""
    error: AutomodelError | None = None
    total: int = 0
    _child: subprocess.Popen[bytes] | None = None
    _folder: Path | None = None
    _reader: LineReader | None = None
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    @property
    def running(self) -> bool:
        """Say whether a search goes on."""
        return self._child is not None

    @property
    def share(self) -> float | None:
        """Part of the steps that is done; None while the model is being loaded."""
        return len(self.points) / self.total if self.total else None

    def start(self, recipe: Mapping[str, Any], settings: Settings | None = None) -> None:
        """Start a search for a recipe.

        Raises:
            RequestError: one runs already, or the settings make no sense.
        """
        chosen = (settings or Settings()).checked(usual_range(recipe))
        with self._lock:
            if self.running:
                raise RequestError("A search is running.", found="running", expected="one at a time", fix="stop it first")
            self.points, self.suggestions, self.ended, self.error, self.total = [], {}, "", None, 0
            self._folder = Path(tempfile.mkdtemp(prefix="automodel-lr-"))
            # JSON is YAML too, and the recipe is plain data.
            (self._folder / "recipe.yaml").write_text(json.dumps(dict(recipe), default=str), encoding="utf-8")
            self._reader = LineReader(self._folder / "lr.jsonl")
            self._child = self._spawn(self._folder, chosen)
            atexit.register(self.close)

    def _spawn(self, folder: Path, chosen: Settings) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", ENGINE, str(folder / "recipe.yaml"), "--out", str(folder), "--seconds", str(SECONDS)]
        for name in ("low", "high", "steps"):
            value = getattr(chosen, name)
            words += [] if value is None else [f"--{name}", str(value)]
        with (folder / "log").open("wb") as log:
            # Its own session: an interrupt of the notebook's kernel must not break it off.
            return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    def look(self) -> bool:
        """Read what is new and say whether the search goes on."""
        with self._lock:
            if self._child is None or self._reader is None:
                return False
            code = self._child.poll()
            for row in self._reader.read():
                self._take(row)
            if code is not None:
                self._finish(code)
            return self.running

    def _take(self, row: Mapping[str, Any]) -> None:
        if "lr" in row and row.get("loss") is not None:
            self.points.append(Point(float(row["lr"]), float(row["loss"]), float(row["smoothed"])))
            self.total = int(row["total"])
        elif "done" in row:
            self.ended, self.suggestions = str(row["done"]), {name: float(rate) for name, rate in row["suggestions"].items()}
        elif "error" in row:
            parts = dict(row["error"])
            self.error = RequestError(parts.pop("what", "The search failed."), **parts)

    def _finish(self, code: int) -> None:
        if not self.ended and self.error is None:
            log = tail_text(self._folder / "log", 8) if self._folder is not None else ""
            self.error = AutomodelError("The search broke off.", found=f"exit code {code}", fix=log.strip() or "start it again")
        self._child = None
        self._drop()

    def stop(self) -> None:
        """Ask the search to end after the step that is being done; what it has seen is used."""
        with self._lock:
            if self.running and self._folder is not None:
                if self.points:
                    (self._folder / "stop").touch()
                else:
                    self.close()
                    self.ended = "stopped"

    def close(self) -> None:
        """End the search at once and remove its files."""
        with self._lock:
            child, self._child = self._child, None
            if child is not None and child.poll() is None:
                child.kill()
                child.wait()
            self._drop()

    def _drop(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = self._reader = None
        atexit.unregister(self.close)

    @property
    def shown(self) -> list[Point]:
        """Return the points worth drawing: without the last ones of an explosion, which would flatten all the rest."""
        if self.ended != "diverged":
            return self.points
        best = min((point.smoothed for point in self.points), default=math.inf)
        first = max((point.smoothed for point in self.points[:5]), default=best)
        top = max(1.5 * first, 2 * best)
        cut = next((at for at in range(len(self.points), 0, -1) if self.points[at - 1].smoothed <= top), len(self.points))
        return self.points[: max(min(cut, len(self.points) - 5), 1)]

    @property
    def verdict(self) -> tuple[str, str]:
        """Return what came out, in words, and the kind of message."""
        if not self.ended:
            return "", ""
        if self.suggestions:
            return ENDS.get(self.ended, self.ended), "good"
        if len(self.points) < FEWEST_STEPS:
            return f"{ENDS.get(self.ended, self.ended)} There are too few steps to suggest a rate.", "warn"
        return "The loss never fell, so there is nothing to suggest. Look at the data and at the highest rate of the range.", "warn"


def usual_range(recipe: Mapping[str, Any]) -> tuple[float, float]:
    """Return the range that a search of a recipe takes: adapters take a smaller one."""
    return LORA_RANGE if recipe.get("peft") else RANGE


def rounded(rate: float) -> float:
    """Return a rate with two digits: more would pretend a precision that the search does not have."""
    return float(f"{rate:.1e}")


def shown(rate: float) -> str:
    """Return a rate as people write it: 1.8e-4; from a thousandth on 0.001, 0.5, 10."""
    if 1e-3 <= rate < 1e4:
        return f"{rate:.2g}" if rate < 1 else f"{rate:g}"
    digits, _, power = f"{rate:.1e}".partition("e")
    return f"{digits.removesuffix('.0')}e{int(power)}"


def missing(recipe: Mapping[str, Any]) -> str | None:
    """Return what a recipe lacks for a search, or None."""
    model = recipe.get("model") or {}
    if not (model.get("pretrained_model_name_or_path") or model.get("config")):
        return "choose a model first"
    data = recipe.get("dataset") or {}
    return None if data.get("path_or_dataset") or data.get("name") == "mock" else "choose a dataset first"
