"""The recipe room: what a job is asked to do, without torch."""

from __future__ import annotations

from automodel.recipe.built import features_not_built, not_built
from automodel.recipe.checks import check_complete, check_world
from automodel.recipe.context import RecipeWarning
from automodel.recipe.interpolate import reveal
from automodel.recipe.load import LoadedRecipe, as_loaded, load_recipe, own_targets, recipe_for, recipe_from_dict
from automodel.recipe.presets import list_presets, preset_path
from automodel.recipe.problems import Problem, RecipeProblems
from automodel.recipe.schema import RECIPES, Recipe

__all__ = [
    "RECIPES",
    "LoadedRecipe",
    "Problem",
    "Recipe",
    "RecipeProblems",
    "RecipeWarning",
    "as_loaded",
    "check_complete",
    "check_world",
    "features_not_built",
    "list_presets",
    "load_recipe",
    "not_built",
    "own_targets",
    "preset_path",
    "recipe_for",
    "recipe_from_dict",
    "reveal",
]
