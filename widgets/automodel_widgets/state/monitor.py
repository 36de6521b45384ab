"""What the monitor knows of a run: read from its folder, a little at a time, so that a long run costs no more than a short one."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from automodel.run import Checkpoint, Run, Status
from automodel.run.files import LineReader, read_json
from automodel.run.location import RECORD
from automodel_widgets.state.points import recipe_of

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
# So many of the last losses tell where the curve is going.
TREND_STEPS = 40
MAIN = "validation"


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
        self._stamp = 0
        self._told = LineReader(run.path / "events.jsonl")
        self._events: list[dict[str, Any]] = []
        self._begin()

    def _begin(self) -> None:
        """Read the curve from its beginning."""
        self._reader = self.run.follow_metrics()
        self._cuts = 0
        self.last: dict[str, Any] = {}
        self.first_loss: float | None = None
        self.label_tokens = 0
        # Split -> its newest and its best row.
        self.checks: dict[str, tuple[dict[str, Any], dict[str, Any] | None]] = {}
        # The first step since the run was last resumed, and after which step that was.
        self._first: dict[str, Any] | None = None
        self._resumed = 0
        self._recent: deque[float] = deque(maxlen=TREND_STEPS)

    def look(self) -> News:
        """Read new rows and the state."""
        drawn, rows = self.drawn, self._reader.read()
        restarted = self._reader.restarts != self._cuts
        splits = {str(row.get("split", "train")) for row in rows}
        if restarted or (drawn not in (None, MAIN) and MAIN in splits):
            self._begin()
            rows, restarted = self._reader.read(), True
        self._resumed = max((0, *self.restarts()))
        found: dict[str, list[dict[str, Any]]] = {"train": []}
        for row in rows:
            split = str(row.get("split", "train"))
            seen = row.get("tokens_seen", row.get("tokens") if split == "train" else self.last.get("tokens_seen"))
            found.setdefault(split, []).append({**row, "tokens": seen})
            if split == "train":
                self._train(row)
            else:
                self._check(split, row)
        self.status = self.run.status
        return News(found["train"], found.get(self.drawn or MAIN, []), restarted)

    @property
    def over(self) -> bool:
        """Say whether nothing more will come, as of the last look."""
        return self.status.done and not self.status.alive

    def changed(self) -> bool:
        """Say whether the run's record was written, or taken away, since this was last asked."""
        record = self.run.path / RECORD
        stamp = record.stat().st_mtime_ns if record.exists() else 0
        changed, self._stamp = stamp != self._stamp, stamp
        return changed

    def _train(self, row: dict[str, Any]) -> None:
        self.last = row
        loss = row.get("loss")
        if self.first_loss is None:
            self.first_loss = loss
        if loss is not None:
            self._recent.append(loss)
        self.label_tokens += int(row.get("label_tokens") or 0)
        step = row.get("step") or 0
        if step > self._resumed and (self._first is None or (self._first.get("step") or 0) <= self._resumed):
            self._first = row

    def _check(self, split: str, row: dict[str, Any]) -> None:
        loss, best = row.get("loss"), self.checks.get(split, (row, None))[1]
        self.checks[split] = (row, row if loss is not None and (best is None or loss < best["loss"]) else best)

    @property
    def drawn(self) -> str | None:
        """The validation set that the chart draws: the recipe's own, else the first that was named; None before the first check."""
        return MAIN if MAIN in self.checks else next(iter(self.checks), None)

    @property
    def best(self) -> dict[str, Any] | None:
        """The row of the drawn validation set with the lowest loss."""
        return self.checks[self.drawn][1] if self.drawn is not None else None

    @cached_property
    def validates(self) -> bool:
        """Say whether the run's recipe has a validation set."""
        found = recipe_of(self.run)
        # A recipe that cannot be read is no reason to say that something lacks in it.
        return not found or any(str(name).startswith("validation_dataset") and value for name, value in found.items())

    @property
    def asked_to_stop(self) -> bool:
        """Say whether somebody has asked for a stop that has not come yet."""
        return not self.status.done and self.run.folder.requests().stop

    @property
    def phase(self) -> tuple[str, str]:
        """The phase as a word and a kind of badge."""
        state = "stopping" if self.asked_to_stop else self.status.state
        return PHASES.get(state, (state.capitalize(), ""))

    @property
    def share(self) -> float | None:
        """Part of the steps that is done, 0 to 1."""
        done, total = self.status.step, self.status.total_steps
        return None if not done or not total else done / total

    @property
    def pace(self) -> float | None:
        """Seconds a step, validation and saving included, since the run was last resumed: what was before says nothing of this machine now."""
        first, last = self._first, self.last
        if first is None or (last.get("step") or 0) <= self._resumed:
            return None
        steps = last["step"] - first["step"]
        if steps > 0 and first.get("time") and last.get("time"):
            return float(last["time"] - first["time"]) / float(steps)
        return float(last["step_seconds"]) if last.get("step_seconds") else None

    @property
    def eta(self) -> float | None:
        """Seconds to the last step, from the pace."""
        done, total, pace = self.status.step, self.status.total_steps, self.pace
        return None if self.status.done or not done or not total or pace is None else (total - done) * pace

    @property
    def elapsed(self) -> float:
        """Seconds since the run was made, up to its end."""
        return (self.status.ended or time.time()) - self.status.created if self.status.created else 0.0

    def waiting(self) -> str:
        """Say what goes on before the first step since the start or the last resume; empty once there is one."""
        if self.status.done or (self.last.get("step") or 0) > self._resumed:
            return ""
        told = [event for event in self.read_events() if event.get("text") or event.get("kind") in PHASES]
        if not told:
            return "Waiting for the job to begin."
        newest = told[-1]
        what = str(newest.get("text") or PHASES[newest["kind"]][0])
        return f"Waiting for the first step. Last heard at {clock(newest.get('time'))}: {what}"

    def stop_words(self) -> tuple[str, str]:
        """Return what has come of a request to stop, and a kind of note; empty when nobody asked."""
        record = self.run.folder.record()
        by_force = self._force()
        if self.status.state == "stopped" and by_force:
            return f"It did not stop by itself in time and was ended by force: {by_force}. What came after its newest checkpoint is lost.", "warn"
        if not self.asked_to_stop:
            return "", ""
        asked = read_json(self.run.path / "requests" / "stop.json") or {}
        words = f"Asked at {clock(asked.get('time'))} to {'stop and save' if asked.get('save', True) else 'stop and discard'}"
        if by_force:
            return f"{words}. It did not stop in time: {by_force}.", "warn"
        grace = (record.get("launch") or {}).get("stop_grace_seconds")
        then = (
            f" If it has not stopped {grace:g} seconds after it was asked, it is ended by force."
            if grace and record.get("launcher") == "supervisor"
            else ""
        )
        return f"{words}: it goes to the end of its step first.{then}", ""

    def _force(self) -> str:
        """Return how processes were ended by force since the last resume; empty when none was."""
        for event in reversed(self.read_events()):
            if event.get("kind") == "resumed":
                break
            if event.get("kind") in ("escalation", "ended by force"):
                return str(event.get("text") or f"{event.get('signal')} was sent to its processes")
        return ""

    @property
    def failed_rank(self) -> int:
        """The rank that failed first; those after it mostly fail for want of it."""
        found = self.run.folder.first_error() or self.run.folder.record().get("error") or {}
        return int(found.get("rank") or 0)

    def read_events(self) -> list[dict[str, Any]]:
        """Return all events, oldest first; only what is new is read."""
        self._events += self._told.read()
        return self._events

    def restarts(self) -> list[int]:
        """Return the steps after which the run was resumed."""
        return [int(event["step"]) for event in self.read_events() if event.get("kind") == "resumed" and event.get("step") is not None]

    def events(self) -> list[dict[str, Any]]:
        """Return the newest events, newest first, without those that only repeat the phase."""
        told = [event for event in self.read_events() if event.get("text") or event.get("kind") not in PHASES]
        return told[-EVENTS_SHOWN:][::-1]

    def samples(self) -> list[dict[str, Any]]:
        """Return what the model wrote at the newest validation that has samples."""
        found = [event for event in self.read_events() if event.get("kind") in ("sample", "samples")]
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
        if self.trend:
            rows.append(("Where it is going", self.trend))
        for split, (newest, best) in self.checks.items():
            name = "validation loss" if split == MAIN else f"loss of {split}"
            rows.append((f"Last {name}", f"{_number(newest.get('loss'))} at step {newest.get('step')}"))
            if best is not None:
                rows.append((f"Best {name}", f"{_number(best['loss'])} at step {best.get('step')}"))
        rows.append(("Steps", f"{self.status.step or 0:,}" + (f" of {self.status.total_steps:,}" if self.status.total_steps else "")))
        rows.append(("Tokens seen", f"{int(self.last.get('tokens_seen') or 0):,}"))
        rows.append(("Tokens trained on", f"{self.label_tokens:,}"))
        return rows

    @property
    def trend(self) -> str:
        """Where the training loss is going, by the two halves of its last values; empty while there are few."""
        values = list(self._recent)
        half = len(values) // 2
        if half < 2:
            return ""
        before, now = sum(values[:half]) / half, sum(values[-half:]) / half
        change = (now - before) / abs(before) if before else 0.0
        word = "level" if abs(change) < 0.005 else "falling" if change < 0 else "rising"
        return f"{word}: {_number(before)}, then {_number(now)}, over the last {len(values)} values"

    def picture(self) -> str:
        """Return the losses as an SVG drawing, for where no script runs."""
        from automodel.run.report_chart import Line, chart
        from automodel.run.report_series import in_words, series, smoothed

        raw = series(self.run.metrics("train"), "loss", name="training loss")
        checks = series(self.run.metrics(self.drawn or MAIN), "loss", name="validation loss")
        lines = [Line(raw, "am-line0 am-raw"), Line(smoothed(raw), "am-line0"), Line(checks, "am-line1", marks=True)]
        told = " ".join(in_words(curve, curve.name) for curve in (raw, checks) if curve.known)
        return chart(lines, title="Loss", description=told, identity=f"loss-{self.run.id}", star=checks.lowest, restarts=self.restarts())


def clock(seconds: Any) -> str:
    """Return a time of day, empty for none."""
    return datetime.fromtimestamp(float(seconds)).strftime("%H:%M:%S") if seconds else ""


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
