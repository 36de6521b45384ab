"""What the monitor knows of a run: read from its folder, a little at a time, so that a long run costs no more than a short one."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from automodel.run import Checkpoint, Run, Status

PHASES = {
    "created": ("Starting", "busy"),
    "preparing": ("Preparing", "busy"),
    "training": ("Training", "busy"),
    "validating": ("Validating", "busy"),
    "saving": ("Saving", "busy"),
    "stopping": ("Stopping", "busy"),
    "finished": ("Finished", "good"),
    "stopped": ("Stopped", "warn"),
    "failed": ("Failed", "bad"),
}
LOG_LINES = 200
EVENTS_SHOWN = 60


@dataclass
class News:
    """Rows that came since the last look; `restarted`: the curve was cut back by a resume and must be drawn anew."""

    train: list[dict[str, Any]] = field(default_factory=list)
    check: list[dict[str, Any]] = field(default_factory=list)
    restarted: bool = False


class MonitorState:
    """A run as a viewer sees it; `look()` reads what is new."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.status: Status = run.status
        self.last: dict[str, Any] = {}
        self.best: dict[str, Any] | None = None
        self.first_loss: float | None = None
        self.label_tokens = 0
        self.peak_memory = 0.0
        self.steps_here = 0
        self.seconds_here = 0.0
        self._reader = run.follow_metrics()
        self._cuts = 0

    def look(self) -> News:
        """Read new rows and the state."""
        rows = self._reader.read()
        news = News(restarted=self._reader.restarts != self._cuts)
        if news.restarted:
            self._cuts = self._reader.restarts
            self.last, self.best, self.first_loss = {}, None, None
            self.label_tokens, self.steps_here, self.seconds_here = 0, 0, 0.0
        for row in rows:
            if row.get("split", "train") == "train":
                self._train(row)
                news.train.append({**row, "tokens": row.get("tokens_seen", row.get("tokens"))})
            else:
                self._check(row)
                news.check.append({**row, "tokens": row.get("tokens_seen", self.last.get("tokens_seen"))})
        self.status = self.run.status
        return news

    def _train(self, row: dict[str, Any]) -> None:
        self.last = row
        if self.first_loss is None:
            self.first_loss = row.get("loss")
        self.label_tokens += int(row.get("label_tokens") or 0)
        self.peak_memory = max(self.peak_memory, float(row.get("memory_bytes") or 0))
        self.steps_here += 1
        self.seconds_here += float(row.get("step_seconds") or 0)

    def _check(self, row: dict[str, Any]) -> None:
        loss = row.get("loss")
        if row.get("split") == "validation" and loss is not None and (self.best is None or loss < self.best["loss"]):
            self.best = row

    @property
    def phase(self) -> tuple[str, str]:
        """The phase as a word and a kind of badge."""
        return PHASES.get(self.status.state, (self.status.state.capitalize(), ""))

    @property
    def share(self) -> float | None:
        """Part of the steps that is done, 0 to 1."""
        done, total = self.status.step, self.status.total_steps
        return None if not done or not total else done / total

    @property
    def eta(self) -> float | None:
        """Seconds to the last step, from the pace of the steps that this viewer has read."""
        done, total = self.status.step, self.status.total_steps
        if self.status.done or not done or not total or not self.steps_here:
            return None
        return (total - done) * self.seconds_here / self.steps_here

    @property
    def elapsed(self) -> float:
        """Seconds since the run was made, up to its end."""
        return (self.status.ended or time.time()) - self.status.created if self.status.created else 0.0

    def restarts(self) -> list[int]:
        """Return the steps after which the run was resumed."""
        return [int(event["step"]) for event in self.run.events() if event.get("kind") == "resumed" and event.get("step") is not None]

    def events(self) -> list[dict[str, Any]]:
        """Return the newest events, newest first, without those that only repeat the phase."""
        told = [event for event in self.run.events() if event.get("text") or event.get("kind") not in PHASES]
        return told[-EVENTS_SHOWN:][::-1]

    def samples(self) -> list[dict[str, Any]]:
        """Return what the model wrote at the newest validation that has samples."""
        found = [event for event in self.run.events() if event.get("kind") in ("sample", "samples")]
        newest = found[-1].get("step") if found else None
        return [event for event in found if event.get("step") == newest]

    def log(self, rank: int) -> str:
        """Return the end of one rank's log."""
        return self.run.log(rank=rank, tail=LOG_LINES)

    @property
    def ranks(self) -> list[int]:
        """The ranks that have a log."""
        return sorted(self.run.folder.ranks()) or [0]

    @property
    def checkpoints(self) -> list[Checkpoint]:
        """The saved points, newest first."""
        return self.run.checkpoints[::-1]

    def summary(self) -> list[tuple[str, str]]:
        """Return the chart in words: first, last and best, and where the curve is going."""
        rows = [("First training loss", _number(self.first_loss)), ("Last training loss", _number(self.last.get("loss")))]
        if self.best is not None:
            rows.append(("Best validation loss", f"{_number(self.best['loss'])} at step {self.best.get('step')}"))
        rows.append(("Steps", f"{self.status.step or 0:,}" + (f" of {self.status.total_steps:,}" if self.status.total_steps else "")))
        rows.append(("Tokens seen", f"{int(self.last.get('tokens_seen') or 0):,}"))
        rows.append(("Tokens trained on", f"{self.label_tokens:,}"))
        return rows

    def picture(self) -> str:
        """Return the losses as an SVG drawing, for where no script runs."""
        from automodel.run.report_chart import Line, chart
        from automodel.run.report_series import in_words, series, smoothed

        raw = series(self.run.metrics("train"), "loss", name="training loss")
        checks = series(self.run.metrics("validation"), "loss", name="validation loss")
        lines = [Line(raw, "am-line0 am-raw"), Line(smoothed(raw), "am-line0"), Line(checks, "am-line1", marks=True)]
        told = " ".join(in_words(curve, curve.name) for curve in (raw, checks) if curve.known)
        return chart(lines, title="Loss", description=told, identity=f"loss-{self.run.id}", star=checks.lowest, restarts=self.restarts())


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
