"""The road from text to a validated recipe: parse, override, interpolate, normalise, validate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import Any, Literal, TypeVar

from automodel.errors import RecipeError
from automodel.recipe.context import Context, leaf_of
from automodel.recipe.interpolate import interpolate
from automodel.recipe.normalize import normalize
from automodel.recipe.overrides import apply_overrides, parse_overrides
from automodel.recipe.problems import Problem, RecipeProblems, nearest, problems_error
from automodel.recipe.sections import RecipeFields
from automodel.recipe.tree import MAX_BYTES, Tree, parse_text

Dialect = Literal["D1", "D2", "D3"]
R = TypeVar("R", bound=RecipeFields)


@dataclass
class Reading:
    """A recipe in the normal form, before it is validated, with all that is known of where it came from."""

    data: dict[str, Any]
    user: dict[str, Any]
    ctx: Context
    dialect: Dialect
    problems: list[Problem] = field(default_factory=list)


def read_file(path: str | FilePath) -> Tree:
    """Read a recipe file.

    Raises:
        RecipeError: no such file, not text, too large, or not a recipe.
    """
    file = FilePath(path)
    try:
        if file.stat().st_size > MAX_BYTES:
            raise RecipeError(
                f"{file} is too large for a recipe.",
                found=f"{file.stat().st_size:,} bytes",
                expected=f"at most {MAX_BYTES:,}",
                fix="name the right file",
            )
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise _missing(file) from error
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(
            "The recipe cannot be read.", found=f"{file}: {error}", expected="a readable YAML file in UTF-8", fix="name the right file"
        ) from error
    return parse_text(text, name=str(file))


def _missing(file: FilePath) -> RecipeError:
    folder = file.parent if file.parent.is_dir() else None
    names = [item.name for item in folder.glob("*.y*ml")] if folder else []
    best = nearest(file.name, names)
    fix = f"did you mean {file.parent / best}?" if best else "check the path; `automodel validate FILE` reads a recipe without running it"
    return RecipeError("There is no such recipe file.", found=str(file), expected="a YAML file", fix=fix)


def read_tree(tree: Tree, *, overrides: Sequence[str] = (), allow_targets: Sequence[str] = (), default_recipe: str | None = None) -> Reading:
    """Bring what was written into the normal form; problems are collected, not raised."""
    ctx = Context(tree.name, lines=tree.lines, allow=tuple(allow_targets))
    written = apply_overrides(tree.data, parse_overrides(overrides), ctx)
    filled = interpolate(written, problems=ctx.problems)
    data = normalize(filled, ctx, default_recipe=default_recipe)
    return Reading(data, written, ctx, dialect_of(written), ctx.problems)


def dialect_of(data: dict[str, Any]) -> Dialect:
    """Return which generation of recipe files this is: D1 managers, D2 strategy without recipe, D3 with recipe."""
    section = data.get("distributed")
    target = section.get("_target_") if isinstance(section, dict) else None
    if target is not None and leaf_of(str(target))[0].endswith("Manager"):
        return "D1"
    return "D3" if data.get("recipe") is not None else "D2"


def build(model: type[R], reading: Reading) -> R:
    """Validate what was read.

    Raises:
        RecipeError: one error that shows every problem with its line.
    """
    problems = list(reading.problems)
    built: R | None = None
    try:
        built = model(**reading.data)
    except RecipeProblems as error:
        problems += error.problems
    if problems or built is None:
        raise placed(problems, reading.ctx)
    return built


def placed(problems: Sequence[Problem], ctx: Context) -> RecipeProblems:
    """Return problems as one error, each with the file and line where the user wrote it."""
    marked = [replace(problem, where=problem.where or ctx.place(problem.path)) for problem in problems]
    ordered = sorted(marked, key=lambda problem: ctx.lines.get(ctx.written(problem.path), 0))
    return problems_error(ordered, source=ctx.source)
