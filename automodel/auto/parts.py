"""What a built model consists of: its parameters by part, and how wide its activations are. Works on meta, from names and shapes alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from torch import nn

PARTS = (
    "embeddings",
    "attention",
    "linear attention",
    "state space",
    "mlp",
    "shared experts",
    "experts",
    "router",
    "norms",
    "head",
    "vision",
    "audio",
    "other",
)
# A word in the name of a module or of its class, looked for from the parameter outwards; the first that is found decides.
_WORDS = (
    ("norm", "norms"),
    ("embed", "embeddings"),
    ("router", "router"),
    ("shared_expert", "shared experts"),
    ("sharedexpert", "shared experts"),
    ("expert", "experts"),
    ("mamba", "state space"),
    ("ssm", "state space"),
    ("deltanet", "linear attention"),
    ("linear_attn", "linear attention"),
    ("attention", "attention"),
    ("attn", "attention"),
    ("selfoutput", "attention"),
    ("mlp", "mlp"),
    ("feed_forward", "mlp"),
    ("feedforward", "mlp"),
    ("ffn", "mlp"),
    ("intermediate", "mlp"),
    ("output", "mlp"),
    ("classifier", "head"),
)
_SENSES = (("vision", "vision"), ("visual", "vision"), ("image", "vision"), ("multi_modal", "vision"), ("audio", "audio"), ("speech", "audio"))
_HEAD_NAMES = ("lm_head", "score", "output_layer", "embed_out")


def count_parts(model: nn.Module) -> dict[str, int]:
    """Return the number of parameters of each part, largest unit first as in `PARTS`; the sum is exact, tied weights count once."""
    found: dict[str, int] = {}
    for part, parameter in parameters_by_part(model):
        found[part] = found.get(part, 0) + parameter.numel()
    return {part: found[part] for part in PARTS if part in found}


def parameters_by_part(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield every parameter with its part; layers that differ in their numbers only are looked at once."""
    known: dict[str, str] = {}
    for name, parameter in model.named_parameters():
        kind = re.sub(r"\.\d+(?=\.)", ".#", name)
        # Layers of one list may be of different classes, so the class of the innermost module counts, too.
        kind += type(model.get_submodule(name.rpartition(".")[0].rpartition(".")[0])).__name__
        if kind not in known:
            known[kind] = part_of(model, name)
        yield known[kind], parameter


def part_of(model: nn.Module, name: str) -> str:
    """Return the part that a parameter belongs to, by the names and classes of the modules around it."""
    path = name.rpartition(".")[0].split(".")
    for word, part in _SENSES:
        if any(word in step.lower() for step in path):
            return part
    around = [model.get_submodule(".".join(path[:depth])) for depth in range(len(path) + 1)]
    if path[-1] in _HEAD_NAMES or around[-1] is _head(model):
        return "head"
    if isinstance(around[-1], nn.Embedding):
        return "embeddings"
    if path[-1] == "gate":
        return "router"
    # One expert of a list may be a class of its own that is called an MLP.
    if any("expert" in step for step in path) and "norm" not in path[-1]:
        return "shared experts" if any("shared_expert" in step for step in path) else "experts"
    for step, module in zip(reversed(path), reversed(around[1:]), strict=True):
        for word, part in _WORDS:
            if word in step.lower() or word in type(module).__name__.lower():
                return part
    return "other"


def _head(model: Any) -> nn.Module | None:
    found = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    return found if isinstance(found, nn.Module) else None


def experts(config: Any) -> tuple[int, int] | None:
    """Return (experts a token uses, experts a layer has) by a config, or None for a model without experts."""
    text = config.get_text_config()
    names = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
    total = next((value for name in names if isinstance(value := getattr(text, name, None), int)), 0)
    used = next((value for name in ("num_experts_per_tok", "moe_k", "top_k_experts") if isinstance(value := getattr(text, name, None), int)), 0)
    return (used, total) if total > 1 and 0 < used <= total else None


def active_parameters(parts: dict[str, int], share: tuple[int, int] | None) -> int:
    """Return how many parameters work on one token: all but the experts that it does not use."""
    total = sum(parts.values())
    if share is None:
        return total
    used, held = share
    return total - parts.get("experts", 0) * (held - used) // held


def activation_width(model: nn.Module, config: Any) -> int:
    """Return about how many numbers the backward pass needs of the forward pass for one token, without the output layer.

    Each matrix of the body is counted with its input and its output: the inputs are kept for the gradients of the matrices, and norms,
    activation functions and attention between them keep about as much as the outputs. Of experts, those that a token uses.
    """
    share = experts(config)
    width = 0.0
    for part, parameter in parameters_by_part(model):
        if part in ("embeddings", "head") or parameter.dim() < 2:
            continue
        size = float(parameter.shape[-1] + parameter.shape[-2])
        if part == "experts" and share is not None:
            used, held = share
            size = size * used if parameter.dim() == 3 else size * used / held
        width += size
    return int(width)
