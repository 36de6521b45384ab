"""The outline of a built model: its layers by kind, and the kernels that this machine would use. Works on meta, from shapes and names alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from automodel.auto import attention
from automodel.auto.parts import parameters_by_part
from automodel.kernels.choose import KernelRow, hf_rows
from automodel.kernels.liger import liger_reason

# What a layer mixes tokens with, and what it does to each token alone; the first that a layer has names it.
MIXERS = ("linear attention", "state space", "attention")
FEEDS = ("experts", "mlp", "shared experts")
_LAYER = re.compile(r"\.(\d+)\.")


@dataclass(frozen=True, kw_only=True)
class LayerKind:
    """Layers of one stack that are alike: their numbers, what they consist of, and the parameters of each."""

    stack: str
    numbers: tuple[int, ...]
    mixer: str
    feed: str
    parameters: int


def layer_kinds(model: nn.Module, named: Sequence[str] = ()) -> list[LayerKind]:
    """Return the layers of a model by kind, in the order in which the kinds first appear.

    Args:
        model: a built model, on meta or not.
        named: the `layer_types` of the config, where it has them; they tell sliding from full attention.
    """
    layers: dict[tuple[str, int], dict[str, int]] = {}
    for (name, _), (part, parameter) in zip(model.named_parameters(), parameters_by_part(model), strict=True):
        # The outermost number in a name is that of the layer; further ones are experts and the like.
        found = _LAYER.search(name)
        if found is not None and isinstance(model.get_submodule(name[: found.start()]), nn.ModuleList):
            parts = layers.setdefault((name[: found.start()], int(found.group(1))), {})
            parts[part] = parts.get(part, 0) + parameter.numel()
    kinds: dict[tuple[str, str, str, int], list[int]] = {}
    for (stack, number), parts in layers.items():
        mixer = next((part for part in MIXERS if part in parts), "")
        if mixer and not _is_tower(stack) and number < len(named):
            mixer = str(named[number]).replace("_", " ")
        feed = next((part for part in FEEDS if part in parts), "")
        kinds.setdefault((stack, mixer, feed, sum(parts.values())), []).append(number)
    return [
        LayerKind(stack=stack, numbers=tuple(numbers), mixer=mixer, feed=feed, parameters=count)
        for (stack, mixer, feed, count), numbers in kinds.items()
    ]


def kernels_here(model: Any, config: Any) -> list[KernelRow]:
    """Return the table of kernels as it would be on this machine: on its GPU where there is one, else on the CPU."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    spec = getattr(model, "spec", None)
    liger = liger_reason(str(config.model_type), device=device, native_class=type(model).__module__.startswith("transformers."))
    if spec is not None:
        from automodel.auto.native.rows import attention_row, native_rows

        return [attention_row(spec, device=device, config=config, dtype=config.dtype), *native_rows(spec, device=device, liger=liger, asked={})]
    name = attention.default(config=config, device=device, dtype=config.dtype)
    return [attention.row(name, {}, config=config, device=device, dtype=config.dtype), *hf_rows(model, device=device, liger=liger, asked={})]


def layer_types(config: Mapping[str, Any]) -> list[str]:
    """Return the kinds of the layers as a config names them, or nothing."""
    found = config.get("layer_types")
    return [str(kind) for kind in found] if isinstance(found, (list, tuple)) else []


def _is_tower(stack: str) -> bool:
    return any(word in stack for word in ("vision", "visual", "audio", "image"))
