"""State dicts with the names of a checkpoint, brought into the built model by the rules of its architecture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor, nn

from automodel.weights.pieces import Piece
from automodel.weights.plan import Plan, plan_save
from automodel.weights.rules import Rule, marks, match


class Weights(Protocol):
    """A model whose weights are described by rules: those of `weight_root`, whose names in the model begin with `weight_prefix`."""

    weight_prefix: str

    def weight_root(self) -> nn.Module:
        """Return the module that the rules speak of."""

    def weight_rules(self) -> tuple[Rule, ...]:
        """Return the rules."""


def in_checkpoint_form(model: Weights, state: Mapping[str, Any]) -> bool:
    """Say whether a state dict has names or shapes of the checkpoint that the built model does not have; parts of a model are enough."""
    return _is_in_checkpoint_form(model, _own(model), state)


def rename_in_place(model: Weights, state: dict[str, Any], prefix: str) -> None:
    """Give tensors of a checkpoint that stand in a state dict under `prefix` the names and the layout of the built model.

    A part of the checkpoint is enough (one of several files): what is missing of a joined tensor keeps its present values.
    """
    own = _own(model)
    here = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    if not _is_in_checkpoint_form(model, own, here):
        return
    plan = _layout(model, own)
    by_built: dict[str, list[Piece]] = {}
    for piece in plan.pieces:
        if piece.disk in here:
            by_built.setdefault(piece.built, []).append(piece)
    for name in {piece.disk for pieces in by_built.values() for piece in pieces}:
        del state[prefix + name]
    for built, pieces in by_built.items():
        state[prefix + model.weight_prefix + built] = _joined(own[built], pieces, here)
    for second, first in plan.ties.items():
        if prefix + model.weight_prefix + first in state:
            state.setdefault(prefix + model.weight_prefix + second, state[prefix + model.weight_prefix + first])


def _is_in_checkpoint_form(model: Weights, own: Mapping[str, Tensor], state: Mapping[str, Any]) -> bool:
    built = {model.weight_prefix + name: _shape(tensor) for name, tensor in own.items()}
    if all(built.get(name) == _shape(value) for name, value in state.items()):
        return False
    held = _layout(model, own).disk
    return any(name in held and _shape(value) == tuple(held[name]) != built.get(name) for name, value in state.items())


def _joined(present: Tensor, pieces: list[Piece], found: Mapping[str, Tensor]) -> Tensor:
    first = pieces[0]
    if len(pieces) == 1 and not first.transposed and _shape(present) == _shape(found[first.disk]):
        return found[first.disk]
    whole = present.detach().clone()
    for piece in pieces:
        part = found[piece.disk][piece.disk_slices]
        part = part.mT if piece.transposed else part
        whole[piece.built_slices] = (part if piece.stacked is None else part.unsqueeze(piece.stacked)).to(whole)
    return whole


def _own(model: Weights) -> dict[str, Tensor]:
    """Return the weights that the rules speak of; adapters add others, and move some."""
    names = dict(model.weight_root().named_parameters(remove_duplicate=False))
    patterns = [pattern for rule in model.weight_rules() for pattern in rule.built]
    plain = {pattern for pattern in patterns if not marks(pattern)}
    marked = [pattern for pattern in patterns if marks(pattern)]
    return {name: tensor for name, tensor in names.items() if name in plain or any(match(pattern, name) is not None for pattern in marked)}


def _layout(model: Weights, own: Mapping[str, Tensor]) -> Plan:
    return plan_save(model.weight_rules(), {name: _shape(tensor) for name, tensor in own.items()})


def _shape(tensor: Any) -> tuple[int, ...]:
    return tuple(tensor.shape)
