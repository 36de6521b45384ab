"""The environment a CPU job starts with: threads that share the cores, and an allocator that reuses freed memory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

THREADS = "OMP_NUM_THREADS"
# Larger than any block or heap: nothing is mapped apart, nothing is given back. A training step frees and asks for the same large
# blocks again, and taking fresh pages from the system each time costs more than the arithmetic on them.
_NEVER = str(1 << 40)
_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": _NEVER, "MALLOC_TRIM_THRESHOLD_": _NEVER, "MALLOC_TOP_PAD_": str(64 << 20)}


def usable_cores() -> int:
    """Return how many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def cpu_environment(nproc: int, *, given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables to add for `nproc` processes on this machine; what the user has set is left alone."""
    present = os.environ if given is None else given
    wanted = {THREADS: str(max(1, usable_cores() // max(1, nproc)))}
    # Another allocator, or tunables of the user's own, are a choice that has been made.
    if "LD_PRELOAD" not in present and "GLIBC_TUNABLES" not in present:
        wanted |= _ALLOCATOR
    return {name: value for name, value in wanted.items() if name not in present}


def visible_gpus() -> int:
    """Return how many NVIDIA devices this process is likely to see, found without loading torch."""
    devices = [path for path in Path("/dev").glob("nvidia*") if path.name.removeprefix("nvidia").isdigit()]
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return len(devices)
    return min(len(devices), len([one for one in chosen.split(",") if one.strip() and one.strip() != "-1"]))


def hub_settings() -> dict[str, str]:
    """Return whether the hub is switched off by the environment, and where downloads are kept."""
    offline = os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "TRUE", "YES", "ON")
    return {"mode": "offline by HF_HUB_OFFLINE" if offline else "online", "cache": os.environ.get("HF_HOME", "~/.cache/huggingface")}
