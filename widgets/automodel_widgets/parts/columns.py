"""Rows of metrics as packed columns, as the chart in the browser reads them."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping
from typing import Any

TRAIN = ("step", "epoch", "tokens", "time", "loss", "grad_norm", "lr", "tokens_per_second", "memory_bytes")
CHECK = ("step", "epoch", "tokens", "time", "loss")
# 32 bits do not hold a clock or a count of tokens.
DOUBLES = ("tokens", "time")


class Columns:
    """Columns of numbers; what is missing or no number is NaN, which the chart draws as a gap."""

    def __init__(self, names: tuple[str, ...]) -> None:
        wide = [name for name in names if name in DOUBLES]
        self.names = (*wide, *(name for name in names if name not in DOUBLES))
        self._data = {name: array("d" if name in DOUBLES else "f") for name in self.names}

    def __len__(self) -> int:
        return len(self._data[self.names[0]])

    def __getitem__(self, name: str) -> array[float]:
        return self._data[name]

    def extend(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add rows."""
        for row in rows:
            for name in self.names:
                value = row.get(name)
                self._data[name].append(float(value) if isinstance(value, (int, float)) else float("nan"))

    def pack(self, start: int) -> bytes:
        """Return the rows from `start` on: column after column, the wide ones first."""
        return b"".join(self._data[name][start:].tobytes() for name in self.names)

    def thin(self, points: int) -> Columns:
        """Return at most about `points` rows: the smallest and the largest loss of each stretch, gaps, and the last row."""
        if len(self) <= points:
            return self
        made = Columns(self.names)
        for index in self._kept(points):
            for name in self.names:
                made._data[name].append(self._data[name][index])
        return made

    def _kept(self, points: int) -> list[int]:
        loss, size, kept = self._data["loss"], 2 * len(self) / points, set[int]()
        start = 0.0
        while start < len(self):
            stretch = range(int(start), min(len(self), int(start + size)))
            finite = [index for index in stretch if math.isfinite(loss[index])]
            if finite:
                kept |= {min(finite, key=loss.__getitem__), max(finite, key=loss.__getitem__)}
            kept |= {index for index in stretch[:1] if not math.isfinite(loss[index])}
            start += size
        return sorted(kept | {len(self) - 1})
