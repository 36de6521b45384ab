"""Tensors that are the bytes of a file: mapped into memory, copied page by page when they are first written.

A mapped tensor costs nothing until it is looked at. Writing to it never changes the file. The file may be replaced or deleted afterwards, but not
overwritten in place or cut short: pages that were not looked at yet would then show that.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

PAGE = mmap.PAGESIZE
CAN_MAP = sys.platform.startswith("linux")


@dataclass(frozen=True, kw_only=True)
class Extent:
    """A run of bytes in a file."""

    path: Path
    start: int
    length: int


class Files:
    """Files that are open for reading, each mapped once; closed at the end of the `with`, while tensors made from them stay valid."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._stack = contextlib.ExitStack()
        self._open: dict[Path, int] = {}
        self._mapped: dict[Path, mmap.mmap] = {}
        self._reading: dict[Path, mmap.mmap] = {}

    def __enter__(self) -> Files:
        return self

    def __exit__(self, *_: object) -> None:
        self._mapped.clear()
        self._reading.clear()
        self._stack.close()

    def descriptor(self, path: Path) -> int:
        """Return a file descriptor that stays open until the end of the `with`."""
        with self._lock:
            if path not in self._open:
                number = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
                self._stack.callback(os.close, number)
                self._open[path] = number
            return self._open[path]

    def view(self, extent: Extent, dtype: torch.dtype) -> Tensor:
        """Return a run of bytes as a flat tensor that may be kept and written to."""
        if extent.path not in self._mapped:
            self._mapped[extent.path] = _private(self.descriptor(extent.path))
        return _tensor(self._mapped[extent.path], extent.start, extent.length, dtype)

    def look(self, extent: Extent, dtype: torch.dtype) -> Tensor:
        """Return a run of bytes as a flat tensor to read from, until the end of the `with`."""
        return _tensor(self._reader(extent.path), extent.start, extent.length, dtype)

    def done(self, extent: Extent) -> None:
        """Let go of the pages of a run of bytes that was looked at: they stay in the system's cache and no longer count as this process's."""
        if hasattr(mmap, "MADV_DONTNEED"):
            low = extent.start // PAGE * PAGE
            self._reader(extent.path).madvise(mmap.MADV_DONTNEED, low, extent.start + extent.length - low)

    def ahead(self, extent: Extent) -> None:
        """Tell the system that a run of bytes is read soon."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self.descriptor(extent.path), extent.start, extent.length, os.POSIX_FADV_WILLNEED)

    def _reader(self, path: Path) -> mmap.mmap:
        with self._lock:
            if path not in self._reading:
                self._reading[path] = _private(self.descriptor(path))
            return self._reading[path]

    def joined(self, extents: Sequence[Extent], dtype: torch.dtype) -> Tensor | None:
        """Return runs of bytes, one after the other, as one flat tensor like that of `view`, or None where that cannot be mapped.

        Whole pages can be put side by side; so the runs have to begin at the same place of a page as their predecessor ends. The page that two
        runs share is copied.
        """
        lead = extents[0].start % PAGE
        places, at = [], lead
        for extent in extents:
            if (extent.start - at) % PAGE or extent.length < PAGE:
                return None
            places.append(at)
            at += extent.length
        if lead % dtype.itemsize:
            return None
        region = mmap.mmap(-1, at, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        address = ctypes.addressof(ctypes.c_char.from_buffer(region))
        for index, (extent, place) in enumerate(zip(extents, places, strict=True)):
            shared = place % PAGE
            if not _map_over(address + place - shared, shared + extent.length, self.descriptor(extent.path), extent.start - shared):
                return None
            if index:
                before = extents[index - 1]
                tail = os.pread(self.descriptor(before.path), shared, before.start + before.length - shared)
                region[place - shared : place] = tail
        return _tensor(region, lead, at - lead, dtype)


def _private(descriptor: int) -> mmap.mmap:
    return mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY)


def _tensor(memory: mmap.mmap, start: int, length: int, dtype: torch.dtype) -> Tensor:
    # The tensor holds on to the mapping, which is undone with the last of its tensors.
    return torch.frombuffer(memory, dtype=dtype, count=length // dtype.itemsize, offset=start)


def _map_over(address: int, length: int, descriptor: int, start: int) -> bool:
    """Map a part of a file over memory that is already ours, privately."""
    call = ctypes.CDLL(None, use_errno=True).mmap
    call.restype = ctypes.c_void_p
    call.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64]
    fixed = 0x10  # MAP_FIXED, which the module mmap does not name; the same number on every Linux
    found = call(address, length, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | fixed, descriptor, start)
    return bool(found == address)


def whole_runs(extents: Sequence[Extent]) -> Iterator[Extent]:
    """Yield the runs of bytes with neighbours in the same file made one."""
    held: Extent | None = None
    for extent in extents:
        if held is not None and extent.path == held.path and extent.start == held.start + held.length:
            held = Extent(path=held.path, start=held.start, length=held.length + extent.length)
            continue
        if held is not None:
            yield held
        held = extent
    if held is not None:
        yield held
