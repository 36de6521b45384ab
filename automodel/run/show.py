"""A run as one line, as text and as HTML."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from automodel.tables import facts_html, facts_text

if TYPE_CHECKING:
    from automodel.run.reader import Run
    from automodel.run.states import Status


def duration(seconds: float) -> str:
    """Return seconds as m:ss or h:mm:ss."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


def number(value: float | None) -> str:
    """Return a loss or a rate with four digits that matter, a dash for none."""
    return "-" if value is None else f"{value:.4g}"


def progress(status: Status) -> str:
    """Return `step/total` as far as it is known."""
    done = "-" if status.step is None else str(status.step)
    return done if status.total_steps is None else f"{done}/{status.total_steps}"


def elapsed(status: Status) -> float:
    """Return the seconds from creation to the end, or to now."""
    return (status.ended or time.time()) - status.created if status.created else 0.0


def rows(run: Run) -> list[tuple[str, str]]:
    """Return what a person wants to know first, as label and text."""
    status = run.status
    points = run.checkpoints
    table = [
        ("run", run.path.name),
        ("state", status.state + (f" ({status.reason})" if status.reason else "")),
        ("step", progress(status)),
        ("loss", number(status.loss)),
    ]
    if status.validation_loss is not None:
        table.append(("validation loss", number(status.validation_loss)))
    table.append(("time", duration(elapsed(status))))
    table.append(("processes", str(status.world_size or 1)))
    if points:
        best = next((point.path.name for point in points if point.best), None)
        table.append(("checkpoints", f"{len(points)}, newest {points[-1].path.name}" + (f", best {best}" if best else "")))
    table.append(("folder", str(run.path)))
    return table


def run_line(run: Run) -> str:
    """Return the run on one line."""
    status = run.status
    return f"<Run {run.path.name}: {status.state}, step {progress(status)}, loss {number(status.loss)}>"


def run_text(run: Run) -> str:
    """Return the run as a small table for a terminal."""
    return facts_text(rows(run))


def run_html(run: Run) -> str:
    """Return the run as a table that needs nothing from outside."""
    return facts_html(f"Run {run.id}", rows(run))
