"""Answers that a person kept with a run, base model against tuned model: `samples.json` of the run folder, written and read here alone.

Form: `{checkpoint, step, settings: {max_new_tokens, temperature, seed}, time, results: [{prompt, base, tuned, same}]}`; no path of a machine.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from automodel.run.files import read_json, write_json

KEPT = "samples.json"


@dataclass
class Cell:
    """One answer: `state` is waiting, writing, done, refused or cancelled."""

    text: str = ""
    state: str = "waiting"
    tokens: int = 0
    seconds: float = 0.0
    rendered: str = ""
    finished: bool = True

    @property
    def shown(self) -> str:
        """Return the answer for a table: marked where it was cut off, a dash where there is none."""
        return "-" if self.state != "done" else self.text + ("" if self.finished else " […]")


@dataclass
class Result:
    """A prompt and both answers."""

    prompt: str
    base: Cell = field(default_factory=Cell)
    tuned: Cell = field(default_factory=Cell)

    @property
    def same(self) -> bool | None:
        """Say whether both wrote the same; None until both are done."""
        return self.base.text == self.tuned.text if self.base.state == self.tuned.state == "done" else None

    def as_dict(self) -> dict[str, Any]:
        """Return the result as plain data."""
        return {"prompt": self.prompt, "base": asdict(self.base), "tuned": asdict(self.tuned), "same": self.same}


@dataclass(frozen=True)
class Kept:
    """What was kept: the `checkpoint` that answered, its `step`, the `settings`, and the `results` in the order of the prompts."""

    checkpoint: str
    step: int | None
    settings: Mapping[str, Any]
    results: tuple[Result, ...]
    time: float | None = None

    @property
    def how(self) -> str:
        """Return the settings in words."""
        temperature = self.settings.get("temperature") or 0
        way = f"drawn at temperature {temperature:g} with seed {self.settings.get('seed')}" if temperature else "always the likeliest token"
        return f"at most {self.settings.get('max_new_tokens', '?')} tokens, {way}"


def write_kept(run: Path, answered: Mapping[str, Any], results: Sequence[Result]) -> Path:
    """Write answers into a run folder, in place of those that lie there, and return the file; `answered` names checkpoint, step and settings."""
    write_json(run / KEPT, {**answered, "time": time.time(), "results": [result.as_dict() for result in results]})
    return run / KEPT


def read_kept(run: Path) -> Kept | None:
    """Return what was kept in a run folder; None when there is nothing, or something of another form."""
    facts = read_json(run / KEPT) or {}
    try:
        results = tuple(Result(str(one["prompt"]), Cell(**one["base"]), Cell(**one["tuned"])) for one in facts["results"])
        whole = all(isinstance(cell.text, str) for one in results for cell in (one.base, one.tuned))
        kept = Kept(str(facts["checkpoint"]), facts.get("step"), dict(facts.get("settings") or {}), results, facts.get("time"))
        return kept if whole and kept.how else None
    except (KeyError, TypeError, ValueError):
        return None
