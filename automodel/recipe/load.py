"""Loading recipes: `load_recipe` for files, `recipe_from_dict` for maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from automodel.recipe.checks import completeness
from automodel.recipe.context import RecipeWarning
from automodel.recipe.dump import MASK, dump_yaml, masked
from automodel.recipe.problems import RecipeProblems, is_secret
from automodel.recipe.read import Dialect, Reading, build, placed, read_file, read_tree
from automodel.recipe.schema import Recipe
from automodel.recipe.sections import COMMANDS
from automodel.recipe.tree import Tree


@dataclass(frozen=True)
class LoadedRecipe:
    """A recipe with what reading it told.

    Attributes:
        recipe: the validated recipe, in the normal form.
        user: what the user wrote, overrides included, placeholders as written.
        warnings: what is read but has less effect than it seems to.
        dialect: generation of the file: D1, D2 or D3.
        reading: where each value stands, for messages about it later.
    """

    recipe: Recipe
    user: dict[str, Any]
    warnings: list[RecipeWarning]
    dialect: Dialect
    reading: Reading

    @property
    def user_yaml(self) -> str:
        """Return what the user wrote as YAML, secrets as stars."""
        return dump_yaml(masked(self.user))

    def check_complete(self) -> None:
        """Check that a job could start from the recipe; errors carry the file and line.

        Raises:
            RecipeError: no model or two, no data, no answer column.
        """
        if problems := completeness(self.recipe):
            raise self.placed(RecipeProblems("", problems=tuple(problems)))

    def placed(self, error: RecipeProblems) -> RecipeProblems:
        """Return an error about this recipe with the file and line of each problem."""
        return placed(error.problems, self.reading.ctx)


def load_recipe(
    path: str | Path, *, overrides: Sequence[str] = (), allow_targets: Sequence[str] = (), default_recipe: str | None = None
) -> LoadedRecipe:
    """Read a recipe file of any dialect; nothing that it names is imported.

    Args:
        path: YAML file.
        overrides: words of the command line: `--a.b.c value`, `--a.b.c=value`, `--flag`.
        allow_targets: dotted paths, or modules above them, that `_target_` may name beside the known ones.
        default_recipe: recipe class for a file that names none (`recipe_for` gives it).

    Raises:
        RecipeError: one error that shows every problem with its line.
    """
    return _load(read_file(path), overrides, allow_targets, default_recipe)


def recipe_from_dict(
    data: Mapping[str, Any], *, overrides: Sequence[str] = (), allow_targets: Sequence[str] = (), default_recipe: str | None = None
) -> LoadedRecipe:
    """Read a recipe from maps, in the same spellings that a file may have.

    Raises:
        RecipeError: one error that shows every problem.
    """
    return _load(Tree(dict(data)), overrides, allow_targets, default_recipe)


def as_loaded(
    recipe: Recipe | Mapping[str, Any] | str | Path,
    *,
    overrides: Sequence[str] = (),
    allow_targets: Sequence[str] = (),
    default_recipe: str | None = None,
) -> LoadedRecipe:
    """Read a recipe in whatever form it is handed over: a `Recipe` (to change it by overrides), its sections in a map, or a YAML file.

    Raises:
        RecipeError: one error that shows every problem.
    """
    if isinstance(recipe, Recipe):
        allow_targets = [*allow_targets, *own_targets(recipe)]
        recipe = recipe.model_dump(mode="json", by_alias=True, exclude_unset=True)
    if isinstance(recipe, Mapping):
        return recipe_from_dict(recipe, overrides=overrides, allow_targets=allow_targets, default_recipe=default_recipe)
    return load_recipe(recipe, overrides=overrides, allow_targets=allow_targets, default_recipe=default_recipe)


def recipe_for(command: str, domain: str) -> str | None:
    """Return the recipe class that `automodel COMMAND DOMAIN` means, or None."""
    return COMMANDS.get((command, domain))


def own_targets(recipe: Recipe) -> list[str]:
    """Return the dotted paths of the user's own callables in a recipe: the allow-list that reads it back."""
    sections = [recipe.model, recipe.loss_fn, recipe.optimizer, recipe.dataset, *recipe.validation_datasets.values()]
    return list(dict.fromkeys(section.target for section in sections if section.target))


def _load(tree: Tree, overrides: Sequence[str], allow_targets: Sequence[str], default_recipe: str | None) -> LoadedRecipe:
    reading = read_tree(tree, overrides=overrides, allow_targets=allow_targets, default_recipe=default_recipe)
    recipe = build(Recipe, reading)
    _warn_of_secrets(reading.user, reading)
    return LoadedRecipe(recipe, reading.user, reading.ctx.warnings, reading.dialect, reading)


def _warn_of_secrets(node: Any, reading: Reading, path: tuple[str | int, ...] = ()) -> None:
    for key, value in node.items() if isinstance(node, dict) else ():
        if is_secret(key) and isinstance(value, str) and masked(value, key) == MASK:
            reading.ctx.warn((*path, key), "holds a secret in the open; it is never written out, so a resumed run lacks it: use ${VARIABLE}")
        _warn_of_secrets(value, reading, (*path, key))
