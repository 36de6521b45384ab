"""Curves as they are drawn: made small without losing spikes, smoothed without crossing gaps, told in a sentence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from automodel.run.show import number

POINTS = 800
SMOOTHING = 0.6
TWIN_ROWS = 24
Point = tuple[float, float | None]


@dataclass(frozen=True)
class Series:
    """A named curve over steps; a point without a value is a gap (a loss that was no number stays one)."""

    name: str
    points: tuple[Point, ...]

    @property
    def known(self) -> list[tuple[float, float]]:
        """Return the points that have a value."""
        return [(x, y) for x, y in self.points if y is not None]

    @property
    def lowest(self) -> tuple[float, float] | None:
        """Return the point with the lowest value."""
        return min(self.known, key=lambda point: point[1], default=None)


def series(rows: Iterable[Mapping[str, Any]], key: str, *, name: str = "", scale: float = 1.0) -> Series:
    """Return one column of metrics rows over their steps, times `scale`; a step that was written again after a resume counts once."""
    found: dict[float, float | None] = {}
    for row in rows:
        if row.get("step") is not None and (row.get(key) is not None or key in (row.get("nonfinite") or ())):
            found[float(row["step"])] = None if row.get(key) is None else scale * float(row[key])
    return Series(name or key, tuple(sorted(found.items(), key=lambda point: point[0])))


def restarts(events: Iterable[Mapping[str, Any]]) -> list[float]:
    """Return the steps after which a run went on after a stop."""
    return [float(event["step"]) for event in events if event.get("kind") == "resumed" and event.get("step")]


def smoothed(curve: Series, weight: float = SMOOTHING) -> Series:
    """Return the exponential mean of a curve, corrected for its start; after a gap it starts anew.

    Args:
        curve: the curve.
        weight: share of the past, 0 (none) to below 1.
    """
    points: list[Point] = []
    mean = share = 0.0
    for x, y in curve.points:
        if y is None:
            mean = share = 0.0
            points.append((x, None))
            continue
        mean = weight * mean + (1 - weight) * y
        share = weight * share + (1 - weight)
        points.append((x, mean / share))
    return Series(curve.name, tuple(points))


def reduced(curve: Series, limit: int = POINTS) -> Series:
    """Return at most about `limit` points: the lowest and the highest of each stretch, the first, the last, and gaps."""
    if len(curve.points) <= limit:
        return curve
    width = -(-len(curve.points) // (limit // 2))
    kept: list[Point] = [curve.points[0]]
    for start in range(0, len(curve.points), width):
        part = curve.points[start : start + width]
        known = [point for point in part if point[1] is not None]
        gap = next((point for point in part if point[1] is None), None)
        ends = {min(known, key=_height), max(known, key=_height)} if known else set()
        kept += sorted({*ends, *((gap,) if gap else ())}, key=lambda point: point[0])
    kept.append(curve.points[-1])
    return Series(curve.name, tuple(dict.fromkeys(kept)))


def _height(point: Point) -> float:
    return 0.0 if point[1] is None else point[1]


def picked(steps: Sequence[float], limit: int = TWIN_ROWS) -> list[float]:
    """Return some of the steps, evenly, always the first and the last: the rows of a table beside a chart."""
    if len(steps) <= limit:
        return list(steps)
    places = {round(index * (len(steps) - 1) / (limit - 1)) for index in range(limit)}
    return [steps[place] for place in sorted(places)]


def plain(value: float | None) -> str:
    """Return a number as a reader expects it: thousands with commas, else four digits that matter."""
    return f"{value:,.0f}" if value is not None and 1e4 <= abs(value) < 1e15 else number(value)


def in_words(curve: Series, what: str) -> str:
    """Return a curve as a sentence: where it began, where it ended, its lowest point, its gaps."""
    known = curve.known
    if not known:
        return f"No {what} was recorded."
    first, last = known[0], known[-1]
    if len(known) == 1:
        return f"{what.capitalize()} {plain(last[1])} at step {last[0]:.0f}."
    gaps = len(curve.points) - len(known)
    if len({y for _, y in known}) == 1 and not gaps:
        return f"{what.capitalize()} stayed at {plain(last[1])}."
    went = "fell" if last[1] < first[1] else "rose" if last[1] > first[1] else "went"
    text = f"{what.capitalize()} {went} from {plain(first[1])} at step {first[0]:.0f} to {plain(last[1])} at step {last[0]:.0f}"
    low = curve.lowest
    text += f"; lowest {plain(low[1])} at step {low[0]:.0f}" if low and low[0] not in (first[0], last[0]) else ""
    return f"{text}; {gaps} values were not numbers." if gaps else f"{text}."
