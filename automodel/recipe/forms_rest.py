"""Normal form of the optimizer, schedule, loss, distributed, checkpoint and random-number sections."""

from __future__ import annotations

from typing import Any

from automodel.recipe.aliases import (
    CHECKPOINT_OPTIONS,
    DISTRIBUTED_IGNORED,
    DISTRIBUTED_OPTIONS,
    FUSED_FIELDS,
    FUSED_OPTIMIZERS,
    LOSSES,
    LR_SPELLINGS,
    LR_STYLES,
    MANAGERS,
    OPTIMIZERS,
    SCHEDULER_FIELDS_IN_OPTIMIZER,
    TORCH_DEFAULTS,
)
from automodel.recipe.context import KNOWN_ROOTS, NEMO, Context, leaf_of, own_callable, root_of, take_target
from automodel.recipe.forms_data import keep_options
from automodel.recipe.problems import Path, nearest
from automodel.recipe.sections import LossSection, OptimizerSection


def optimizer(section: dict[str, Any], ctx: Context, path: Path) -> dict[str, Any]:
    """Return an optimizer section with a `name`, or with the `target` of an allowed optimizer of the user's own."""
    target = take_target(section)
    if target is not None and ctx.overridden((*path, "name")):
        target = None
    for key in SCHEDULER_FIELDS_IN_OPTIMIZER:
        if key in section:
            ctx.warn((*path, key), "has no effect: it belongs to lr_scheduler")
            section.pop(key)
    if target is not None and root_of(target) == "torch" and leaf_of(target)[0] in OPTIMIZERS:
        section["name"], defaults = OPTIMIZERS[leaf_of(target)[0]]
        section.update({key: value for key, value in defaults.items() if section.get(key) is None})
    elif target is not None and root_of(target) in KNOWN_ROOTS and leaf_of(target)[0] in FUSED_OPTIMIZERS:
        _fused(section, ctx, path, target)
    elif target is not None:
        return _own_optimizer(section, ctx, path, target)
    ctx.rename(section, path, "learning_rate", "lr")
    for key, default in TORCH_DEFAULTS.items():
        if key in section and section[key] in (default, None):
            section.pop(key)
    return section


def _fused(section: dict[str, Any], ctx: Context, path: Path, target: str) -> None:
    name = FUSED_OPTIMIZERS[leaf_of(target)[0]]
    section["name"] = "adam" if section.get("adam_w_mode") is False else name
    dropped = [key for key in FUSED_FIELDS if section.pop(key, None) is not None]
    also = f"; without effect: {', '.join(dropped)}" if dropped else ""
    ctx.warn((*path, "_target_"), f"{leaf_of(target)[0]} is read as torch's {section['name']}{also}")


def _own_optimizer(section: dict[str, Any], ctx: Context, path: Path, target: str) -> dict[str, Any]:
    if not ctx.allowed(target):
        if root_of(target) == "torch":
            ctx.problem(
                (*path, "_target_"),
                "This torch optimizer has no short name here.",
                found=target,
                expected="one of " + ", ".join(f"torch.optim.{name}" for name in OPTIMIZERS),
                fix=f"choose one of these, or: --allow-target {target}",
            )
        else:
            ctx.refuse((*path, "_target_"), target)
    return own_callable(section, target, OptimizerSection)


def loss_fn(section: dict[str, Any], ctx: Context, path: Path) -> dict[str, Any]:
    """Return a loss section with a `name`."""
    target = take_target(section)
    if target is None or ctx.overridden((*path, "name")):
        return section
    kind = leaf_of(target)[0]
    if root_of(target) in KNOWN_ROOTS and kind in LOSSES:
        section["name"] = LOSSES[kind]
        return section
    if root_of(target) not in NEMO and not ctx.allowed(target):
        ctx.refuse((*path, "_target_"), target)
    return own_callable(section, target, LossSection)


def lr_scheduler(section: dict[str, Any], ctx: Context, path: Path) -> dict[str, Any]:
    """Return a schedule section with the normal names and the normal spelling of the shape."""
    take_target(section)
    for old, new in LR_SPELLINGS.items():
        ctx.rename(section, path, old, new)
    style = section.get("lr_decay_style")
    if isinstance(style, str):
        section["lr_decay_style"] = LR_STYLES.get(style.lower(), style)
    for key in ("start_wd", "end_wd", "wd_incr_steps", "wd_incr_style", "use_checkpoint_opt_param_scheduler", "override_opt_param_scheduler"):
        if section.pop(key, None) is not None:
            ctx.warn((*path, key), "has no effect: weight decay stays as optimizer.weight_decay says")
    return section


def distributed(section: dict[str, Any], ctx: Context, path: Path) -> dict[str, Any]:
    """Return a distributed section with a `strategy`; settings of single strategies are kept in `options`."""
    target = take_target(section)
    if target is not None and not ctx.overridden((*path, "strategy")):
        kind = leaf_of(target)[0]
        if root_of(target) not in NEMO or kind not in MANAGERS:
            best = nearest(kind, MANAGERS)
            ctx.problem(
                (*path, "_target_"),
                "This is no known way to split the work.",
                found=target,
                expected="strategy: fsdp2, ddp or megatron_fsdp",
                fix=f"did you mean {best}?" if best else "write `strategy: fsdp2`",
            )
        else:
            section["strategy"] = MANAGERS[kind]
            ctx.moved[(*path, "strategy")] = (*path, "_target_")
    strategy = section.get("strategy")
    if isinstance(strategy, str):
        section["strategy"] = strategy.lower()
    for key, reason in DISTRIBUTED_IGNORED.items():
        if section.pop(key, None) is not None:
            ctx.warn((*path, key), f"has no effect: {reason}")
    for key in ("pipeline", "moe"):
        if isinstance(section.get(key), dict):
            section[key] = ctx.plain(section[key], (*path, key))
    return keep_options(section, ctx, path, DISTRIBUTED_OPTIONS)


def checkpoint(section: dict[str, Any], ctx: Context, path: Path) -> dict[str, Any]:
    """Return a checkpoint section: safetensors is the only format written."""
    take_target(section)
    if section.get("model_save_format") == "torch_save":
        ctx.warn((*path, "model_save_format"), "torch_save is read as safetensors, which every tool loads and which holds no code")
        section["model_save_format"] = "safetensors"
    if section.get("best_metric_key") == "default":
        section["best_metric_key"] = "validation"
    return keep_options(section, ctx, path, CHECKPOINT_OPTIONS)


def step_scheduler(section: dict[str, Any], ctx: Context, path: Path) -> dict[str, Any]:
    """Return a step scheduler section."""
    take_target(section)
    if section.pop("loss_average_window_steps", None) is not None:
        ctx.warn((*path, "loss_average_window_steps"), "has no effect: every step's own loss is written, and viewers smooth it")
    signal = section.pop("preemption_signal", None)
    if signal is not None and str(signal).upper() != "SIGTERM":
        ctx.warn((*path, "preemption_signal"), "has no effect: SIGTERM and the run folder's stop request end a run")
    return section


def rng(section: dict[str, Any], ctx: Context, path: Path) -> dict[str, Any]:
    """Return a random-number section without its dotted path."""
    target = take_target(section)
    if target is not None and root_of(target) not in NEMO:
        ctx.refuse((*path, "_target_"), target)
    return section
