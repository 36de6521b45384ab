"""Logits from hidden states.

Shapes: `..` leading dimensions, H hidden, V vocabulary.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from automodel.spec import HeadSpec


class Head(nn.Linear):
    """The last projection with everything a `HeadSpec` asks for.

    Args:
        spec: bias, multipliers, softcap, normalised rows, masked tokens.
        hidden: H.
        vocab: V.
    """

    def __init__(self, spec: HeadSpec, *, hidden: int, vocab: int) -> None:
        super().__init__(hidden, vocab, bias=spec.bias)
        self.spec = spec

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the logits [.., V] of hidden states [.., H]."""
        spec = self.spec
        if spec.divide_hidden != 1.0:
            hidden = hidden / spec.divide_hidden
        weight = F.normalize(self.weight) if spec.normalized else self.weight
        return finish(F.linear(hidden, weight, self.bias), spec)


def finish(logits: Tensor, spec: HeadSpec) -> Tensor:
    """Return logits [.., V] after the steps of the spec that follow the product: multiplier, softcap, masked tokens."""
    if spec.multiplier != 1.0:
        logits = logits * spec.multiplier
    if spec.softcap is not None:
        logits = torch.tanh(logits / spec.softcap) * spec.softcap
    if spec.masked:
        at = torch.tensor(spec.masked, device=logits.device)
        logits = logits.index_fill(-1, at, torch.finfo(logits.dtype).min)
    return logits
