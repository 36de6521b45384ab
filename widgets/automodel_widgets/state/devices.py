"""What this machine has free now, and who uses it: cores and memory by psutil, GPUs by the driver's own tool; nothing here loads torch."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import psutil

_MIB = 1 << 20
_SECONDS = 5
VISIBLE = "CUDA_VISIBLE_DEVICES"
_GPUS = "index,uuid,name,memory.total,memory.free,utilization.gpu"
_USERS = "gpu_uuid,pid,process_name,used_memory"
# Processes smaller than this are no reason why memory is short.
_SMALL = 300 * _MIB
_SHOWN = 4
Ask = Callable[[Sequence[str]], str]


@dataclass(frozen=True)
class User:
    """A process on a device."""

    pid: int
    name: str
    bytes: int | None


@dataclass(frozen=True)
class Device:
    """A GPU, or the CPU with its memory; sizes in bytes, `busy` from 0 to 1."""

    name: str
    label: str
    total: int
    free: int
    busy: float | None = None
    users: tuple[User, ...] = ()

    @property
    def number(self) -> str:
        """Return the number that the driver gives a GPU."""
        return self.name.removeprefix("cuda:")


@dataclass(frozen=True)
class Machine:
    """The devices of this machine."""

    cpu: Device
    cores: int
    gpus: tuple[Device, ...] = field(default=())

    def only(self, names: Collection[str]) -> Machine:
        """Return the machine as a job sees it that may use these GPUs and no other."""
        return replace(self, gpus=tuple(device for device in self.gpus if device.name in names))

    @property
    def idle(self) -> tuple[str, ...]:
        """Return the names of the GPUs that nobody uses; of all when each is in use."""
        return tuple(device.name for device in self.gpus if not device.users) or tuple(device.name for device in self.gpus)

    def used_by(self, processes: int) -> tuple[Device, ...]:
        """Return the devices that so many processes of a job would use: one GPU each where there are enough, else the CPU."""
        return self.gpus[:processes] if len(self.gpus) >= processes else (self.cpu,)

    def free_for_each(self, processes: int) -> int:
        """Return the bytes that each process would have now."""
        used = self.used_by(processes)
        return min(device.free for device in used) if used[0] is not self.cpu else self.cpu.free // max(processes, 1)


def machine(ask: Ask | None = None, *, given: Mapping[str, str] | None = None) -> Machine:
    """Look at this machine: its processor, and the GPUs that this process may use; `given` is the environment that limits them."""
    return Machine(_cpu(), _cores(), _gpus(ask or _ask, (os.environ if given is None else given).get(VISIBLE)))


def size(count: float) -> str:
    """Return a size in words: 512 MB, 22.4 GB."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if abs(count) >= scale:
            shown = count / scale
            return f"{shown:.0f} {unit}" if shown >= 100 or unit == "MB" else f"{shown:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def _cpu() -> Device:
    memory = psutil.virtual_memory()
    busy = min(psutil.getloadavg()[0] / _cores(), 1.0)
    return Device("cpu", "CPU", int(memory.total), int(memory.available), busy, _largest())


def _largest() -> tuple[User, ...]:
    """Return the processes with most memory."""
    found = []
    for process in psutil.process_iter(("pid", "name", "memory_info")):
        held = process.info.get("memory_info")
        if held is not None and held.rss >= _SMALL:
            found.append(User(int(process.info["pid"]), str(process.info["name"]), int(held.rss)))
    return tuple(sorted(found, key=lambda user: -(user.bytes or 0))[:_SHOWN])


def _gpus(ask: Ask, visible: str | None) -> tuple[Device, ...]:
    # nvidia-smi lists every card of the machine, also those that a cluster keeps from this process.
    names = None if visible is None else [name.strip() for name in visible.split(",") if name.strip()]
    every = _rows(ask(["nvidia-smi", f"--query-gpu={_GPUS}", "--format=csv,noheader,nounits"]), 6)
    rows = [row for row in every if names is None or row[0] in names or any(row[1].startswith(name) for name in names if name.startswith("GPU-"))]
    if not rows:
        return ()
    users: dict[str, list[User]] = {}
    for uuid, pid, name, held in _rows(ask(["nvidia-smi", f"--query-compute-apps={_USERS}", "--format=csv,noheader,nounits"]), 4):
        if pid.isdigit():
            users.setdefault(uuid, []).append(User(int(pid), name.rpartition("/")[2], _bytes(held)))
    return tuple(
        Device(f"cuda:{index}", f"GPU {index}: {name}", _bytes(total) or 0, _bytes(free) or 0, _share(busy), tuple(users.get(uuid, ())))
        for index, uuid, name, total, free, busy in rows
    )


def _ask(words: Sequence[str]) -> str:
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""  # no driver, or one that does not answer: no GPU to be had
    return done.stdout if done.returncode == 0 else ""


def _rows(text: str, columns: int) -> list[list[str]]:
    rows = [[part.strip() for part in line.split(",")] for line in text.splitlines() if line.strip()]
    return [row for row in rows if len(row) == columns]


def _bytes(mebibytes: str) -> int | None:
    # "[N/A]" where the driver does not tell, as on a part of a GPU
    return int(float(mebibytes) * _MIB) if mebibytes.replace(".", "", 1).isdigit() else None


def _share(percent: str) -> float | None:
    return int(percent) / 100 if percent.isdigit() else None
