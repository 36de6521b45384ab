"""Overrides: `--a.b.c value`, `--a.b.c=value`, `a.b.c=value`, and `--flag` for true."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from automodel.errors import RecipeError
from automodel.recipe.context import Context
from automodel.recipe.normalize import SHORT_KEYS
from automodel.recipe.problems import Path
from automodel.recipe.tree import flow


def parse_overrides(words: Sequence[str]) -> list[tuple[Path, Any, str]]:
    """Return path, value and flag of each override, in order.

    Raises:
        RecipeError: a word that is neither a flag nor the value of one, or a flag without a name.
    """
    found: list[tuple[Path, Any, str]] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if "=" in word and not word.startswith("-"):
            word = f"--{word}"  # from Python: a.b.c=value
        if not word.startswith("--") or len(word) == 2:
            raise RecipeError(
                "This is not an override.",
                found=word,
                expected="--section.key value, or --section.key=value",
                fix=f"did you mean --{word.lstrip('-')}?",
            )
        flag, equals, text = word.partition("=")
        if not equals and rest and not rest[0].startswith("--"):
            equals, text = "=", rest.pop(0)
        path = tuple(flag[2:].split("."))
        if not all(path):
            raise RecipeError("The name of an override has an empty part.", found=flag, expected="--section.key", fix="remove the extra dot")
        found.append((_canonical(path), flow(text, name=flag) if equals else True, flag))
    return found


def _canonical(path: tuple[str, ...]) -> Path:
    if path[0] == "validation_datasets" and len(path) > 1:
        return ("validation_dataset" if path[1] == "validation" else f"validation_dataset_{path[1]}", *path[2:])
    return path


def apply_overrides(data: dict[str, Any], overrides: Sequence[tuple[Path, Any, str]], ctx: Context) -> dict[str, Any]:
    """Return the recipe as written with the overrides set in it; the names may be NeMo's or the normal ones."""
    for path, value, flag in overrides:
        data = _set(data, path, value, path)
        ctx.flags[path] = flag
    return data


def _set(node: Any, path: Path, value: Any, whole: Path) -> Any:
    """Return a copy of the tree with one value set; a section written as one value becomes a map first."""
    if not path:
        return value
    key, rest = path[0], path[1:]
    if isinstance(node, list) and str(key).isdigit() and int(key) < len(node):
        return [_set(item, rest, value, whole) if number == int(key) else item for number, item in enumerate(node)]
    if not isinstance(node, dict):
        section = str(whole[0])
        short = SHORT_KEYS.get("dataset" if section.startswith("validation_dataset") else section)
        off = node is None or isinstance(node, bool | list) or str(node).lower() in ("none", "null", "")
        node = {short: node} if short and not off and len(whole) - len(path) == 1 else {}
    return {**node, key: _set(node.get(key), rest, value, whole)}
