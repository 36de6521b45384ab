"""Fresh weights, as transformers draws them."""

from __future__ import annotations

from torch import nn

from automodel.nn.linear import FusedLinear, SliceLinear
from automodel.nn.norm import Norm
from automodel.spec import DecoderSpec


def init_weights(module: nn.Module, *, spec: DecoderSpec) -> None:
    """Draw the weights of a module and of everything below it."""
    for part in module.modules():
        init_module(part, spec=spec)


def init_module(module: nn.Module, *, spec: DecoderSpec) -> None:
    """Draw the weights that one module owns itself: normal(0, `init_std`) for matrices and tables, the identity for norms, 0 for biases.

    The functions of `torch.nn.init` are looked up when called: transformers guards loaded weights by replacing them.
    """
    if isinstance(module, SliceLinear):
        return
    if isinstance(module, nn.Linear | FusedLinear):
        nn.init.normal_(module.weight, mean=0.0, std=spec.init_std)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, mean=0.0, std=spec.init_std)
        if module.padding_idx is not None:
            nn.init.zeros_(module.weight[module.padding_idx])
    elif isinstance(module, Norm):
        module.reset_parameters()
