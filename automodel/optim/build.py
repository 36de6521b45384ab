"""From the recipe's `optimizer` section to a torch optimizer with its parameter groups."""

from __future__ import annotations

import fnmatch
import importlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from automodel.errors import RecipeError

if TYPE_CHECKING:
    from automodel.recipe.schema import OptimizerSection

NO_DECAY_DIMS = 1


def build_optimizer(model: nn.Module, section: OptimizerSection) -> torch.optim.Optimizer:
    """Return the optimizer over the parameters that are trained; biases and norms get no weight decay.

    Raises:
        RecipeError: nothing is trained, or an override pattern matches no parameter.
    """
    groups = _groups([(name, p) for name, p in model.named_parameters() if p.requires_grad], section)
    if section.target:
        return _own(section)(groups, lr=section.lr, weight_decay=section.weight_decay, **section.kwargs)
    return _torch_optimizer(groups, section)


def nothing_to_train() -> RecipeError:
    """Return the error for a job of which every parameter is frozen."""
    return RecipeError(
        "There is nothing to train.",
        found="every parameter is frozen",
        expected="at least one trainable parameter",
        fix="remove `freeze_config` or give `peft`",
    )


def _groups(named: list[tuple[str, nn.Parameter]], section: OptimizerSection) -> list[dict[str, Any]]:
    if not named:
        raise nothing_to_train()
    buckets: dict[tuple[float, float], list[nn.Parameter]] = {}
    unused = {str(rule.get("pattern")) for rule in section.param_group_overrides}
    for name, parameter in named:
        lr_mult, wd_mult = 1.0, 1.0 if parameter.ndim > NO_DECAY_DIMS else 0.0
        for rule in section.param_group_overrides:
            if fnmatch.fnmatchcase(name, str(rule.get("pattern"))):
                unused.discard(str(rule["pattern"]))
                lr_mult, wd_mult = float(rule.get("lr_mult", lr_mult)), float(rule.get("wd_mult", wd_mult))
        buckets.setdefault((lr_mult, wd_mult), []).append(parameter)
    if unused:
        raise RecipeError(
            "A pattern of optimizer.param_group_overrides matches no trained parameter.",
            found=", ".join(sorted(unused)),
            expected=f"a glob over parameter names such as {named[0][0]}",
            fix="correct the pattern or remove the rule",
        )
    return [
        {"params": parameters, "lr": section.lr * lr_mult, "lr_mult": lr_mult, "weight_decay": section.weight_decay * wd_mult}
        for (lr_mult, wd_mult), parameters in buckets.items()
    ]


def _own(section: OptimizerSection) -> Callable[..., torch.optim.Optimizer]:
    module, _, attribute = str(section.target).rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise RecipeError(
            "The optimizer named by `_target_` cannot be imported.",
            found=f"{section.target} ({error})",
            expected="package.module.ClassName",
            fix="check the spelling, or use a short form such as `name: adamw`",
        ) from error
    built: Callable[..., torch.optim.Optimizer] = found
    return built


def _torch_optimizer(groups: Iterable[dict[str, Any]], section: OptimizerSection) -> torch.optim.Optimizer:
    speed: dict[str, Any] = {key: value for key, value in (("foreach", section.foreach), ("fused", section.fused)) if value is not None}
    adam: dict[str, Any] = {"lr": section.lr, "betas": section.betas, "eps": section.eps, "weight_decay": section.weight_decay}
    if section.name in ("adamw", "adam") and not speed:
        speed = {"fused": True}  # one pass over memory; torch has this kernel for CPU and CUDA
    if section.name == "adamw":
        return torch.optim.AdamW(groups, **adam, **speed)
    if section.name == "adam":
        return torch.optim.Adam(groups, **adam, **speed)
    if section.name == "adafactor":
        return torch.optim.Adafactor(groups, lr=section.lr, weight_decay=section.weight_decay)
    if section.name == "adagrad":
        return torch.optim.Adagrad(groups, lr=section.lr, eps=section.eps, weight_decay=section.weight_decay, **speed)
    if section.name == "rmsprop":
        return torch.optim.RMSprop(groups, lr=section.lr, eps=section.eps, momentum=section.momentum, weight_decay=section.weight_decay)
    return torch.optim.SGD(groups, lr=section.lr, momentum=section.momentum, weight_decay=section.weight_decay, **speed)
