"""Finished curves, of one run or of several, as a plotly figure; plotly comes with the extra `notebook`."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from automodel.errors import RequestError
from automodel.run.report_series import reduced, series, smoothed

if TYPE_CHECKING:
    from automodel.run.reader import Run

# Okabe and Ito: told apart by colour-blind readers, on light and dark; each run keeps its place, and so its colour, by its id.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#7A7A7A")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


def figure(*runs: Run, column: str = "loss") -> Any:
    """Return a plotly `go.Figure` of one column of the metrics over steps: training faint and smoothed, validation as diamonds, the best starred.

    Raises:
        RequestError: plotly is not installed, or there is no run.
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
    graph: Any = import_module("plotly.graph_objects")
    drawn = graph.Figure()
    for place, run in enumerate(runs):
        _add(graph, drawn, run, column, colour=COLOURS[place % len(COLOURS)], dash=DASHES[place % len(DASHES)], several=len(runs) > 1)
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
    drawn.update_xaxes(gridcolor="rgba(128,128,128,0.25)", zeroline=False)
    drawn.update_yaxes(gridcolor="rgba(128,128,128,0.25)", zeroline=False)
    return drawn


def _add(graph: Any, drawn: Any, run: Run, column: str, *, colour: str, dash: str, several: bool) -> None:
    rows = run.metrics()
    name = f"{run.path.name} " if several else ""
    raw = series([row for row in rows if row.get("split") == "train"], column)
    for curve, faint in ((reduced(raw), True), (reduced(smoothed(raw)), False)):
        xs, ys = [x for x, _ in curve.points], [y for _, y in curve.points]
        label = f"{name}training" + ("" if faint else ", smoothed")
        line = {"color": colour, "width": 1 if faint else 2, "dash": "solid" if faint else dash}
        drawn.add_trace(graph.Scatter(x=xs, y=ys, name=label, mode="lines", line=line, opacity=0.35 if faint else 1, connectgaps=False))
    for split in dict.fromkeys(str(row.get("split")) for row in rows if str(row.get("split")) != "train"):
        curve = series([row for row in rows if row.get("split") == split], column)
        if not curve.known:
            continue
        best = curve.lowest if column == "loss" else None
        marks = ["star" if best and x == best[0] else "diamond" for x, _ in curve.points]
        xs, ys = [x for x, _ in curve.points], [y for _, y in curve.points]
        marker = {"symbol": marks, "size": [13 if mark == "star" else 8 for mark in marks], "color": colour}
        drawn.add_trace(
            graph.Scatter(x=xs, y=ys, name=f"{name}{split}", mode="lines+markers", line={"color": colour, "width": 1, "dash": "dot"}, marker=marker)
        )


def figure_html(run: Run) -> str:
    """Return the loss of a run as plotly's figure with its script inside: no request, some megabytes."""
    drawn = figure(run)
    text: str = drawn.to_html(full_html=False, include_plotlyjs=True, config={"displaylogo": False, "responsive": True})
    return text
