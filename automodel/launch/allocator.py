"""Make the C allocator of this living process keep freed memory for the next step."""

from __future__ import annotations

import ctypes
import os
import sys

_MMAP_THRESHOLD, _TRIM_THRESHOLD, _TOP_PAD = -3, -1, -2
_NEVER = -1  # becomes the largest size
_PAD_BYTES = 64 << 20


def reuse_freed_memory() -> str | None:
    """Keep freed blocks in the heap instead of giving them back; returns None when done, else why it could not be.

    A variable set for the allocator by the user (or by the launcher) is left alone.
    """
    if sys.platform != "linux":
        return f"the system allocator of {sys.platform} has no such setting"
    taken = [name for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD") if name in os.environ]
    if taken:
        return f"already set by {', '.join(taken)}"
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return "this C library has no mallopt"
    refused = [name for name, value in ((_MMAP_THRESHOLD, _NEVER), (_TRIM_THRESHOLD, _NEVER), (_TOP_PAD, _PAD_BYTES)) if mallopt(name, value) != 1]
    return f"mallopt refused {refused}" if refused else None
