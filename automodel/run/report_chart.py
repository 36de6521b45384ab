"""A line chart as SVG, drawn here: it needs no script, prints, follows the reader's light or dark theme, and weighs a few kilobytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from automodel.run.report_series import Series, plain, reduced

LEFT, RIGHT, TOP, BOTTOM = 62, 14, 12, 40
ROOM = 0.08


@dataclass(frozen=True)
class Line:
    """How a series is drawn: `style` is a class of the style sheet (raw, main, check), `marks` puts a diamond on each point."""

    series: Series
    style: str
    marks: bool = False


@dataclass(frozen=True)
class _Scale:
    """From data to the drawing."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def chart(
    lines: Sequence[Line],
    *,
    title: str,
    description: str,
    identity: str,
    unit: str = "",
    width: int = 760,
    height: int = 300,
    star: tuple[float, float] | None = None,
    restarts: Sequence[float] = (),
) -> str:
    """Return a chart over steps as an SVG element.

    Args:
        lines: what is drawn, the first below.
        title: name of the chart for those who do not see it; `description` says what there is to see.
        identity: unique in the page.
        unit: of the vertical axis.
        width: of the drawing; on the page it takes the room there is.
        height: of the drawing.
        star: the best point.
        restarts: steps at which the run went on after a stop.
    """
    small = [Line(reduced(line.series), line.style, line.marks) for line in lines]
    known = [point for line in small for point in line.series.known]
    if not known:
        return ""
    xs, ys = [x for x, _ in known], [y for _, y in known]
    across = _Scale(*_range(xs, 0.0), LEFT, width - RIGHT)
    up = _Scale(*_range(ys, ROOM), height - BOTTOM, TOP)
    parts = [*_axes(across, up, width=width, height=height, unit=unit)]
    parts += [f'<line class="restart" x1="{across.at(x):.1f}" x2="{across.at(x):.1f}" y1="{TOP}" y2="{height - BOTTOM}"/>' for x in restarts]
    parts += [part for line in small for part in _line(line, across, up)]
    if star is not None:
        parts.append(f'<text class="star" x="{across.at(star[0]):.1f}" y="{up.at(star[1]) + 5:.1f}">★</text>')
    label = f'<title id="{identity}-t">{escape(title)}</title><desc id="{identity}-d">{escape(description)}</desc>'
    head = f'<svg viewBox="0 0 {width} {height}" role="img" aria-labelledby="{identity}-t {identity}-d" preserveAspectRatio="xMidYMid meet">'
    return head + label + "".join(parts) + "</svg>"


def _range(values: Sequence[float], room: float) -> tuple[float, float]:
    low, high = min(values), max(values)
    if low == high:
        return low - (abs(low) * 0.1 or 1.0), high + (abs(high) * 0.1 or 1.0)
    return low - room * (high - low), high + room * (high - low)


def ticks(low: float, high: float, count: int) -> list[float]:
    """Return round values inside a range: steps of 1, 2 or 5 times a power of ten."""
    raw = (high - low) / max(count, 1)
    power = 10 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(low / step)
    return [index * step for index in range(first, math.floor(high / step) + 1)]


def _axes(across: _Scale, up: _Scale, *, width: int, height: int, unit: str) -> list[str]:
    parts = []
    for value in ticks(up.low, up.high, max(4, height // 50)):
        y = up.at(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{width - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{escape(short(value))}</text>')
    whole = [value for value in ticks(across.low, across.high, max(4, width // 90)) if value == int(value)]
    for value in whole:
        x = across.at(value)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{height - BOTTOM}" y2="{height - BOTTOM + 4}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{height - BOTTOM + 17}" text-anchor="middle">{value:,.0f}</text>')
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{width - RIGHT}" y1="{height - BOTTOM}" y2="{height - BOTTOM}"/>')
    parts.append(f'<text class="tick" x="{(LEFT + width - RIGHT) / 2:.0f}" y="{height - 6}" text-anchor="middle">step</text>')
    if unit:
        middle = (TOP + height - BOTTOM) / 2
        turned = f'transform="rotate(-90 12 {middle:.0f})"'
        parts.append(f'<text class="tick" x="12" y="{middle:.0f}" text-anchor="middle" {turned}>{escape(unit)}</text>')
    return parts


def short(value: float) -> str:
    """Return a number of an axis: 12.5k, 3M, 1e-5."""
    size = abs(value)
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= limit:
            unit = 1e3 if letter == "k" else limit
            return f"{value / unit:.4g}{letter}"
    if value and size < 1e-3:
        mantissa, _, exponent = f"{value:.2e}".partition("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    return f"{round(value, 10):.4g}"


def _line(line: Line, across: _Scale, up: _Scale) -> list[str]:
    """Return the stretches between gaps as paths; a point alone between two gaps is a dot."""
    parts, stretch = [], []
    for x, y in (*line.series.points, (0.0, None)):
        if y is not None:
            stretch.append((across.at(x), up.at(y)))
            continue
        if len(stretch) > 1:
            way = "L".join(f"{px:.1f} {py:.1f}" for px, py in stretch)
            parts.append(f'<path class="{line.style}" d="M{way}"/>')
        elif stretch and not line.marks:
            parts.append(f'<circle class="{line.style} dot" cx="{stretch[0][0]:.1f}" cy="{stretch[0][1]:.1f}" r="2.5"/>')
        stretch = []
    if line.marks:
        for x, y in line.series.known:
            px, py = across.at(x), up.at(y)
            shape = f"M{px:.1f} {py - 5:.1f}l5 5l-5 5l-5 -5z"
            parts.append(f'<path class="{line.style} mark" d="{shape}"><title>{escape(line.series.name)} {plain(y)} at step {x:.0f}</title></path>')
    return parts
