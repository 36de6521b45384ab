"""`${VAR}` in recipes: values from the environment, and secrets that stay placeholders."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from automodel.errors import RecipeError
from automodel.recipe.problems import Path, Problem, dotted, is_secret
from automodel.recipe.tree import scalar

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
PLACEHOLDER = re.compile(r"(?P<escape>\$)?\$\{(?:oc\.env:)?(?P<name>" + _NAME + r")(?:(?::-|,)(?P<default>[^{}]*))?\}")


def interpolate(value: Any, *, problems: list[Problem], path: Path = (), environ: Mapping[str, str] | None = None) -> Any:
    """Return a value with its placeholders filled in; under a secret key they stay, so that no file ever holds the secret.

    `$${VAR}` stands for the text `${VAR}`. A value that is one placeholder takes the type of what it names.

    Args:
        value: any part of a recipe.
        problems: receives a problem for each variable that is neither set nor has a default.
        path: where the value stands.
        environ: variables; the process environment if absent.
    """
    variables = os.environ if environ is None else environ
    if isinstance(value, dict):
        return {key: interpolate(item, problems=problems, path=(*path, key), environ=variables) for key, item in value.items()}
    if isinstance(value, list):
        return [interpolate(item, problems=problems, path=(*path, number), environ=variables) for number, item in enumerate(value)]
    if not isinstance(value, str) or "${" not in value:
        return value

    def fill(match: re.Match[str]) -> str:
        if match["escape"]:
            return match[0][1:]
        text = variables.get(match["name"], match["default"])
        if text is None:
            problems.append(
                Problem(
                    path,
                    f"The environment variable {match['name']} is not set.",
                    found=f"{match[0]} in {dotted(path)}",
                    expected=f"{match['name']} in the environment",
                    fix=f"export {match['name']}=..., or give a default: ${{{match['name']}:-value}}",
                )
            )
            return match[0]
        return text.strip() if match["default"] is not None and match["name"] not in variables else text

    whole = PLACEHOLDER.fullmatch(value)
    filled = PLACEHOLDER.sub(fill, value)
    if is_secret(path[-1] if path else ""):
        return value
    return scalar(filled) if whole and not whole["escape"] else filled


def escape(text: str) -> str:
    """Return text in which `${VAR}` is no placeholder when it is read again."""
    return PLACEHOLDER.sub(lambda match: "$" + match[0], text)


def reveal(value: str) -> str:
    """Return a secret's value: its placeholders filled in at the moment of use.

    Raises:
        RecipeError: the variable is not set.
    """
    problems: list[Problem] = []
    filled = interpolate(value, problems=problems, path=("value",))
    if problems:
        raise RecipeError(problems[0].what, expected=problems[0].expected, fix=problems[0].fix)
    return str(filled)
