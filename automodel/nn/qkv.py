"""From the product of the fused projection to rotated queries, keys and values, with a backward that writes one gradient.

B rows, T queries, H query heads, K key-value heads, G query heads of a group, D width of a head, R rotated dimensions of it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from automodel.nn.rope import rotate
from automodel.nn.view import cut
from automodel.spec import RopeSpec

Table = tuple[Tensor, Tensor]


class Layout(NamedTuple):
    """Where heads lie in a product [B, T, (H + 2K) * D].

    q | k | v, or if `grouped` K groups of [G queries, key, value]. `private`: nobody else holds the product, so that it may be rotated in place.
    """

    heads: int
    kv_heads: int
    head_dim: int
    rope: RopeSpec | None
    grouped: bool = False
    private: bool = False


def table_for_heads(table: Table, dtype: torch.dtype) -> Table:
    """Return (cos, sin) [B, T, R] as [B, 1, T, R] in a dtype, to be shared by all layers of a pass."""
    cos, sin = table
    return cos.to(dtype).unsqueeze(1), sin.to(dtype).unsqueeze(1)


def split_rotated(y: Tensor, table: Table | None, layout: Layout) -> tuple[Tensor, Tensor, Tensor]:
    """Return q [B, H, T, D], k and v [B, K, T, D] of a product, queries and keys rotated.

    Args:
        y: the product.
        table: (cos, sin), each [B or 1, 1, T, R] in the dtype of y; None rotates nothing.
        layout: where the heads lie.
    """
    if table is not None and table[0].dtype != y.dtype:
        # Under autocast the product has another dtype than the stream that the table was made for.
        table = table[0].to(y.dtype), table[1].to(y.dtype)
    if torch.compiler.is_compiling():
        layout = layout._replace(private=False)
        return _grouped(y, table, layout) if layout.grouped else _in_a_row(y, table, layout)
    if y.requires_grad and torch.is_grad_enabled():
        cos, sin = (None, None) if table is None else table
        q, k, v = _SplitRotated.apply(y, cos, sin, layout)  # type: ignore[no-untyped-call]  # torch types it so
        return q, k, v
    return _grouped(y, table, layout) if layout.grouped else _in_a_row(y, table, layout)


def _in_a_row(y: Tensor, table: Table | None, layout: Layout) -> tuple[Tensor, Tensor, Tensor]:
    rows, length = y.shape[0], y.shape[1]
    heads, kv_heads, width, rope = layout.heads, layout.kv_heads, layout.head_dim, layout.rope
    if table is None or rope is None or layout.private:
        whole = y.view(rows, length, heads + 2 * kv_heads, width).transpose(1, 2)
        if table is not None and rope is not None:
            _turn(whole[:, : heads + kv_heads], table, half=rope.style == "half")
        q, k, v = cut(whole, (heads, kv_heads, kv_heads), 1)
        return q, k, v
    # Queries and keys lie side by side: one rotation does for both.
    both, v = cut(y, ((heads + kv_heads) * width, kv_heads * width), -1)
    both = rotate(both.view(rows, length, heads + kv_heads, width).transpose(1, 2), *table, spec=rope)
    q, k = cut(both, (heads, kv_heads), 1)
    return q, k, v.view(rows, length, kv_heads, width).transpose(1, 2)


def _grouped(y: Tensor, table: Table | None, layout: Layout) -> tuple[Tensor, Tensor, Tensor]:
    rows, length = y.shape[0], y.shape[1]
    group, rope = layout.heads // layout.kv_heads, layout.rope
    places = y.view(rows, length, layout.kv_heads, group + 2, layout.head_dim)
    if table is None or rope is None or layout.private:
        if table is not None and rope is not None:
            _turn(places[..., :-1, :], _wide(table), half=rope.style == "half")
        q, k, v = cut(places, (group, 1, 1), 3)
    elif group == 1:
        both, v = cut(places, (2, 1), 3)
        q, k = cut(rotate(both, *_wide(table), spec=rope), (1, 1), 3)
    else:
        q, k, v = cut(places, (group, 1, 1), 3)
        wide = _wide(table)
        q, k = rotate(q, *wide, spec=rope), rotate(k, *wide, spec=rope)
    q, k, v = (x.reshape(rows, length, -1, layout.head_dim).transpose(1, 2) for x in (q, k, v))
    return q, k, v


def _wide(table: Table) -> Table:
    """Return a table [B, T, 1, 1, R] for heads that lie as [B, T, K, G, D]."""
    return table[0].transpose(1, 2).unsqueeze(2), table[1].transpose(1, 2).unsqueeze(2)


class _SplitRotated(torch.autograd.Function):
    """Autograd's own backward would add up and copy the pieces' gradients several times over; here each is turned back where it belongs."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, cos: Tensor | None, sin: Tensor | None, layout: Layout) -> tuple[Tensor, Tensor, Tensor]:
        ctx.layout, ctx.shape = layout, y.shape
        ctx.save_for_backward(cos, sin)
        table = None if cos is None or sin is None else (cos, sin)
        y = y.detach()
        return _grouped(y, table, layout) if layout.grouped else _in_a_row(y, table, layout)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, for_q: Tensor, for_k: Tensor, for_v: Tensor) -> tuple[Tensor, None, None, None]:
        layout: Layout = ctx.layout
        cos, sin = ctx.saved_tensors
        table = None if cos is None else (cos, sin)
        rows, length = ctx.shape[0], ctx.shape[1]
        heads, kv_heads = layout.heads, layout.kv_heads
        whole = for_q.new_empty(ctx.shape)
        if layout.grouped:
            groups = whole.view(rows, length, kv_heads, -1, layout.head_dim)
            pieces = groups[..., :-2, :], groups[..., -2:-1, :], groups[..., -1:, :]
            for piece, grad in zip(pieces, (for_q, for_k, for_v), strict=True):
                piece.copy_(grad.transpose(1, 2).reshape(piece.shape))
            turn = groups[..., :-1, :]
            table = None if table is None else _wide(table)
        else:
            places = whole.view(rows, length, -1, layout.head_dim).transpose(1, 2)
            places[:, :heads].copy_(for_q)
            places[:, heads : heads + kv_heads].copy_(for_k)
            places[:, heads + kv_heads :].copy_(for_v)
            turn = places[:, : heads + kv_heads]
        if table is not None and layout.rope is not None:
            _turn(turn, table, half=layout.rope.style == "half", back=True)
        return whole, None, None, None


def _turn(x: Tensor, table: Table, *, half: bool, back: bool = False) -> None:
    """Rotate the first R dimensions of x in place, or `back` by the opposite angle."""
    cos, sin = table
    x = x[..., : cos.shape[-1]]
    other = x.roll(x.shape[-1] // 2, -1) if half else x.reshape(*x.shape[:-1], -1, 2).flip(-1).flatten(-2)
    x.mul_(cos).addcmul_(other, sin, value=-1 if back else 1)
