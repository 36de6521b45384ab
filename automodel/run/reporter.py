"""Progress for a person: a bar with the time that is left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from automodel.run.show import duration, number

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Reporter(Protocol):
    """What a training loop (or a follower of its files) tells whoever watches."""

    def step(self, record: dict[str, Any], total_steps: int | None) -> None:
        """Take the metrics row of an optimizer step."""

    def validation(self, record: dict[str, Any]) -> None:
        """Take the metrics row of a validation."""

    def event(self, kind: str, text: str) -> None:
        """Take something else that happened, in words."""

    def close(self) -> None:
        """Give the terminal back."""


class Pace:
    """The time that is left, from the steps of this session only: steps before a resume took another session's time."""

    def __init__(self) -> None:
        self._first: tuple[int, float] | None = None

    def eta(self, step: int, total: int | None, *, now: float | None = None) -> float | None:
        """Return the seconds left; None before two steps were seen or when the end is not known."""
        moment = time.monotonic() if now is None else now
        if self._first is None:
            self._first = (step, moment)
        first, begun = self._first
        if total is None or step <= first:
            return None
        return (moment - begun) / (step - first) * (total - step)


def step_line(record: dict[str, Any], total: int | None, eta: float | None) -> str:
    """Return one step as `step 10/100 loss 2.31 lr 0.0001 1200 tok/s eta 0:42`."""
    step = record.get("step")
    parts = [f"step {step}" if total is None else f"step {step}/{total}", f"loss {number(record.get('loss'))}"]
    if record.get("lr") is not None:
        parts.append(f"lr {record['lr']:.3g}")
    if record.get("tokens_per_second") is not None:
        parts.append(f"{record['tokens_per_second']:.0f} tok/s")
    if eta is not None:
        parts.append(f"eta {duration(eta)}")
    return " ".join(parts)


def validation_line(record: dict[str, Any]) -> str:
    """Return one validation as a line."""
    return f"{record.get('split', 'validation')} at step {record.get('step')}: loss {number(record.get('loss'))}"


class NullReporter:
    """Says nothing: for ranks other than 0."""

    def step(self, record: dict[str, Any], total_steps: int | None) -> None:
        """Say nothing."""

    def validation(self, record: dict[str, Any]) -> None:
        """Say nothing."""

    def event(self, kind: str, text: str) -> None:
        """Say nothing."""

    def close(self) -> None:
        """Do nothing."""


class PlainReporter:
    """Writes lines: the first step, the last, and in between at most one every `every` seconds."""

    def __init__(self, stream: TextIO, *, every: float = 1.0) -> None:
        self._stream = stream
        self._every = every
        self._pace = Pace()
        self._written = float("-inf")

    def step(self, record: dict[str, Any], total_steps: int | None) -> None:
        """Write a line unless the last one is too young."""
        step, now = int(record["step"]), time.monotonic()
        eta = self._pace.eta(step, total_steps, now=now)
        if step == total_steps or now - self._written >= self._every:
            self._written = now
            self._say(step_line(record, total_steps, eta))

    def validation(self, record: dict[str, Any]) -> None:
        """Write a line."""
        self._say(validation_line(record))

    def event(self, kind: str, text: str) -> None:
        """Write a line."""
        self._say(f"{kind}: {text}" if text else kind)

    def close(self) -> None:
        """Flush."""
        self._stream.flush()

    def _say(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()


class RichReporter:
    """Draws a bar on a terminal; validations and events scroll by above it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._pace = Pace()
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def step(self, record: dict[str, Any], total_steps: int | None) -> None:
        """Move the bar."""
        step = int(record["step"])
        text = step_line({**record, "step": step}, total_steps, self._pace.eta(step, total_steps))
        if self._bar is None:
            self._open(total_steps)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=step, total=total_steps, text=text)

    def validation(self, record: dict[str, Any]) -> None:
        """Write a line above the bar."""
        self._say(validation_line(record))

    def event(self, kind: str, text: str) -> None:
        """Write a line above the bar."""
        self._say(f"{kind}: {text}" if text else kind)

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = self._task = None

    def _open(self, total: int | None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        columns = (BarColumn(bar_width=24), TextColumn("{task.fields[text]}", markup=False))
        self._bar = Progress(*columns, console=Console(file=self._stream), refresh_per_second=4)
        self._task = self._bar.add_task("training", total=total, text="")
        self._bar.start()

    def _say(self, line: str) -> None:
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False)
        else:
            self._stream.write(line + "\n")
            self._stream.flush()


def make_reporter(stream: TextIO) -> Reporter:
    """Return a bar for a terminal and plain lines for anything else."""
    return RichReporter(stream) if stream.isatty() else PlainReporter(stream)
