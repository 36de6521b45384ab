"""Reading a checkpoint straight into a model: planned first, then piece by piece, with no second copy of anything.

A tensor that is on disk exactly as the model wants it is mapped where that is possible (`mapping`), for a whole model in no time; anything else
is copied through views of the file in pieces of a few megabytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from automodel.weights.fill import Goal, ShardOf, fill
from automodel.weights.layout import DTYPES
from automodel.weights.plan import Plan, plan_load
from automodel.weights.rules import Rule
from automodel.weights.source import Place, open_source


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What a load did.

    Args:
        source: name of the checkpoint.
        bytes_read: bytes that were copied from files.
        bytes_mapped: bytes that the model now has in common with files.
        dropped: name on disk -> why nothing took it.
        fresh: built names that the checkpoint did not have, as allowed; they are left as they were.
        ties: built name -> the built name whose tensor it shares.
        plan: the plan that was followed.
    """

    source: str
    bytes_read: int
    bytes_mapped: int
    dropped: Mapping[str, str]
    fresh: tuple[str, ...]
    ties: Mapping[str, str]
    plan: Plan


@dataclass(frozen=True)
class _Held:
    """A tensor of the model and the place where it is held."""

    tensor: Tensor
    module: nn.Module
    leaf: str

    def place(self, tensor: Tensor) -> None:
        """Hold another tensor in this place."""
        kind = self.module._parameters if self.leaf in self.module._parameters else self.module._buffers
        kind[self.leaf] = tensor  # type: ignore[assignment]  # a parameter where there was one


def load_into(
    model: nn.Module,
    source: Place | Iterable[Place],
    rules: Iterable[Rule],
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    base: str = "",
    fresh: Callable[[str], bool] | None = None,
    shard_of: ShardOf | None = None,
    check: bool = False,
    mapped: bool | None = None,
) -> Loaded:
    """Fill every parameter and saved buffer of a model from a checkpoint.

    Tensors on "meta" are made on `device` in `dtype`, one after the other as they are read; others are filled in place. Two names of one tensor
    stay two names of one tensor.

    Args:
        model: any module; for a decoder the rules are those of `decoder_rules`.
        source: a model folder, a safetensors file, or several.
        rules: the rules of the checkpoint.
        device: where tensors go that are on "meta"; None is the CPU.
        dtype: number type of floating tensors that are on "meta"; None keeps the model's.
        base: path of the part of the model that some checkpoints hold alone.
        fresh: says which tensors of the model the checkpoint need not have.
        shard_of: (name, whole shape) -> the box of a tensor that this process holds, or None for all of it; only its bytes are read. A tensor
            with `to_local()` is filled through that.
        check: refuse numbers that are not finite.
        mapped: let tensors on the CPU be the bytes of the file, copied when first written; the files must then not be overwritten in place.
            None does so for checkpoints from 64 MiB on.

    Raises:
        ModelError: the checkpoint and the model do not fit, a file is damaged, or `check` found something; the message names the tensor.
    """
    rules = tuple(rules)
    opened = open_source(source)
    held, ties = _tensors_of(model, rules)
    shapes = {name: tuple(one.tensor.shape) for name, one in held.items()}
    plan = plan_load(rules, opened.tensors, shapes, ties=ties, base=base, fresh=fresh, where=opened.name)
    goal = Goal(
        shapes=shapes,
        dtypes={name: _wanted(one.tensor, dtype) for name, one in held.items()},
        tensors={name: _local(one.tensor) for name, one in held.items() if not one.tensor.is_meta},
        device=torch.device(device or "cpu"),
        shard_of=shard_of,
    )
    done = fill(opened, plan, goal, check=check, mapped=mapped)
    final = {
        name: one.tensor if not one.tensor.is_meta else _as_held(one.tensor, goal.tensors[name]) for name, one in held.items() if name in goal.tensors
    }
    for name, one in held.items():
        first = final.get(plan.ties.get(name, name))
        if first is not None and first is not one.tensor:
            one.place(first)
    return Loaded(
        source=opened.name,
        bytes_read=done.bytes_read,
        bytes_mapped=done.bytes_mapped,
        dropped=plan.dropped,
        fresh=plan.fresh,
        ties=plan.ties,
        plan=plan,
    )


def read_state(
    source: Place | Iterable[Place],
    rules: Iterable[Rule],
    shapes: Mapping[str, tuple[int, ...]],
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    base: str = "",
    shard_of: ShardOf | None = None,
    check: bool = False,
) -> dict[str, Tensor]:
    """Return a checkpoint as a state dict with the names and shapes of a model, without having the model.

    The arguments are those of `load_into`; `dtype` None keeps the number types of the disk. Tied names share one tensor.
    """
    opened = open_source(source)
    plan = plan_load(rules, opened.tensors, shapes, base=base, where=opened.name)
    dtypes = {piece.built: DTYPES[opened.tensors[piece.disk].dtype] for piece in plan.pieces}
    if dtype is not None:
        dtypes = {name: dtype if held.is_floating_point else held for name, held in dtypes.items()}
    goal = Goal(shapes=shapes, dtypes=dtypes, tensors={}, device=torch.device(device), shard_of=shard_of)
    fill(opened, plan, goal, check=check, mapped=False)
    return {name: goal.tensors[plan.ties.get(name, name)] for name in shapes}


def _tensors_of(model: nn.Module, rules: tuple[Rule, ...]) -> tuple[dict[str, _Held], dict[str, str]]:
    """Return parameters and saved buffers by name, and name -> first name for those that are one tensor."""
    held: dict[str, _Held] = {}
    for path, module in model.named_modules():
        lasting = {leaf: tensor for leaf, tensor in module._buffers.items() if leaf not in module._non_persistent_buffers_set}
        for leaf, tensor in {**module._parameters, **lasting}.items():
            if tensor is not None:
                held[f"{path}.{leaf}" if path else leaf] = _Held(tensor, module, leaf)
    second = {rule.built[0] for rule in rules if rule.op == "tied"}
    first: dict[int, str] = {}
    for name in sorted(held, key=lambda name: name in second):
        first.setdefault(id(held[name].tensor), name)
    return held, {name: first[id(one.tensor)] for name, one in held.items() if first[id(one.tensor)] != name}


def _wanted(tensor: Tensor, dtype: torch.dtype | None) -> torch.dtype:
    return dtype if dtype is not None and tensor.is_meta and tensor.is_floating_point() else tensor.dtype


def _local(tensor: Tensor) -> Tensor:
    held = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return held.detach()


def _as_held(old: Tensor, new: Tensor) -> Tensor:
    """Return a tensor as the parameter or buffer that it replaces."""
    if not isinstance(old, nn.Parameter):
        return new
    made = nn.Parameter(new, requires_grad=old.requires_grad)
    made.__dict__.update(old.__dict__)
    return made
