"""How long a run is."""

from __future__ import annotations

import pytest

from automodel.recipe import Recipe
from automodel.train.state import Plan


@pytest.mark.parametrize(
    ("settings", "total", "epochs"),
    [({}, 10, 1), ({"num_epochs": 3}, 30, 3), ({"max_steps": 25}, 25, 3), ({"max_steps": 25, "num_epochs": 2}, 20, 2), ({"max_steps": 4}, 4, 1)],
)
def test_epochs_and_steps(settings: dict[str, int], total: int, epochs: int) -> None:
    recipe = Recipe(step_scheduler=settings)  # type: ignore[arg-type]
    plan = Plan.of(recipe, 10)
    assert (plan.total_steps, plan.epochs) == (total, epochs)
    again = Recipe.model_validate(recipe.model_dump(by_alias=True))
    assert Plan.of(again, 10) == plan  # what a resumed run reads back has every default written out
