"""Finished curves, of one run or of several, as a plotly figure; plotly comes with the extra `notebook`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from zlib import crc32

from automodel.errors import RequestError
from automodel.run.report_series import Series, reduced, restarts, series, smoothed

if TYPE_CHECKING:
    from automodel.run.reader import Run

# Okabe and Ito: told apart by colour-blind readers, on light and dark. A run has its colour by its id: it is the same in every figure.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#7A7A7A")
DASHES = ("solid", "dash", "dashdot", "longdash", "longdashdot", "dot")
GRID = "rgba(128,128,128,0.25)"


def figure(*runs: Run, column: str = "loss") -> Any:
    """Return a plotly `go.Figure` of one column of the metrics over steps, training and validation on one axis.

    Training is faint and, smoothed, strong; validation has diamonds, its best value a star; a value that was no number is a gap, and a dotted
    upright line says where a run went on after a stop. Each run has a colour by its id and a dash of its own.

    Raises:
        RequestError: plotly is not installed, or there is no run, or none of them has the column.
    """
    if find_spec("plotly") is None:
        raise RequestError(
            "Plotly is not installed in this environment.",
            found="no package plotly",
            expected="plotly",
            fix="pip install 'automodel-workbench[notebook]'; the report without interactive=True needs none",
        )
    if not runs:
        raise RequestError("There is no run to draw.", expected="one run or more", fix="figure(run)")
    _check_column(runs, column)
    graph: Any = import_module("plotly.graph_objects")
    drawn = graph.Figure()
    for run, (colour, dash) in zip(runs, looks([run.id for run in runs]), strict=True):
        name = f"{run.path.name} " if len(runs) > 1 else ""
        for trace in _traces(run.metrics(), column, name=name, colour=colour, dash=dash):
            drawn.add_trace(graph.Scatter(**trace))
        for step in restarts(run.events()):
            drawn.add_vline(x=step, line={"color": colour, "width": 1, "dash": "dot"}, annotation_text=f"{name}went on after a stop")
    drawn.update_layout(
        template="none",
        xaxis_title="step",
        yaxis_title=column.replace("_", " "),
        hovermode="x unified",
        legend={"orientation": "h", "y": -0.2},
        margin={"l": 60, "r": 20, "t": 20, "b": 60},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": "#7a828c"},
        height=420,
    )
    drawn.update_xaxes(gridcolor=GRID, zeroline=False)
    drawn.update_yaxes(gridcolor=GRID, zeroline=False)
    return drawn


def looks(ids: Sequence[str]) -> list[tuple[str, str]]:
    """Return colour and dash of runs: the colour follows from the id alone, a dash is given twice only when all are taken."""
    found: list[tuple[str, str]] = []
    for name in ids:
        number = crc32(name.encode())
        turned = [DASHES[(number // len(COLOURS) + turn) % len(DASHES)] for turn in range(len(DASHES))]
        used = [dash for _, dash in found]
        dash = min(turned, key=used.count) if len(ids) > 1 else DASHES[0]
        found.append((COLOURS[number % len(COLOURS)], dash))
    return found


def _check_column(runs: Sequence[Run], column: str) -> None:
    known = {key for run in runs for row in run.metrics() for key, value in row.items() if isinstance(value, (int, float))}
    if known and column not in known:
        raise RequestError("No run has this column.", found=column, expected=", ".join(sorted(known - {"step", "time"})))


def _traces(rows: list[dict[str, Any]], column: str, *, name: str, colour: str, dash: str) -> Iterator[dict[str, Any]]:
    raw = series([row for row in rows if row.get("split") == "train"], column)
    for curve, faint in ((reduced(raw), True), (reduced(smoothed(raw)), False)):
        line = {"color": colour, "width": 1 if faint else 2, "dash": "solid" if faint else dash}
        label = f"{name}training" + ("" if faint else ", smoothed")
        yield {**_points(curve), "name": label, "mode": "lines", "line": line, "opacity": 0.35 if faint else 1, "connectgaps": False}
    for split in dict.fromkeys(str(row.get("split")) for row in rows if str(row.get("split")) != "train"):
        curve = series([row for row in rows if row.get("split") == split], column)
        if not curve.known:
            continue
        best = curve.lowest if column == "loss" else None
        marks = ["star" if best and x == best[0] else "diamond" for x, _ in curve.points]
        marker = {"symbol": marks, "size": [13 if mark == "star" else 8 for mark in marks], "color": colour}
        line = {"color": colour, "width": 1, "dash": dash}
        yield {**_points(curve), "name": f"{name}{split}", "mode": "lines+markers", "line": line, "marker": marker, "connectgaps": False}


def _points(curve: Series) -> dict[str, list[float | None]]:
    return {"x": [x for x, _ in curve.points], "y": [y for _, y in curve.points]}


def figure_html(run: Run) -> str:
    """Return the loss of a run as plotly's figure with its script inside: no request, some megabytes."""
    drawn = figure(run)
    text: str = drawn.to_html(full_html=False, include_plotlyjs=True, config={"displaylogo": False, "responsive": True})
    return text
