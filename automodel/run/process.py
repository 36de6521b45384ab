"""Who a process is, and whether it still lives: a pid alone is reused, so its start time and the boot are checked too."""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ProcessIdentity:
    """One process of one boot of one host; `start` is in clock ticks on Linux and in seconds elsewhere."""

    pid: int
    start: float | None
    boot_id: str | None
    host: str
    namespace: str | None = None
    pgid: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as `run.json` and `status/rank-N.json` hold them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: dict[str, Any] | None) -> ProcessIdentity | None:
        """Read the fields back; None when there is no usable pid."""
        if not record or not isinstance(record.get("pid"), int):
            return None
        known: dict[str, Any] = {field.name: record.get(field.name) for field in fields(cls)}
        return cls(**known)


def identify(pid: int | None = None) -> ProcessIdentity:
    """Return the identity of a process, by default this one."""
    number = os.getpid() if pid is None else pid
    try:
        group: int | None = os.getpgid(number)
    except (OSError, AttributeError):
        group = None
    return ProcessIdentity(pid=number, start=_start_of(number), boot_id=_boot_id(), host=socket.gethostname(), namespace=_pid_namespace(), pgid=group)


def is_alive(who: ProcessIdentity | None) -> bool | None:
    """Say whether the process lives; None when it cannot be known from here (another host or container)."""
    if who is None:
        return False
    if who.host != socket.gethostname() or who.namespace != _pid_namespace():
        return None
    if who.boot_id != _boot_id():
        return False
    start = _start_of(who.pid)
    return start is not None and start == who.start


def signal_process(who: ProcessIdentity | None, number: int, *, group: bool = False) -> bool:
    """Send a signal when the process is certainly still the same one; returns whether it was sent."""
    if who is None or is_alive(who) is not True:
        return False
    try:
        if group and who.pgid == who.pid:
            os.killpg(who.pid, number)
        else:
            os.kill(who.pid, number)
    except ProcessLookupError:
        return False
    return True


def _start_of(pid: int) -> float | None:
    """Return the start time of a living process; None for a dead one or a zombie."""
    if sys.platform == "linux":
        try:
            text = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return None
        # The command name may hold spaces and brackets: the fields begin after the last one.
        rest = text.rpartition(")")[2].split()
        return None if rest[0] in "ZX" else float(rest[19])
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.Error:
        return None


def _boot_id() -> str | None:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def _pid_namespace() -> str | None:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return None
