"""Attention over given queries, keys and values: a plain reference for everything, and torch's fused kernel for what it can do.

B rows, H query heads, K key-value heads (H = K * G), T queries, S keys, D width of a query, E width of a value.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# Causal rows are computed at least so many at a time in plain torch.
BLOCK = 64


def supports(*, softcap: float | None, clamp: float | None, sinks: Tensor | None) -> str | None:
    """Say why the fused kernel cannot compute these scores, or None when it can."""
    if softcap is not None:
        return "the fused kernel has no soft cap on scores"
    if clamp is not None:
        return "the fused kernel does not clamp scores"
    if sinks is not None:
        return "the fused kernel has no learned sinks"
    return None


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float,
    mask: Tensor | None = None,
    causal: bool = False,
    softcap: float | None = None,
    clamp: float | None = None,
    sinks: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Return softmax(scores) v, [B, H, T, E], by the fastest implementation that computes it.

    Args:
        q: [B, H, T, D].
        k: [B, K, S, D].
        v: [B, K, S, E].
        scale: what q k^T is multiplied by.
        mask: added to the scores, broadcastable to [B, H, T, S], in the dtype of q.
        causal: query i sees keys up to i (T == S); a mask then hides the later ones itself.
        softcap: scores become softcap * tanh(scores / softcap) before the mask.
        clamp: scores are cut to [-clamp, clamp] before the mask.
        sinks: [H], a score that takes part in the softmax and has no value.
        dropout: chance that a weight is dropped.
    """
    if clamp is not None and softcap is None and sinks is None and _never_reaches(q, k, scale=scale, clamp=clamp):
        clamp = None
    if supports(softcap=softcap, clamp=clamp, sinks=sinks) is None:
        return sdpa(q, k, v, scale=scale, mask=mask, causal=causal, dropout=dropout)
    return reference(q, k, v, scale=scale, mask=mask, causal=causal, softcap=softcap, clamp=clamp, sinks=sinks, dropout=dropout)


def _never_reaches(q: Tensor, k: Tensor, *, scale: float, clamp: float) -> bool:
    """Bound the scores by the longest query and key; only where reading a number back costs nothing."""
    if q.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    with torch.no_grad():
        bound = q.norm(dim=-1).amax() * k.norm(dim=-1).amax() * scale
    return bool(bound.item() < clamp * 0.99)


def sdpa(q: Tensor, k: Tensor, v: Tensor, *, scale: float, mask: Tensor | None = None, causal: bool = False, dropout: float = 0.0) -> Tensor:
    """Torch's `scaled_dot_product_attention`, with grouped heads laid out as its kernels like them; arguments as those of `attend`."""
    heads, kv_heads, queries = q.shape[1], k.shape[1], q.shape[2]
    causal = causal and mask is None
    if v.shape[3] < q.shape[3] and queries > 1 and not dropout and q.device.type == "cpu":
        # The CPU's flash kernel wants values as wide as queries; without it the scores of all heads would be kept.
        wide = F.pad(v, (0, q.shape[3] - v.shape[3]))
        return sdpa(q, k, wide, scale=scale, mask=mask, causal=causal)[..., : v.shape[3]]
    if heads == kv_heads:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=causal, scale=scale)
    if queries == 1 and (mask is None or mask.shape[1] == 1):
        # One query: the heads of a group are as good as a row of queries, and keys need not be repeated.
        packed = F.scaled_dot_product_attention(
            q.reshape(q.shape[0], kv_heads, heads // kv_heads, q.shape[3]), k, v, attn_mask=mask, dropout_p=dropout, scale=scale
        )
        return packed.reshape(q.shape[0], heads, 1, v.shape[3])
    if mask is None or q.device.type == "cpu":
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=causal, scale=scale, enable_gqa=True)
    # Elsewhere a mask with grouped heads falls back to the quadratic kernel.
    k, v = (x.repeat_interleave(heads // kv_heads, dim=1) for x in (k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, scale=scale)


def reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float,
    mask: Tensor | None = None,
    causal: bool = False,
    softcap: float | None = None,
    clamp: float | None = None,
    sinks: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Compute the same in plain torch, with the scores [B, H, T, S] in memory and the softmax in float32; arguments as those of `attend`."""
    settings: Any = {"scale": scale, "softcap": softcap, "clamp": clamp, "sinks": sinks, "dropout": dropout}
    queries, keys = q.shape[2], k.shape[2]
    if not causal:
        return _attended(q, k, v, mask=mask, **settings)
    if mask is None:
        mask = torch.full((queries, keys), torch.finfo(q.dtype).min, device=q.device, dtype=q.dtype).triu(1)[None, None]
    # Some rows at a time, so that most of the scores which the mask would hide are never computed.
    step = max(BLOCK, -(-queries // 4))
    if queries <= step:
        return _attended(q, k, v, mask=mask, **settings)
    mask = mask.expand(-1, -1, queries, keys)
    starts = range(0, queries, step)
    pieces = torch.unsafe_split_with_sizes(q, [min(step, queries - start) for start in starts], 2)
    ends = [min(start + step, queries) for start in starts]
    found = [
        _attended(piece, k[:, :, :end], v[:, :, :end], mask=mask[:, :, start:end, :end], **settings)
        for piece, start, end in zip(pieces, starts, ends, strict=True)
    ]
    return torch.cat(found, dim=2)


def _attended(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None,
    scale: float,
    softcap: float | None,
    clamp: float | None,
    sinks: Tensor | None,
    dropout: float,
) -> Tensor:
    rows, heads, queries, width = q.shape
    kv_heads, keys = k.shape[1], k.shape[2]
    group = heads // kv_heads * queries
    if softcap is not None and clamp is None:
        scale = scale / softcap
    scores = torch.matmul((q * scale).reshape(rows, kv_heads, group, width), k.transpose(-1, -2)).view(rows, heads, queries, keys)
    if clamp is not None:
        scores = scores.clamp(-clamp, clamp)
        scores = scores if softcap is None else scores / softcap
    if softcap is not None:
        # In place where no backward needs what is overwritten: scores are the largest thing here.
        scores = scores.tanh_() * softcap
    if mask is not None:
        scores = scores + mask if clamp is not None else scores.add_(mask)
    if sinks is not None:
        column = sinks.to(scores.dtype).view(1, heads, 1, 1).expand(rows, heads, queries, 1)
        weights = torch.softmax(torch.cat((scores, column), dim=-1), dim=-1, dtype=torch.float32)[..., :-1]
    else:
        weights = torch.softmax(scores, dim=-1, dtype=torch.float32)
    weights = weights.to(v.dtype)
    if dropout:
        weights = F.dropout(weights, dropout)
    return torch.matmul(weights.reshape(rows, kv_heads, group, keys), v).view(rows, heads, queries, v.shape[3])
