"""Runs side by side: only the settings that differ, and how each came out."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from automodel.run.files import read_json
from automodel.run.reader import Run, attach
from automodel.run.show import duration, elapsed, number, progress

_MISSING = "-"


@dataclass(frozen=True)
class Comparison:
    """A table with a column for each run: settings that differ first, then the outcome; `figure()` draws their curves."""

    names: tuple[str, ...]
    settings: dict[str, tuple[str, ...]]
    outcome: dict[str, tuple[str, ...]]
    runs: tuple[Run, ...] = field(default=(), repr=False)

    def figure(self, column: str = "loss") -> Any:
        """Return a plotly figure of one column of the metrics of all runs; a run has the same colour in every figure.

        Raises:
            RequestError: plotly is not installed, or no run has the column.
        """
        from automodel.run.report_figure import figure

        return figure(*self.runs, column=column)

    def __str__(self) -> str:
        table = [("", self.names), *self.settings.items(), *self.outcome.items()]
        lines = [(label, *cells) for label, cells in table]
        widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
        return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)

    def _repr_html_(self) -> str:
        head = "".join(f"<th scope='col'>{escape(name)}</th>" for name in self.names)
        body = "".join(
            f"<tr><th scope='row' style='text-align:left'>{escape(label)}</th>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
            for label, cells in {**self.settings, **self.outcome}.items()
        )
        return f"<table><tr><th></th>{head}</tr>{body}</table>"

    def as_dict(self) -> dict[str, Any]:
        """Return the table for `--json`."""
        return {
            "runs": list(self.names),
            "settings": {key: list(cells) for key, cells in self.settings.items()},
            "outcome": {key: list(cells) for key, cells in self.outcome.items()},
        }


def compare(*runs: Run | str | Path, root: Path | str | None = None) -> Comparison:
    """Compare runs, given as `Run` or as anything `attach` takes."""
    chosen = [run if isinstance(run, Run) else attach(run, root) for run in runs]
    flat = [_flatten(_recipe(run)) for run in chosen]
    keys = dict.fromkeys(key for one in flat for key in one)
    settings = {key: tuple(one.get(key, _MISSING) for one in flat) for key in keys}
    different = {key: cells for key, cells in settings.items() if len(set(cells)) > 1}
    return Comparison(tuple(run.path.name for run in chosen), different, _outcomes(chosen), tuple(chosen))


def _outcomes(chosen: list[Run]) -> dict[str, tuple[str, ...]]:
    states = [run.status for run in chosen]
    validations = [[row["loss"] for row in run.metrics("validation") if row.get("loss") is not None] for run in chosen]
    packages = [(read_json(run.path / "environment.json") or {}).get("packages", {}) for run in chosen]
    table = {
        "state": tuple(status.state for status in states),
        "step": tuple(progress(status) for status in states),
        "loss": tuple(number(status.loss) for status in states),
        "best validation loss": tuple(number(min(found, default=None)) for found in validations),
        "time": tuple(duration(elapsed(status)) for status in states),
    }
    for name in ("torch", "transformers"):
        cells = tuple(str(one.get(name, _MISSING)) for one in packages)
        if len(set(cells)) > 1:
            table[name] = cells
    return table


def _recipe(run: Run) -> dict[str, Any]:
    from ruamel.yaml import YAML

    value = YAML(typ="safe", pure=True).load(run.folder.recipe_path.read_text(encoding="utf-8"))
    return value if isinstance(value, dict) else {}


def _flatten(value: Any, prefix: str = "") -> dict[str, str]:
    if isinstance(value, dict) and value:
        found: dict[str, str] = {}
        for key, inner in value.items():
            found.update(_flatten(inner, f"{prefix}.{key}" if prefix else str(key)))
        return found
    return {prefix: str(value)}
