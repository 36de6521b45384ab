"""Small files that several processes share: atomic JSON, lines that are only appended, and a lock."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Record = dict[str, Any]


def write_text(path: Path, text: str, *, durable: bool = False) -> None:
    """Write a file in one step: a reader sees the old text or the new one, never a part.

    `durable` also waits until the disk has it, so that a power cut cannot leave an empty file.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with aside.open("w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            if durable:
                os.fsync(out.fileno())
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def write_json(path: Path, record: Record, *, durable: bool = False) -> None:
    """Write a JSON object in one step."""
    write_text(path, json.dumps(record, indent=1, ensure_ascii=False, default=str) + "\n", durable=durable)


def read_json(path: Path) -> Record | None:
    """Read a JSON object; None when the file is missing or does not hold one."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def finite(record: Record) -> Record:
    """Return the record with each non-finite number as None and its name listed under `nonfinite`."""
    bad = [key for key, value in record.items() if isinstance(value, float) and not math.isfinite(value)]
    if not bad:
        return record
    return {**record, **dict.fromkeys(bad), "nonfinite": bad}


def append_line(path: Path, record: Record) -> None:
    """Append one object as one line with a single write, so that readers and other writers never see two halves mixed."""
    data = (json.dumps(finite(record), ensure_ascii=False, default=str) + "\n").encode()
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, _after_torn_line(path) + data)
    finally:
        os.close(handle)


def _after_torn_line(path: Path) -> bytes:
    """Return a newline when the last writer was killed in the middle of a line, else nothing."""
    with path.open("rb") as src:
        if src.seek(0, os.SEEK_END) == 0:
            return b""
        src.seek(-1, os.SEEK_END)
        return b"" if src.read(1) == b"\n" else b"\n"


class LineReader:
    """Follow a file of JSON lines: each `read` returns the objects that are new.

    An unfinished last line is kept for the next call. When the file was cut or replaced (a resume does that) reading starts again at its
    beginning, and `restarts` counts it. Lines that are no JSON objects are left out.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.restarts = 0
        self._offset = 0
        self._rest = b""
        self._inode: int | None = None

    def read(self) -> list[Record]:
        """Return the objects written since the last call."""
        try:
            with self.path.open("rb") as src:
                self._notice_restart(os.fstat(src.fileno()))
                src.seek(self._offset)
                data = src.read()
        except FileNotFoundError:
            return []
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [record for line in lines if (record := _parse(line)) is not None]

    def _notice_restart(self, stat: os.stat_result) -> None:
        if self._inode is not None and (stat.st_ino != self._inode or stat.st_size < self._offset):
            self._offset, self._rest = 0, b""
            self.restarts += 1
        self._inode = stat.st_ino


def _parse(line: bytes) -> Record | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def read_lines(path: Path) -> list[Record]:
    """Return every complete object of a JSON lines file."""
    return LineReader(path).read()


def tail_text(path: Path, lines: int | None = None, *, block: int = 65536) -> str:
    """Return the last lines of a text file (all of it for None), reading only as much of the end as is needed."""
    try:
        with path.open("rb") as src:
            if lines is None:
                return src.read().decode("utf-8", "replace")
            end = src.seek(0, os.SEEK_END)
            data = b""
            while end > 0 and data.count(b"\n") <= lines:
                start = max(0, end - block)
                src.seek(start)
                data = src.read(end - start) + data
                end = start
    except FileNotFoundError:
        return ""
    kept = data.decode("utf-8", "replace").splitlines()[-lines:] if lines else []
    return "\n".join(kept) + ("\n" if kept else "")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock file while a file is read, changed and written back (no lock where the system has no flock)."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
