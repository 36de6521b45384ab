"""`automodel coverage`: which architectures have a native decoder, and what each is made of."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from automodel.cli.app import app
from automodel.cli.output import put_json, put_table, say


@app.command()
def coverage(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> int:
    """List the architectures that have a native decoder; every other model is served by its transformers class."""
    rows = [_row(name) for name in _names()]
    if as_json:
        put_json(rows)
        return 0
    head = ("architecture", "model_type", "attention", "positions", "norm", "mlp", "block")
    put_table(head, [tuple(str(row[name] or "") for name in head) for row in rows])
    say(f"{len(rows)} architectures; a column holds what the smallest test config of each uses")
    return 0


def _names() -> list[str]:
    from automodel.registry import ModelRegistry

    return list(ModelRegistry)


def _row(name: str) -> dict[str, Any]:
    from automodel.archs.abilities import capabilities_of, features
    from automodel.archs.config import Config
    from automodel.registry import ModelRegistry

    entry = ModelRegistry.get(name)
    row: dict[str, Any] = {"architecture": name, "model_type": entry.model_type, "also": list(entry.also), "source": entry.source}
    if entry.spec is None:
        return {**row, **dict.fromkeys(("attention", "positions", "norm", "mlp", "block"), "own class")}
    spec = entry.spec(Config({**(entry.config.fields if entry.config else {}), **entry.tiny}))
    return {**row, **features(spec), "unverified": entry.unverified, "capabilities": capabilities_of(spec).as_dict()}
