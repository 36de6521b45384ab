"""Split expressions: `train`, `train[:1000]`, `train[90%:]`, `train[-64:]`, and sums of them with `+`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from automodel.errors import DataError

_PART = re.compile(r"^(?P<name>\w[\w.\-]*)(?:\[(?P<slice>[^\[\]]*)\])?$")
_BOUND = re.compile(r"^(?P<value>-?\d+)(?P<percent>%)?$")
# Spellings of the same split, in folders of files.
ALIASES = {"val": "validation", "valid": "validation", "dev": "validation", "eval": "validation", "training": "train"}


@dataclass(frozen=True)
class Bound:
    """One end of a slice: a number of rows or per cent of them; negative counts from the end."""

    value: int
    percent: bool

    def row(self, count: int) -> int:
        """Return the row number in a split of `count` rows, inside 0..count."""
        # Both halves of train[:90%] and train[90%:] round the same way, so they never share or miss a row.
        number = round(count * self.value / 100) if self.percent else self.value
        return min(max(number + count if number < 0 else number, 0), count)


@dataclass(frozen=True)
class SplitPart:
    """One named split and the slice of it that is used."""

    name: str
    start: Bound | None = None
    stop: Bound | None = None

    def rows(self, count: int) -> range:
        """Return the row numbers used, of a split that has `count` rows."""
        return range(self.start.row(count) if self.start else 0, self.stop.row(count) if self.stop else count)


def _bound(text: str, whole: str) -> Bound | None:
    if not text:
        return None
    match = _BOUND.match(text)
    if match is None or (match["percent"] and abs(int(match["value"])) > 100):
        raise _error(whole)
    return Bound(int(match["value"]), bool(match["percent"]))


def _error(text: str) -> DataError:
    return DataError(
        "The split is not written in a form that can be read.",
        found=f"split: {text}",
        expected="train, train[:1000], train[90%:], train[-64:] or train[:10%]+validation",
        fix="correct `split` in the dataset section",
    )


def parse_split(text: str) -> list[SplitPart]:
    """Read a split expression; raises DataError when it cannot be read."""
    parts = []
    for piece in text.replace(" ", "").split("+"):
        match = _PART.match(piece)
        if match is None:
            raise _error(text)
        bounds = (match["slice"] if match["slice"] is not None else ":").split(":")
        if len(bounds) != 2:
            raise _error(text)
        parts.append(SplitPart(match["name"], _bound(bounds[0], text), _bound(bounds[1], text)))
    return parts
