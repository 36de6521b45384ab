"""Work for `Child` in tests, and a child that answers at once from a list."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, ClassVar

from automodel.errors import RunError


def count(send: Callable[[dict[str, Any]], None], upto: int) -> None:
    for number in range(upto):
        send({"kind": "number", "number": number})


def bars(send: Callable[[dict[str, Any]], None]) -> None:
    from tqdm import tqdm

    print("this is dropped")
    with tqdm(total=4, desc="weights", file=sys.stderr, mininterval=0) as bar:
        for _ in range(4):
            bar.update(1)


def fails(send: Callable[[dict[str, Any]], None], secret: str) -> None:
    raise RunError("It broke.", found=f"with {secret}", fix="do something else")


def fails_plainly(send: Callable[[dict[str, Any]], None], secret: str) -> None:
    raise ValueError(f"bad {secret}")


def sleeps(send: Callable[[dict[str, Any]], None]) -> None:
    send({"kind": "asleep"})
    time.sleep(60)


def dies(send: Callable[[dict[str, Any]], None]) -> None:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


class FakeChild:
    """Stands in for `Child`: every message is there at once, and what it was started with is kept."""

    made: ClassVar[list[FakeChild]] = []
    answers: ClassVar[dict[str, list[dict[str, Any]]]] = {}

    def __init__(self, work: Callable[..., None], *args: Any, secrets: tuple[str, ...] = ()) -> None:
        self.work, self.args, self.secrets = work.__name__, args, secrets
        self.done, self.cancelled = False, False
        FakeChild.made.append(self)

    @property
    def alive(self) -> bool:
        return not self.done

    def read(self) -> list[dict[str, Any]]:
        if self.done:
            return []
        self.done = True
        ok = not self.cancelled
        return [*(self.answers.get(self.work, []) if ok else []), {"kind": "end", "ok": ok, "peak": 300_000_000}]

    def cancel(self) -> None:
        self.cancelled = True
