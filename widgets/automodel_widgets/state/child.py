"""Heavy work in a process of its own: it sends back what it finds, can be ended at any time, and takes its memory with it when it goes."""

from __future__ import annotations

import io
import re
import signal
import sys
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

Message = dict[str, Any]
Send = Callable[[Message], None]
_BAR = re.compile(r"(?P<what>[^\r\n|]*?):?\s*(?P<percent>\d{1,3})%\|")
_TERM_SECONDS = 2.0
HIDDEN = "(hidden)"


class Child:
    """A process that runs `work(send, *args)`; `read()` gives the messages that came since.

    The last message is always `{"kind": "end", "ok": ..., "peak": bytes or None}`. Before it, progress bars arrive as
    `{"kind": "progress", "what": ..., "share": ...}` and a failure as `{"kind": "error", "what": ..., "found": ..., "expected": ..., "fix": ...}`.

    Args:
        work: a function of a module, for it is named to the other process.
        args: go through a pipe, never over a command line.
        secrets: taken out of every error, and never out of the process otherwise.
    """

    def __init__(self, work: Callable[..., None], *args: Any, secrets: tuple[str, ...] = ()) -> None:
        # A fresh interpreter: a fork would inherit the threads of the kernel.
        context = get_context("spawn")
        self._here, there = context.Pipe(duplex=False)
        self._process = context.Process(target=_main, args=(there, work, args, tuple(one for one in secrets if one)), daemon=True)
        self._process.start()
        there.close()
        self._ended = False
        self.cancelled = False

    @property
    def pid(self) -> int | None:
        """The number of the process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Say whether the process is there; False means that its memory is free again."""
        return self._process.is_alive()

    @property
    def done(self) -> bool:
        """Say whether the last message was read."""
        return self._ended

    def read(self) -> list[Message]:
        """Return the messages that came since the last call; after the last one the process is gone."""
        found: list[Message] = []
        while not self._ended:
            try:
                if not self._here.poll():
                    break
                found.append(self._here.recv())
            except (EOFError, OSError):
                found += self._broken()
            self._ended = bool(found) and found[-1]["kind"] == "end"
        if self._ended:
            self._leave()
        return found

    def cancel(self) -> None:
        """End the process now."""
        self.cancelled = True
        self._leave(wait=0.0)

    def _broken(self) -> list[Message]:
        self._process.join(_TERM_SECONDS)
        code = self._process.exitcode
        end: Message = {"kind": "end", "ok": False, "peak": None}
        if self.cancelled:
            return [end]
        died = f"ended by signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        fix = "free some memory (other notebooks, a running job) and try again" if code == -signal.SIGKILL else "try again"
        return [{"kind": "error", "what": "The helper process ended without an answer.", "found": died, "expected": "", "fix": fix}, end]

    def _leave(self, wait: float = _TERM_SECONDS) -> None:
        self._process.join(wait)
        for end in (self._process.terminate, self._process.kill):
            if self._process.is_alive():
                end()
                self._process.join(_TERM_SECONDS)


class _Bars(io.TextIOBase):
    """Takes what libraries print to the error stream; their progress bars become messages, the rest is dropped."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._last: tuple[str, int] = ("", -1)

    def isatty(self) -> bool:
        # Progress bars are only drawn on a terminal.
        return True

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        for found in _BAR.finditer(text):
            shown = (found["what"].strip(), int(found["percent"]))
            if shown != self._last:
                self._last = shown
                self._send({"kind": "progress", "what": shown[0], "share": min(shown[1], 100) / 100})
        return len(text)


def _main(there: Connection, work: Callable[..., None], args: tuple[Any, ...], secrets: tuple[str, ...]) -> None:
    # Interrupting a cell reaches the whole process group; this work is ended by its own button.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stderr = sys.stdout = _Bars(there.send)
    ok = False
    try:
        work(there.send, *args)
        ok = True
    except Exception as error:  # noqa: BLE001  whatever it is, it is shown in the panel
        there.send(error_message(error, secrets))
    there.send({"kind": "end", "ok": ok, "peak": _peak()})
    there.close()


def error_message(error: Exception, secrets: tuple[str, ...] = ()) -> Message:
    """Return an error as a message in four parts, without the secrets."""
    from automodel.errors import AutomodelError

    if isinstance(error, AutomodelError):
        parts = error.as_dict()
    else:
        parts = {"what": f"{type(error).__name__}: {error}", "found": "", "expected": "", "fix": ""}
    for secret in secrets:
        parts = {name: text.replace(secret, HIDDEN) for name, text in parts.items()}
    return {"kind": "error", **parts}


def _peak() -> int:
    import resource

    # Linux counts in kilobytes, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
