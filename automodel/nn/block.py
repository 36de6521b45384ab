"""One decoder layer: attention and MLP, in sequence or side by side, with the norms before and after them.

B rows, T queries, N hidden width.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from automodel.nn.attention import Attention, LinearAttention
from automodel.nn.mla import LatentAttention
from automodel.nn.mlp import MLP
from automodel.nn.norm import Norm
from automodel.nn.view import View, attach, part
from automodel.spec import LayerSpec, Names, NormSpec


class Block(nn.Module):
    """A decoder layer as its spec says; see `LayerSpec` for the arithmetic.

    Args:
        spec: the layer.
        hidden: N.
        names: module names within a layer.
        index: place in the cache of the layer's attention.
    """

    def __init__(self, spec: LayerSpec, *, hidden: int, names: Names, index: int) -> None:
        super().__init__()
        self.spec, self.names = spec, names
        if spec.attention is not None:
            kind = spec.attention.kind
            if kind == "linear":
                attach(self, names.attention, LinearAttention(hidden=hidden, names=names))
            else:
                build = LatentAttention if kind == "mla" else Attention
                attach(self, names.attention, build(spec.attention, hidden=hidden, names=names, index=index))
            self._norms(hidden, (spec.pre_attention, names.pre_attention), (spec.post_attention, names.post_attention))
        if spec.mlp is not None:
            attach(self, names.mlp, MLP(spec.mlp, hidden=hidden, names=names))
            self._norms(hidden, (spec.pre_mlp, names.pre_mlp), (spec.post_mlp, names.post_mlp))

    def _norms(self, hidden: int, *pairs: tuple[NormSpec | None, str]) -> None:
        for spec, name in pairs:
            if spec is not None:
                attach(self, name, Norm(spec, hidden))

    def forward(self, x: Tensor, view: View) -> Tensor:
        """Map [B, T, N] to [B, T, N]."""
        if self.spec.block == "parallel":
            return self._parallel(x, view)
        spec, names = self.spec, self.names
        if spec.attention is not None:
            normed = self._norm(spec.pre_attention, names.pre_attention, x)
            out = self._norm(spec.post_attention, names.post_attention, part(self, names.attention)(normed, view))
            x = self._add(normed if spec.normed_residual else x, out)
        if spec.mlp is not None:
            normed = self._norm(spec.pre_mlp, names.pre_mlp, x)
            out = self._norm(spec.post_mlp, names.post_mlp, part(self, names.mlp)(normed))
            x = self._add(normed if spec.normed_residual else x, out)
        return x

    def _parallel(self, x: Tensor, view: View) -> Tensor:
        spec, names = self.spec, self.names
        # Without attention the norm that both would share is not there either.
        normed = self._norm(spec.pre_attention, names.pre_attention, x) if spec.attention is not None else x
        out = None
        if spec.attention is not None:
            out = self._norm(spec.post_attention, names.post_attention, part(self, names.attention)(normed, view))
        if spec.mlp is not None:
            inner = normed if spec.pre_mlp is None else self._norm(spec.pre_mlp, names.pre_mlp, x)
            fed = self._norm(spec.post_mlp, names.post_mlp, part(self, names.mlp)(inner))
            out = fed if out is None else out + fed
        return x if out is None else self._add(normed if spec.normed_residual else x, out)

    def _norm(self, spec: NormSpec | None, name: str, x: Tensor) -> Tensor:
        return x if spec is None else part(self, name)(x)

    def _add(self, x: Tensor, out: Tensor) -> Tensor:
        spec = self.spec
        if spec.dropout and self.training:
            out = F.dropout(out, spec.dropout)
        return x + out if spec.multiplier == 1.0 else x.add(out, alpha=spec.multiplier)
