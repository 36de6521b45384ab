"""The watch over the loss."""

from __future__ import annotations

import math

from automodel.recipe.schema import GuardsSection
from automodel.train.guards import WARM, Guards


def test_nonfinite_names_the_value() -> None:
    guards = Guards(GuardsSection())
    assert guards.nonfinite(1.0, 2.0) is None
    assert guards.nonfinite(math.nan, 2.0) == "loss"
    assert guards.nonfinite(math.inf, math.nan) == "loss and grad_norm"


def test_spike_after_the_warm_phase_only_and_outside_the_mean() -> None:
    guards = Guards(GuardsSection(spike_factor=3.0))
    assert guards.spike(100.0) is None
    guards = Guards(GuardsSection(spike_factor=3.0))
    for _ in range(WARM):
        assert guards.spike(2.0) is None
    before = guards.mean
    assert guards.spike(7.0) == "loss 7 is 3.5 times its running mean 2"
    assert guards.mean == before


def test_early_stopping_counts_validations_without_gain() -> None:
    guards = Guards(GuardsSection.model_validate({"early_stopping": {"patience": 2, "min_delta": 0.1}}))
    assert [guards.exhausted(loss) is not None for loss in (2.0, 1.5, 1.45, 1.41)] == [False, False, False, True]


def test_state_travels() -> None:
    first, second = Guards(GuardsSection()), Guards(GuardsSection())
    for loss in (3.0, 2.0):
        first.spike(loss)
    second.load_state_dict(first.state_dict())
    assert second.state_dict() == first.state_dict()
