"""What is added to attention scores, or hidden in them: windows, padding, ALiBi, block-sparse patterns; each made once a pass.

B rows, T queries, S keys, H heads.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from automodel.nn.view import View
from automodel.spec import AlibiSpec, AttentionSpec, BlockSparseSpec


def alibi_slopes(heads: int) -> list[float]:
    """Return the slope of every head: powers of 2 ** (-8 / n) for the largest power of two n, then every second one of those for 2n."""
    n = 2 ** math.floor(math.log2(heads))
    first = [2 ** (-8 * (i + 1) / n) for i in range(n)]
    between = [2 ** (-8 * (i + 1) / (2 * n)) for i in range(0, 2 * n, 2)]
    return (first + between)[:heads]


def scores_bias(view: View, spec: AttentionSpec, *, queries: int, keys: int, like: Tensor, segment: bool = False) -> Tensor | None:
    """Return what is added to the scaled scores, broadcastable to [B, H, T, S] in the dtype of `like`, or None when causality is all.

    Hidden keys get the lowest number rather than minus infinity, so that a row with nothing to see stays finite.

    Args:
        view: the pass.
        spec: the attention layer.
        queries: T, or the length of one packed document.
        keys: S, or the length of one packed document.
        like: queries; gives dtype and device.
        segment: the keys are one packed document: the masks of the pass do not apply.
    """
    per_head = spec.heads if spec.alibi or spec.block_sparse else 0
    key = ("bias", spec.window, spec.alibi, spec.block_sparse, spec.sink_tokens, per_head, queries, keys, like.dtype, segment)
    return view.once(key, lambda: _scores_bias(view, spec, queries, keys, like, segment))  # type: ignore[no-any-return]  # the memo holds anything


def _scores_bias(view: View, spec: AttentionSpec, queries: int, keys: int, like: Tensor, segment: bool) -> Tensor | None:
    given = None if segment else view.masks.get(spec.window)
    if given is not None and given.dtype != torch.bool:
        given = given > torch.finfo(given.dtype).min / 2
    plain = spec.alibi is None and spec.block_sparse is None and not spec.sink_tokens
    if given is None and plain and (spec.window is None or keys <= spec.window or not view.causal):
        return None
    columns = torch.arange(keys, device=like.device)
    rows = columns[keys - queries :] if segment or view.cache_position is None or view.cache_position.numel() != queries else view.cache_position
    visible = given if given is not None else _visible(rows, columns, window=spec.window, causal=view.causal)
    start = _first_column(given)
    if spec.block_sparse is not None:
        sparse = block_sparse_mask(spec.block_sparse, spec.heads, rows=rows - start, columns=columns - start)
        visible = sparse if visible is None else visible & sparse
    if spec.sink_tokens and visible is not None:
        # Also for rows before those columns, and whether or not they are padding: that is what the reference does.
        visible = visible | (columns < spec.sink_tokens)
    bias = torch.zeros((), device=like.device) if spec.alibi is None else alibi_bias(spec.alibi, spec.heads, rows=rows, columns=columns, start=start)
    bias = bias.to(like.dtype)
    return bias if visible is None else torch.where(visible, bias, torch.finfo(like.dtype).min)


def _visible(rows: Tensor, columns: Tensor, *, window: int | None, causal: bool) -> Tensor | None:
    if not causal:
        return None
    distance = rows[:, None] - columns
    visible = distance >= 0
    if window is not None:
        visible = visible & (distance < window)
    return visible[None, None]


def _first_column(mask: Tensor | None) -> Tensor:
    """Return the column of the first token that is not padding, [B, 1, 1] (or zero): the first that the last query sees."""
    if mask is None:
        return torch.zeros((), dtype=torch.long)
    return mask[:, 0, -1].to(torch.int8).argmax(-1)[:, None, None]


def alibi_bias(spec: AlibiSpec, heads: int, *, rows: Tensor, columns: Tensor, start: Tensor) -> Tensor:
    """Return -slope * |i - j|, float32 [1, H, T, S]; with `bfloat16` slope * j as Falcon rounds it, [B or 1, H, 1, S].

    Args:
        spec: factor, and the length above which slopes shrink.
        heads: number of query heads.
        rows: [T], columns of the queries.
        columns: [S], columns of the keys.
        start: first column that is not padding; only felt through the rounding of `bfloat16`.
    """
    slopes = torch.tensor(alibi_slopes(heads), device=columns.device, dtype=torch.float32)[:, None, None]
    factor = spec.factor
    if spec.train_length is not None and columns.numel() > spec.train_length:
        factor = factor * spec.train_length / columns.numel()
    if spec.bfloat16:
        place = columns - start
        return (slopes.bfloat16() * place.view(-1, 1, 1, columns.numel())).float() * factor
    distance = (rows[:, None] - columns).abs().neg().float()
    return (slopes * factor * distance)[None]


def block_sparse_mask(spec: BlockSparseSpec, heads: int, *, rows: Tensor, columns: Tensor) -> Tensor:
    """Return which keys the block pattern shows, bool [B or 1, H or 1, T, S]; causality is not part of it.

    Block r of queries sees block c of keys if r - c < local, or if (c + h * s + 1) is a multiple of `stride`, s = max(1, stride // heads).

    Args:
        spec: the pattern.
        heads: number of query heads.
        rows: [T] or [B, 1, T], places of the queries counted from the first token.
        columns: [S] or [B, 1, S], places of the keys.
    """
    row = (rows // spec.block).unsqueeze(-1)
    column = (columns // spec.block).unsqueeze(-2)
    shift = max(1, spec.stride // heads)
    head = torch.zeros(1, device=rows.device, dtype=torch.long) if spec.same_for_heads else torch.arange(heads, device=rows.device) * shift
    vertical = (column + head[:, None, None] + 1) % spec.stride == 0
    seen = (row - column < spec.local) | vertical
    seen = seen & (column <= row)
    return seen if seen.dim() == 4 else seen[None]
