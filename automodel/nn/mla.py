"""Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434; MiniCPM3): keys and values are unfolded from one narrow latent.

B rows, T queries, S keys, N hidden width, H heads, R rank of the latent, P rotated and O unrotated width of a key, E width of a value.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from automodel.nn.attention import attend_in_view, cache_arguments
from automodel.nn.bias import scores_bias
from automodel.nn.norm import Norm
from automodel.nn.rope import rotate
from automodel.nn.view import View, call, cut, part
from automodel.spec import AttentionSpec, MLASpec, Names


class LatentAttention(nn.Module):
    """Latent attention of one layer; the cache holds the latent [B, 1, S, R] and the rotated part of the keys [B, 1, S, P].

    Args:
        spec: the layer; `spec.mla` has the ranks. `qkv_bias` is that of the two down projections.
        hidden: N.
        names: names of the projections.
        index: the layer's place in the cache.
    """

    def __init__(self, spec: AttentionSpec, *, hidden: int, names: Names, index: int) -> None:
        super().__init__()
        sizes = _sizes(spec)
        self.spec, self.names, self.index = spec, names, index
        query = spec.heads * (sizes.nope_dim + sizes.rope_dim)
        if sizes.q_rank is None:
            self.add_module(names.q, nn.Linear(hidden, query, bias=False))
        else:
            self.add_module(names.q_a, nn.Linear(hidden, sizes.q_rank, bias=spec.qkv_bias))
            self.add_module(names.q_a_norm, Norm(sizes.norm, sizes.q_rank))
            self.add_module(names.q_b, nn.Linear(sizes.q_rank, query, bias=False))
        self.add_module(names.kv_a, nn.Linear(hidden, sizes.kv_rank + sizes.rope_dim, bias=spec.qkv_bias))
        self.add_module(names.kv_a_norm, Norm(sizes.norm, sizes.kv_rank))
        self.add_module(names.kv_b, nn.Linear(sizes.kv_rank, spec.heads * (sizes.nope_dim + sizes.value_dim), bias=False))
        self.add_module(names.o, nn.Linear(spec.heads * sizes.value_dim, hidden, bias=spec.out_bias))

    def forward(self, x: Tensor, view: View) -> Tensor:
        """Map [B, T, N] to [B, T, N]."""
        spec, names, sizes = self.spec, self.names, _sizes(self.spec)
        rows, length = x.shape[0], x.shape[1]
        q = self._queries(x).view(rows, length, spec.heads, -1).transpose(1, 2)
        q_plain, q_turned = cut(q, (sizes.nope_dim, sizes.rope_dim), -1)
        latent, k_turned = cut(call(self, names.kv_a, x), (sizes.kv_rank, sizes.rope_dim), -1)
        latent, k_turned = call(self, names.kv_a_norm, latent)[:, None], k_turned[:, None]
        if spec.rope is not None:
            cos, sin = view.memo[spec.rope]
            q_turned, k_turned = rotate(q_turned, cos, sin, spec=spec.rope), rotate(k_turned, cos, sin, spec=spec.rope)
        if view.cache is not None:
            latent, k_turned = view.cache.update(latent, k_turned, self.index, cache_arguments(view))
        if length == 1 and self._may_stay_folded():
            out = self._one_token(q_plain, q_turned, latent, k_turned, view)
        else:
            q = torch.cat((q_plain, q_turned), dim=-1)
            unfolded = call(self, names.kv_b, latent[:, 0]).view(rows, latent.shape[2], spec.heads, -1).transpose(1, 2)
            k_plain, v = cut(unfolded, (sizes.nope_dim, sizes.value_dim), -1)
            k = torch.cat((k_plain, k_turned.expand(-1, spec.heads, -1, -1)), dim=-1)
            out = attend_in_view(q, k, v, view, spec, dropout=spec.dropout if self.training else 0.0)
        return call(self, names.o, out.transpose(1, 2).flatten(2))

    def _one_token(self, q_plain: Tensor, q_turned: Tensor, latent: Tensor, k_turned: Tensor, view: View) -> Tensor:
        """Attend from one query [B, H, 1, ..] to the latent itself: the unfolding goes to query and output, and no key is ever unfolded."""
        spec, sizes = self.spec, _sizes(self.spec)
        weight: Tensor = part(self, self.names.kv_b).weight  # type: ignore[assignment]  # a linear layer's
        unfold = weight.view(spec.heads, -1, sizes.kv_rank)
        for_keys, for_values = cut(unfold, (sizes.nope_dim, sizes.value_dim), 1)
        q_latent = torch.matmul(q_plain, for_keys).squeeze(2)
        scores = torch.matmul(q_turned.squeeze(2), k_turned.squeeze(1).transpose(1, 2))
        scores = torch.baddbmm(scores, q_latent, latent.squeeze(1).transpose(1, 2)).mul_(spec.score_scale).unsqueeze(2)
        bias = scores_bias(view, spec, queries=1, keys=latent.shape[2], like=scores)
        weights = torch.softmax(scores if bias is None else scores.add_(bias), dim=-1, dtype=torch.float32).to(scores.dtype)
        return torch.matmul(torch.matmul(weights, latent), for_values.transpose(1, 2))

    def _may_stay_folded(self) -> bool:
        spec = self.spec
        changed = spec.softcap is not None or spec.clamp is not None or (spec.dropout > 0 and self.training)
        return not (torch.is_grad_enabled() or changed) and type(self._modules[self.names.kv_b]) is nn.Linear

    def _queries(self, x: Tensor) -> Tensor:
        names = self.names
        if _sizes(self.spec).q_rank is None:
            return call(self, names.q, x)
        return call(self, names.q_b, call(self, names.q_a_norm, call(self, names.q_a, x)))


def _sizes(spec: AttentionSpec) -> MLASpec:
    if spec.mla is None:
        raise ValueError("latent attention needs its ranks")
    return spec.mla
