"""Grouped-query attention with one matrix for queries, keys and values, and the linear layer that may stand in its place.

B rows, T queries, S keys, N hidden width, H query heads, K key-value heads, D width of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from automodel.kernels.attention import attend
from automodel.nn.bias import scores_bias
from automodel.nn.linear import FusedLinear
from automodel.nn.norm import Norm
from automodel.nn.qkv import Layout, split_rotated
from automodel.nn.rope import rotate
from automodel.nn.view import View, call, cut
from automodel.spec import AttentionSpec, Names

# Rows of so many windows, or steps, are attended a step at a time; steps are not shorter than this, or what surrounds the kernel would cost more.
LONG = 4
STEP = 256


class Attention(nn.Module):
    """Grouped-query attention of one layer.

    Args:
        spec: heads, widths, biases and all that happens to scores.
        hidden: N.
        names: names of the projections.
        index: the layer's place in the cache, counted over layers that have one.
    """

    def __init__(self, spec: AttentionSpec, *, hidden: int, names: Names, index: int) -> None:
        super().__init__()
        self.spec, self.names, self.index = spec, names, index
        width, kv_width = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
        if spec.qkv == "split":
            fused = FusedLinear(hidden, (width, kv_width, kv_width), bias=spec.qkv_bias)
            self.add_module(names.qkv, fused)
            for name, child in fused.slices((names.q, names.k, names.v)).items():
                self.add_module(name, child)
        else:
            self.add_module(names.qkv, nn.Linear(hidden, width + 2 * kv_width, bias=spec.qkv_bias))
        self.add_module(names.o, nn.Linear(width, hidden, bias=spec.out_bias))
        if spec.qk_norm_spec is not None:
            shapes = {
                "head": ((spec.head_dim,),) * 2,
                "heads": ((spec.heads, spec.head_dim), (spec.kv_heads, spec.head_dim)),
                "all": ((width,), (kv_width,)),
            }
            for name, shape in zip((names.q_norm, names.k_norm), shapes[spec.qk_norm or "all"], strict=True):
                self.add_module(name, Norm(spec.qk_norm_spec, *shape))
        if spec.sinks:
            self.register_parameter(names.sinks, nn.Parameter(torch.zeros(spec.heads)))
        self._sizes = (width, kv_width, kv_width)
        layout = Layout(spec.heads, spec.kv_heads, spec.head_dim, spec.rope, grouped=spec.qkv == "grouped")
        self._layouts = (layout, layout._replace(private=True))

    def forward(self, x: Tensor, view: View) -> Tensor:
        """Map [B, T, N] to [B, T, N]."""
        q, k, v = self._rotated(x, view)
        if view.cache is not None:
            k, v = view.cache.update(k, v, self.index, cache_arguments(view))
        sinks = self._parameters[self.names.sinks] if self.spec.sinks else None
        out = attend_in_view(q, k, v, view, self.spec, dropout=self.spec.dropout if self.training else 0.0, sinks=sinks)
        return call(self, self.names.o, out.transpose(1, 2).flatten(2))

    def _rotated(self, x: Tensor, view: View) -> tuple[Tensor, Tensor, Tensor]:
        """Return q [B, H, T, D], k and v [B, K, T, D], normed and rotated."""
        spec, names = self.spec, self.names
        pieces = None
        if spec.qkv == "split":
            fused: FusedLinear = self._modules[names.qkv]  # type: ignore[assignment]  # added above
            y, pieces = fused.project(x, [self._modules[names.q], self._modules[names.k], self._modules[names.v]])
        else:
            y = call(self, names.qkv, x)
        if pieces is not None:
            q, k, v = (self._clipped(piece) for piece in pieces)
            return self._apart(q, k, v, view=view)
        y = self._clipped(y)
        if spec.qk_norm is None:
            # A product that nobody else can see may be rotated where it lies.
            private = _plain(self._modules[names.qkv]) and spec.clip_qkv is None
            return split_rotated(y, None if spec.rope is None else view.memo[spec.rope], self._layouts[private])
        if spec.qkv == "grouped":
            q, k, v = split_rotated(y, None, self._layouts[0]._replace(rope=None))
            return self._apart(*(x.transpose(1, 2).flatten(2) for x in (q, k, v)), view=view)
        q, k, v = cut(y, self._sizes, -1)
        return self._apart(q, k, v, view=view)

    def _clipped(self, y: Tensor) -> Tensor:
        clip = self.spec.clip_qkv
        return y if clip is None else y.clamp(-clip, clip)

    def _apart(self, q: Tensor, k: Tensor, v: Tensor, *, view: View) -> tuple[Tensor, Tensor, Tensor]:
        """Norm, cut into heads and rotate queries and keys on their own; each comes as [B, T, heads * D]."""
        spec, names = self.spec, self.names
        rows, length = q.shape[0], q.shape[1]
        if spec.qk_norm == "all":
            q, k = call(self, names.q_norm, q), call(self, names.k_norm, k)
        q, k, v = (x.view(rows, length, -1, spec.head_dim) for x in (q, k, v))
        if spec.qk_norm in ("head", "heads"):
            q, k = call(self, names.q_norm, q), call(self, names.k_norm, k)
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        if spec.rope is not None:
            cos, sin = view.memo[spec.rope]
            q, k = rotate(q, cos, sin, spec=spec.rope), rotate(k, cos, sin, spec=spec.rope)
        return q, k, v


def _plain(module: nn.Module | None) -> bool:
    return type(module) in (nn.Linear, FusedLinear) and not module._forward_hooks  # type: ignore[union-attr]  # None has another type


class LinearAttention(nn.Module):
    """One matrix [N, N] in place of attention (Nemotron-NAS); it needs no cache."""

    def __init__(self, *, hidden: int, names: Names) -> None:
        super().__init__()
        self.names = names
        self.add_module(names.linear_attention, nn.Linear(hidden, hidden, bias=False))

    def forward(self, x: Tensor, view: View) -> Tensor:
        """Map [B, T, N] to [B, T, N]."""
        return call(self, self.names.linear_attention, x)


def cache_arguments(view: View) -> dict[str, Tensor] | None:
    """Return what a cache wants to know beside keys and values."""
    return None if view.cache_position is None else {"cache_position": view.cache_position}


def attend_in_view(q: Tensor, k: Tensor, v: Tensor, view: View, spec: AttentionSpec, *, dropout: float, sinks: Tensor | None = None) -> Tensor:
    """Attend as the pass and the layer ask: masked, packed, windowed or plainly causal.

    Args:
        q: [B, H, T, D].
        k: [B, K, S, D].
        v: [B, K, S, E].
        view: the pass.
        spec: the layer.
        dropout: chance that a weight is dropped.
        sinks: [H], learned scores without a value.

    Returns:
        [B, H, T, E].
    """
    queries, keys = q.shape[2], k.shape[2]
    run = partial(attend, scale=spec.score_scale, softcap=spec.softcap, clamp=spec.clamp, sinks=sinks, dropout=dropout)
    if view.segments is not None:
        return _segments(q, k, v, view, spec, run)
    # A given mask has the last word: it may show what comes later.
    causal = view.causal and view.masks.get(spec.window) is None
    if causal:
        if queries == 1 and spec.window is not None and keys > spec.window and not spec.sink_tokens:
            k, v, keys = k[:, :, -spec.window :], v[:, :, -spec.window :], spec.window
        elif 1 < queries < keys:
            # A cache of fixed size that was empty: what lies after the queries is not written yet.
            k, v, keys = k[:, :, :queries], v[:, :, :queries], queries
        if queries == keys and _is_long(spec, keys):
            return _by_window(q, k, v, view, spec, run)
    bias = scores_bias(view, spec, queries=queries, keys=keys, like=q)
    return run(q, k, v, mask=bias, causal=causal and 1 < queries == keys and not spec.sink_tokens)


def _segments(q: Tensor, k: Tensor, v: Tensor, view: View, spec: AttentionSpec, run: Callable[..., Tensor]) -> Tensor:
    """Attend inside each packed document of the single row; equal ones go together as a batch."""
    lengths = view.segments or ()
    if all(length == lengths[0] for length in lengths):
        apart = (x.view(x.shape[1], len(lengths), lengths[0], x.shape[3]).transpose(0, 1) for x in (q, k, v))
        return _document(*apart, view=view, spec=spec, run=run).transpose(0, 1).flatten(1, 2)[None]
    pieces = zip(*(cut(x, lengths, 2) for x in (q, k, v)), strict=True)
    return torch.cat([_document(*piece, view=view, spec=spec, run=run) for piece in pieces], dim=2)


def _document(q: Tensor, k: Tensor, v: Tensor, *, view: View, spec: AttentionSpec, run: Callable[..., Tensor]) -> Tensor:
    length = q.shape[2]
    if view.causal and _is_long(spec, length):
        return _by_window(q, k, v, view, spec, run)
    bias = scores_bias(view, spec, queries=length, keys=length, like=q, segment=True)
    return run(q, k, v, mask=bias, causal=view.causal and length > 1 and not spec.sink_tokens)


def _is_long(spec: AttentionSpec, length: int) -> bool:
    """Say whether most of a whole mask would only hide what the window hides, and nothing but the window and causality hides keys."""
    plain = spec.alibi is None and spec.block_sparse is None and not spec.sink_tokens
    return plain and spec.window is not None and length >= LONG * max(spec.window, STEP)


def _by_window(q: Tensor, k: Tensor, v: Tensor, view: View, spec: AttentionSpec, run: Callable[..., Tensor]) -> Tensor:
    """Attend from some queries at a time to their own keys and a window of earlier ones: time and memory grow with T, not with T * T."""
    length, window = q.shape[2], spec.window or 1
    step = max(window, STEP)
    sizes = [min(step, length - start) for start in range(0, length, step)]
    queries, keys, values = (cut(x, sizes, 2) for x in (q, k, v))
    near = view.once(("near", window, q.dtype), lambda: _near(window, step, like=q))
    found = [run(queries[0], keys[0], values[0], mask=near[..., window:], causal=True)]
    for place in range(1, len(sizes)):
        both = (torch.cat((x[place - 1][:, :, -window:], x[place]), dim=2) for x in (keys, values))
        found.append(run(queries[place], *both, mask=near[:, :, : sizes[place], : window + sizes[place]]))
    return torch.cat(found, dim=2)


def _near(window: int, step: int, *, like: Tensor) -> Tensor:
    """Return the mask [1, 1, step, window + step] of queries whose own keys come after `window` earlier ones."""
    row, column = torch.arange(step, device=like.device)[:, None], torch.arange(window + step, device=like.device)
    seen = ((column > row) & (column <= row + window))[None, None]
    return torch.zeros((), dtype=like.dtype, device=like.device).where(seen, torch.finfo(like.dtype).min)
