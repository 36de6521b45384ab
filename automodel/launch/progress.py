"""Following a run from outside: its files become the same progress view that a foreground job shows."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from automodel.launch.signals import say, stop_on_signals
from automodel.run.files import LineReader
from automodel.run.reader import Run
from automodel.run.reporter import Reporter, make_reporter
from automodel.run.states import ACTIVE, FINAL, Status

_POLL_SECONDS = 0.2
_QUIET = {*ACTIVE, *FINAL, "launching", "allocator", "metrics"}


def follow(run: Run, *, stream: TextIO | None = None, stop_on_interrupt: bool = False, history: bool = True) -> Status:
    """Show a run until it ends and return its last status.

    With `stop_on_interrupt` Ctrl-C asks the job to save and stop (a second one discards and stops); without, Ctrl-C only ends the showing.
    """
    reporter = make_reporter(stream or sys.stderr)
    metrics, events = run.follow_metrics(), LineReader(run.path / "events.jsonl")
    if not history:
        metrics.read()
        events.read()
    try:
        if not stop_on_interrupt:
            return _watch(run, reporter, metrics, events)
        asked: list[str] = []

        def ask(name: str) -> None:
            asked.append(name)
            run.folder.request_stop(save=len(asked) == 1, by=name)
            say("stopping: the job saves at its next step (again: without saving)" if len(asked) == 1 else "stopping without saving")

        with stop_on_signals(ask, abort_on_second=False):
            return _watch(run, reporter, metrics, events)
    finally:
        reporter.close()


def _watch(run: Run, reporter: Reporter, metrics: LineReader, events: LineReader) -> Status:
    while True:
        status = run.status
        for record in events.read():
            if record["kind"] not in _QUIET:
                reporter.event(str(record["kind"]), str(record.get("text", "")))
        for row in metrics.read():
            if row.get("split", "train") == "train":
                reporter.step(row, status.total_steps)
            else:
                reporter.validation(row)
        if status.done:
            return status
        time.sleep(_POLL_SECONDS)
