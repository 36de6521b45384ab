"""Every recipe in the project loads, without a warning, and is stored under a name that the presets know."""

from __future__ import annotations

from pathlib import Path

import pytest

from automodel.recipe import load_recipe
from tests.house.source import ROOT, files

NOT_RECIPES = {"environment.yml"}
# Files of the older dialects stand in the tests to be converted; they may warn.
RECIPES = [path for path in files((".yaml", ".yml")) if path.name not in NOT_RECIPES and "bad" not in path.relative_to(ROOT).parts]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_recipe_is_valid(path: Path) -> None:
    loaded = load_recipe(path)
    if "tests" not in path.relative_to(ROOT).parts:
        assert not loaded.warnings, loaded.warnings


def test_the_examples_are_found() -> None:
    names = {path.name for path in RECIPES}
    assert {"sft_guide.yaml", "peft_guide.yaml"} <= names
