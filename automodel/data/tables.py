"""Tables: rows as they lie in a source, each with the words that say where it stands."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Protocol

from automodel.errors import DataError

if TYPE_CHECKING:
    import pyarrow

Record = dict[str, Any]
_CHUNK = 1000


class Table(Protocol):
    """Rows that can be counted without being parsed, and parsed one by one."""

    def __len__(self) -> int: ...

    def take(self, rows: Sequence[int]) -> Iterator[tuple[str, Record]]:
        """Yield where the row stands (for messages) and its columns, for each row number asked for."""
        ...


def not_an_object(where: str, value: object) -> DataError:
    """Return the error for a row that is no JSON object."""
    return DataError(
        f"A row is not a JSON object ({where}).",
        found=f"{type(value).__name__}: {str(value)[:80]}",
        expected='an object with named columns, such as {"question": ..., "answer": ...}',
        fix="correct or delete that row",
    )


class RecordTable:
    """Rows that are parsed already: a JSON list, or the questions of a nested SQuAD file."""

    def __init__(self, source: str, records: Sequence[object], *, unit: str = "row") -> None:
        self._source, self._records, self._unit = source, records, unit

    def __len__(self) -> int:
        return len(self._records)

    def take(self, rows: Sequence[int]) -> Iterator[tuple[str, Record]]:
        """Yield place and columns of each row; raises DataError at a row that is no object."""
        for index in rows:
            where, record = f"{self._source}, {self._unit} {index + 1}", self._records[index]
            if not isinstance(record, dict):
                raise not_an_object(where, record)
            yield where, record


class LineTable:
    """The lines of a JSONL file, parsed when they are taken."""

    def __init__(self, source: str, data: bytes) -> None:
        self._source = source
        self._lines = [(number, line) for number, line in enumerate(data.split(b"\n"), start=1) if line.strip()]

    def __len__(self) -> int:
        return len(self._lines)

    def take(self, rows: Sequence[int]) -> Iterator[tuple[str, Record]]:
        """Yield place and columns of each row; raises DataError with the line number at a malformed one."""
        for index in rows:
            number, line = self._lines[index]
            where = f"{self._source}, line {number}"
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise malformed(where, line, error) from error
            if not isinstance(record, dict):
                raise not_an_object(where, record)
            yield where, record


def malformed(where: str, text: bytes, error: Exception) -> DataError:
    """Return the error for text that is no JSON; `where` holds file and line."""
    start = error.pos if isinstance(error, json.JSONDecodeError) else 0
    shown = text.decode("utf-8", "replace")[max(0, start - 40) : start + 40].strip()
    return DataError(
        f"The file is not valid JSON ({where}).",
        found=f"{_fault(error)}: ...{shown}...",
        expected="JSON in UTF-8: a list of objects, one object a line (JSONL), or nested SQuAD",
        fix="correct or delete that row; `python -m json.tool FILE` (with --json-lines for JSONL) finds the place too",
    )


def _fault(error: Exception) -> str:
    """Return what is wrong and in which column: the line that the JSON reader counts is that of the row, not of the file."""
    return f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)


class ArrowTable:
    """Rows of a parquet file or of a hub data set."""

    def __init__(self, source: str, table: pyarrow.Table) -> None:
        self._source, self._table = source, table

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def take(self, rows: Sequence[int]) -> Iterator[tuple[str, Record]]:
        """Yield place and columns of each row."""
        for start in range(0, len(rows), _CHUNK):
            wanted = list(rows[start : start + _CHUNK])
            for index, record in zip(wanted, self._table.take(wanted).to_pylist(), strict=True):
                yield f"{self._source}, row {index + 1}", record


class JoinedTable:
    """Several tables, one after the other."""

    def __init__(self, tables: Sequence[Table]) -> None:
        self._tables = tables
        self._starts = [0, *accumulate(len(table) for table in tables)]

    def __len__(self) -> int:
        return self._starts[-1]

    def take(self, rows: Sequence[int]) -> Iterator[tuple[str, Record]]:
        """Yield place and columns of each row."""
        run: list[int] = []
        current = 0
        for row in rows:
            home = bisect_right(self._starts, row) - 1
            if home != current and run:
                yield from self._tables[current].take(run)
                run = []
            current = home
            run.append(row - self._starts[home])
        if run:
            yield from self._tables[current].take(run)
