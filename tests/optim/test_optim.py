"""Learning-rate shapes and parameter groups."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from automodel.errors import RecipeError
from automodel.optim import Schedule, build_optimizer
from automodel.recipe.schema import LrSchedulerSection, OptimizerSection


def schedule(style: str, **changes: object) -> Schedule:
    section = LrSchedulerSection(lr_decay_style=style, lr_warmup_steps=10, **changes)  # type: ignore[arg-type]
    return Schedule.build(OptimizerSection(lr=1.0), section, total_steps=100)


def test_without_a_section_the_rate_is_constant() -> None:
    plan = Schedule.build(OptimizerSection(lr=0.5), None, total_steps=10)
    assert [plan.at(step) for step in (0, 5, 50)] == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("style", ["constant", "linear", "cosine", "inverse-square-root", "WSD"])
def test_warm_up_rises_to_the_peak(style: str) -> None:
    plan = schedule(style)
    assert [plan.at(step) for step in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])


def test_ends() -> None:
    assert schedule("linear", min_lr=0.2).at(100) == pytest.approx(0.2)
    assert schedule("cosine").at(55) == pytest.approx(0.5)
    assert schedule("cosine", min_lr=0.1).at(1000) == pytest.approx(0.1)
    assert schedule("inverse-square-root").at(39) == pytest.approx(0.5)
    assert schedule("constant").at(99) == 1.0


def test_wsd_is_flat_then_falls() -> None:
    plan = schedule("WSD", wsd_decay_steps=20)
    assert plan.at(79) == 1.0
    assert plan.at(90) == pytest.approx(0.5)
    assert plan.at(100) == 0.0


def test_warmup_ratio() -> None:
    plan = Schedule.build(OptimizerSection(lr=1.0), LrSchedulerSection(warmup_ratio=0.1), total_steps=50)
    assert plan.warmup == 5


def model() -> nn.Module:
    return nn.ModuleDict({"body": nn.Linear(4, 4), "norm": nn.LayerNorm(4), "head": nn.Linear(4, 2)})


def test_biases_and_norms_get_no_weight_decay() -> None:
    optimizer = build_optimizer(model(), OptimizerSection(weight_decay=0.1))
    decay = {group["weight_decay"]: sum(p.numel() for p in group["params"]) for group in optimizer.param_groups}
    assert decay == {0.1: 16 + 8, 0.0: 4 + 8 + 2}


def test_overrides_scale_rate_and_follow_the_schedule() -> None:
    section = OptimizerSection(lr=1.0, param_group_overrides=[{"pattern": "head.*", "lr_mult": 0.1}])
    optimizer = build_optimizer(model(), section)
    Schedule(peak=0.5).apply(optimizer, 0)
    assert sorted({group["lr"] for group in optimizer.param_groups}) == [0.05, 0.5]


def test_an_override_that_matches_nothing_is_an_error() -> None:
    with pytest.raises(RecipeError, match=r"(?s)matches no trained parameter.*heads"):
        build_optimizer(model(), OptimizerSection(param_group_overrides=[{"pattern": "heads.*", "lr_mult": 0.1}]))


def test_nothing_to_train() -> None:
    frozen = model().requires_grad_(False)
    with pytest.raises(RecipeError, match="nothing to train"):
        build_optimizer(frozen, OptimizerSection())


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "adafactor", "adagrad", "rmsprop"])
def test_every_optimizer_moves_the_weights(name: str) -> None:
    torch.manual_seed(0)
    net = nn.Linear(4, 1)
    optimizer = build_optimizer(net, OptimizerSection(name=name, lr=0.1))  # type: ignore[arg-type]
    before = net.weight.detach().clone()
    net(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    assert not torch.equal(before, net.weight)
