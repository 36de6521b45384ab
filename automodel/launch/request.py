"""From what a caller hands over (recipe, dict or path) to a recipe, its text, and the facts a run folder is named by."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from automodel.run.folder import RunFolder

if TYPE_CHECKING:
    from typing import TypeAlias

    from automodel.recipe import Recipe

RecipeLike: TypeAlias = Union["Recipe", dict[str, Any], str, Path]


@dataclass(frozen=True)
class Request:
    """A recipe with what the user wrote, the command that asked for it, and what was warned about."""

    recipe: Recipe
    user_yaml: str
    command: tuple[str, ...]
    allow_targets: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def model_name(self) -> str:
        """Return the short name of the model for the run folder."""
        model = self.recipe.model
        config = model.config.get("model_type", "random") if isinstance(model.config, dict) else model.config
        return Path(str(model.pretrained_model_name_or_path or config or "model")).name

    def create_folder(self, root: Path | str | None, *, launch: dict[str, Any]) -> RunFolder:
        """Make the run folder of this request and note the warnings in its events.

        The working folder is kept too: relative paths in the recipe mean the same when the run is resumed from elsewhere.
        """
        more = {"allow_targets": list(self.allow_targets), "stop_grace_seconds": self.recipe.run.stop_grace_seconds, "cwd": os.getcwd()}
        folder = RunFolder.create(
            root or self.recipe.run.folder,
            recipe_yaml=self.recipe.to_yaml(only_set=False),
            user_yaml=self.user_yaml,
            command=list(self.command),
            model=self.model_name,
            task=self.recipe.task,
            name=self.recipe.run.name,
            launch={**launch, **more},
            checkpoints_dir=_absolute(self.recipe.checkpoint.checkpoint_dir),
        )
        for text in self.warnings:
            folder.event("warning", text=text)
        return folder


def as_request(
    recipe: RecipeLike,
    *,
    overrides: Sequence[str] = (),
    allow_targets: Sequence[str] = (),
    default_recipe: str | None = None,
    command: Sequence[str] | None = None,
) -> Request:
    """Read a recipe from a `Recipe`, a dict of its sections, or the path of a YAML file.

    Raises:
        RecipeError: it is not valid.
    """
    from automodel.recipe import Recipe, as_loaded, own_targets

    words = tuple(sys.argv if command is None else command)
    if isinstance(recipe, Recipe) and not overrides:
        return Request(recipe, user_yaml=recipe.to_yaml(), command=words, allow_targets=tuple(own_targets(recipe)))
    loaded = as_loaded(recipe, overrides=overrides, allow_targets=allow_targets, default_recipe=default_recipe)
    texts = tuple(str(one) for one in loaded.warnings)
    return Request(loaded.recipe, user_yaml=loaded.user_yaml, command=words, allow_targets=tuple(own_targets(loaded.recipe)), warnings=texts)


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).expanduser().resolve())
