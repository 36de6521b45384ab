"""The recipe reference: Markdown and JSON schema, both made from the schema itself."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from automodel.recipe.describe import expected_text, schema_of
from automodel.recipe.problems import section_of
from automodel.recipe.sections import RECIPES, RecipeFields

_HEAD = """# Recipe reference

Made from the schema by `python -m automodel.recipe.reference`; a test keeps the two equal.

A recipe is one YAML map of the sections below. Every section and every key may be left out. `none`, `null` and absent mean the same;
`1e-5` is a number; `${VAR}` and `${VAR:-default}` take values from the environment. Any key can be set on the command line:
`--section.key value` or `--section.key=value`. A section marked *off unless given* acts only when it is there.
"""


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a recipe in its normal form, with titles, defaults, units and effects: it drives the forms."""
    return schema_of(RecipeFields)


def recipe_reference() -> str:
    """Return the reference of every section and key as Markdown."""
    fields = RecipeFields.model_fields
    top = {name: info for name, info in fields.items() if section_of(info.annotation) is None}
    parts = [_HEAD, "## Top level\n", _table(RecipeFields, (), top), "Kinds of `recipe`:\n"]
    parts.append("\n".join(f"* `{name}`: {task}" for name, task in RECIPES.items()) + "\n")
    for name, info in fields.items():
        kind = section_of(info.annotation)
        if kind is not None:
            parts += _section(name, info, kind)
    return "\n".join(parts).rstrip() + "\n"


def _section(name: str, info: FieldInfo, kind: type[BaseModel]) -> list[str]:
    summary = " ".join((kind.__doc__ or "").split("\n\n")[0].split())
    off = " *Off unless given.*" if info.default is None else ""
    parts = [f"## `{name}`\n", f"{summary}{off}\n"]
    parts.append(_table(kind, (name,), kind.model_fields))
    if kind.model_config.get("extra") == "allow":
        parts.append("Other keys are kept as they are.\n")
    return parts


def _table(kind: type[BaseModel], path: tuple[str, ...], fields: dict[str, FieldInfo]) -> str:
    rows = ["| key | takes | default | effect |", "| --- | --- | --- | --- |"]
    for name, info in fields.items():
        key = info.alias or name
        words = expected_text(RecipeFields, (*path, key))
        cells = [f"`{key}`", words, _default(info), info.description or ""]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def _default(info: FieldInfo) -> str:
    value = info.get_default(call_default_factory=True)
    if value is None:
        return "none"
    if isinstance(value, BaseModel):
        return ""
    return f"`{json.dumps(value)}`" if not isinstance(value, str) else f"`{value}`"


if __name__ == "__main__":
    print(recipe_reference(), end="")
