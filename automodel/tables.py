"""Small tables that look the same everywhere: facts and grids, as text for a terminal and as HTML for a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

Facts = Sequence[tuple[str, str]]
_LEFT = "style='text-align:left'"


def facts_text(facts: Facts, *, width: int = 17) -> str:
    """Return label and text on one line each; further lines of a text stand below its first."""
    gap = "\n" + " " * width
    return "\n".join(f"{label + ':' if label else '':<{width}}{gap.join(text.splitlines())}".rstrip() for label, text in facts)


def facts_html(caption: str, facts: Facts) -> str:
    """Return label and text as the rows of an HTML table that needs nothing from outside."""
    cells = "".join(f"<tr><th scope='row' {_LEFT}>{escape(label)}</th><td {_LEFT}>{_lines(text)}</td></tr>" for label, text in facts)
    return f"<table><caption>{escape(caption)}</caption>{cells}</table>"


def grid_text(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table with aligned columns."""
    lines = [tuple(head), *(tuple(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)


def grid_html(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table with a head line as HTML."""
    first = "".join(f"<th scope='col' {_LEFT}>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td {_LEFT}>{_lines(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><caption>{escape(caption)}</caption><tr>{first}</tr>{body}</table>"


def _lines(text: str) -> str:
    return "<br>".join(escape(line) for line in text.splitlines())


def size_text(count: float) -> str:
    """Return a number of bytes with the unit that suits it."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.2f} TB"
