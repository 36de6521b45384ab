"""What Ctrl-C and SIGTERM mean to a job: stop and save at the next step; a second Ctrl-C breaks off at once."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_on_signals(ask: Callable[[str], None], *, abort_on_second: bool = True) -> Iterator[None]:
    """Call `ask(signal name)` at SIGINT and SIGTERM while the block runs; a second SIGINT raises KeyboardInterrupt.

    Outside the main thread (a notebook's worker thread) signals cannot be taken, and the block runs as it is.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    interrupts = 0

    def handle(number: int, _frame: FrameType | None) -> None:
        nonlocal interrupts
        if number == signal.SIGINT:
            interrupts += 1
            if interrupts > 1 and abort_on_second:
                raise KeyboardInterrupt
        ask(signal.Signals(number).name)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def say(text: str) -> None:
    """Write a line to stderr, flushed."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
