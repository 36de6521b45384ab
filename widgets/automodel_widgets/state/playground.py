"""The base model beside the tuned one: the same prompts, the same settings, answered in a process that takes its memory with it."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from automodel.errors import RequestError
from automodel.run import Run, launched_in
from automodel.run.kept import Cell, Result, read_kept, write_kept
from automodel.run.report import NAME as REPORT
from automodel_widgets.state.child import Child, Message
from automodel_widgets.state.points import first, labels, prompts_of, usable

SIDES = {"base": "Base model", "tuned": "Tuned model"}
LIMITS = {"max_new_tokens": (1, 2048), "temperature": (0.0, 5.0), "seed": (0, 2**31 - 1)}
# A line that parts prompts, and how many rows of the data are taken as prompts.
PARTED = "---"
ROWS = 3
# Texts with less in common than this are two texts, not one with changes.
ALIKE = 0.3
_PARTING = re.compile(rf"^{PARTED}\s*$", re.MULTILINE)
_WORDS = re.compile(r"\s+|\w+|[^\w\s]")


@dataclass
class Settings:
    """How is answered; temperature 0 always takes the likeliest token."""

    max_new_tokens: int = 64
    temperature: float = 0.0
    seed: int = 0

    def change(self, name: str, value: Any) -> None:
        """Take a value as a person typed it.

        Raises:
            RequestError: it is no number in the range.
        """
        low, high = LIMITS[name]
        kind = type(low)
        try:
            number = kind(str(value).strip())
        except ValueError:
            number = None
        if number is None or not low <= number <= high:
            words = name.replace("_", " ")
            raise RequestError(f"That is no {words}.", found=str(value), expected=f"a {'whole ' if kind is int else ''}number from {low} to {high}")
        setattr(self, name, number)

    def options(self) -> dict[str, Any]:
        """Return them as `automodel.generate` takes them."""
        drawing = {"sample": True, "temperature": self.temperature} if self.temperature > 0 else {}
        return {"max_new_tokens": self.max_new_tokens, "seed": self.seed, **drawing}


class PlaygroundState:
    """One run's checkpoints and what base and tuned model answered; `poll()` takes in what came."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.points = usable(run)
        chosen = first(self.points)
        self.checkpoint = chosen.path.name if chosen else ""
        self.prompts = prompts_of(run)
        self.settings = Settings()
        self.results: list[Result] = []
        self.answered: dict[str, Any] = {}
        self.refused: dict[str, Message] = {}
        self.problem: Message | None = None
        self.peak: int | None = None
        self.loading = ""
        self._child: Child | None = None
        self._busy = self._answering = False
        self._lock = threading.Lock()
        self._began = self._took = 0.0
        self._load()

    @property
    def busy(self) -> bool:
        """Say whether answers are being made, or have come and are not shown yet."""
        return self._busy

    @property
    def released(self) -> bool:
        """Say whether the process of the last answers is gone, and its memory with it."""
        return self._answering and self._child is not None and not self._child.alive

    @property
    def took(self) -> float:
        """Seconds from the start to the end, or to now."""
        return time.monotonic() - self._began if self.busy else self._took

    def options(self) -> dict[str, str]:
        """Return the checkpoints as choices."""
        return labels(self.points)

    def why_not(self) -> str | None:
        """Say why nothing can be asked, or None."""
        if self.busy:
            return "It is answering already"
        if not self.points:
            return "The run has no whole checkpoint yet"
        return None if self.prompts else "Write a prompt first"

    @property
    def written(self) -> str:
        """The prompts as text: one a line, or parted by lines of dashes where one has several lines."""
        if not any("\n" in prompt for prompt in self.prompts):
            return "\n".join(self.prompts)
        return f"\n{PARTED}\n".join(self.prompts) + (f"\n{PARTED}" if len(self.prompts) == 1 else "")

    def write(self, text: str) -> None:
        """Take the prompts: one a line; where lines of dashes part them, a prompt is what stands between."""
        blocks = _PARTING.split(text) if _PARTING.search(text) else text.splitlines()
        self.prompts = [block.strip() for block in blocks if block.strip()]

    def take_rows(self) -> None:
        """Take the prompts of some rows of the run's data, held-out ones where there are some, as they are trained."""
        from automodel_widgets.state import heavy

        if self.busy:
            raise RequestError("It is answering already.")
        self._begin("Reading rows of the data")
        folder = launched_in(self.run.folder)
        self._child = Child(heavy.rows, str(self.run.folder.recipe_path), str(folder) if folder else None, ROWS)

    def start(self) -> None:
        """Ask both models everything."""
        from automodel_widgets.state import heavy

        reason = self.why_not()
        if reason is not None:
            raise RequestError(reason + ".")
        point = next(one for one in self.points if one.path.name == self.checkpoint)
        self.results = [Result(prompt) for prompt in self.prompts]
        self.answered = {"checkpoint": point.path.name, "step": point.step, "settings": asdict(self.settings)}
        self.refused, self.peak = {}, None
        sides = [("base", str(point.model), True), ("tuned", str(point.model), False)]
        self._begin("Starting a process for the models", answering=True)
        self._child = Child(heavy.speak, sides, list(self.prompts), self.settings.options())

    def _begin(self, words: str, *, answering: bool = False) -> None:
        self.problem, self.loading, self._answering, self._busy = None, words, answering, True
        self._began = time.monotonic()

    def poll(self) -> bool:
        """Take in what came; False when nothing more will come."""
        with self._lock:
            for message in self._child.read() if self._child is not None else ():
                self._take(message)
        return self._busy

    def cancel(self) -> None:
        """End the process; what was written stays."""
        if self._child is not None and self.busy:
            self._child.cancel()
            self.poll()

    def _take(self, message: Message) -> None:
        kind = message["kind"]
        if kind in ("begin", "piece", "answer"):
            cell: Cell = getattr(self.results[message["index"]], message["side"])
            self._fill(cell, message)
            if kind == "begin":
                self.loading = f"{SIDES[message['side']]}: prompt {message['index'] + 1} of {len(self.results)}"
        elif kind == "rows":
            self.prompts = list(message["prompts"])
        elif kind == "loading":
            self.loading = f"{SIDES[message['side']]}: loading"
        elif kind == "refused":
            self.refused[message["side"]] = message
            for result in self.results:
                getattr(result, message["side"]).state = "refused"
        elif kind == "error":
            self.problem = message
        elif kind == "end":
            self.peak, self._took, self.loading, self._busy = message["peak"], time.monotonic() - self._began, "", False
            for cell in (cell for result in self.results for cell in (result.base, result.tuned) if cell.state in ("waiting", "writing")):
                cell.state = "cancelled"

    @staticmethod
    def _fill(cell: Cell, message: Message) -> None:
        if message["kind"] == "begin":
            cell.state, cell.text = "writing", ""
        elif message["kind"] == "piece":
            cell.text += message["text"]
        else:
            cell.state = "done"
            cell.text, cell.tokens, cell.seconds = message["text"], message["tokens"], message["seconds"]
            cell.rendered, cell.finished = message["rendered"], message["finished"]

    def keep(self) -> Path:
        """Write the answers to `samples.json` in the run folder, where report and model card find them; a report that is there is written anew."""
        made = write_kept(self.run.path, self.answered, self.results)
        if (self.run.path / REPORT).is_file():
            self.run.report()
        return made

    def _load(self) -> None:
        kept = read_kept(self.run.path)
        if kept is not None:
            self.results = list(kept.results)
            self.answered = {"checkpoint": kept.checkpoint, "step": kept.step, "settings": dict(kept.settings)}
        self.prompts = self.prompts or [result.prompt for result in self.results]


def differences(left: str, right: str) -> tuple[list[tuple[str, bool]], list[tuple[str, bool]]]:
    """Return both texts in pieces, each with whether it differs from the other text; texts with little in common are one piece each, unmarked."""
    a, b = _WORDS.findall(left), _WORDS.findall(right)
    matcher = SequenceMatcher(None, a, b, autojunk=False)
    # Spaces alone make no likeness.
    if SequenceMatcher(None, left.split(), right.split(), autojunk=False).ratio() < ALIKE:
        return [(left, False)], [(right, False)]
    sides: tuple[list[tuple[str, bool]], list[tuple[str, bool]]] = ([], [])
    for kind, i, j, k, m in matcher.get_opcodes():
        for side, piece in ((sides[0], "".join(a[i:j])), (sides[1], "".join(b[k:m]))):
            if piece:
                side.append((piece, kind != "equal"))
    return sides
