"""From what callers of a transformers model pass to what the layers share: positions, masks by window, packed documents.

Shapes: B rows, T queries, S keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from automodel.auto import compat
from automodel.errors import ModelError
from automodel.nn.view import View
from automodel.spec import DecoderSpec

WINDOWED = ("sliding_attention", "chunked_attention")


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of a decoder as transformers makes it.

    Args:
        batch, length: B and T.
        device: of the inputs.
        attention_mask: [B, S] of ones and zeros, a prepared mask [B, 1, T, S] (bool, or added to the scores), or prepared ones by layer kind.
        position_ids: [B or 1, T].
        cache: keys and values of earlier tokens.
        cache_position: [T] places of the new tokens in the cache.
        causal: False lets every query see every key that is not padding.
        collect: whether all hidden states are kept.
        cu_seqlens: [documents + 1] where the documents of a packed row begin and the last ends.
    """

    batch: int
    length: int
    device: torch.device
    attention_mask: Any = None
    position_ids: Tensor | None = None
    cache: Any = None
    cache_position: Tensor | None = None
    causal: bool = True
    collect: bool = False
    cu_seqlens: Tensor | None = None


def packed_segments(call: Call) -> tuple[int, ...] | None:
    """Return the lengths of the documents, over all rows one after the other, or None when the rows are not packed.

    Rows are packed when `cu_seqlens` says so, or when positions start again inside a row, nothing is padded and no cache was passed.
    """
    if call.length < 2 or call.cache is not None or not call.causal:
        return None
    if call.cu_seqlens is not None:
        bounds = call.cu_seqlens.tolist()
        if bounds[0] != 0 or bounds[-1] != call.batch * call.length:
            found = f"cu_seq_lens_q from {bounds[0]} to {bounds[-1]}"
            fix = "pass the bounds of the documents, without padding"
            raise ModelError("the packed documents do not fill the row", found=found, expected=f"0 to {call.batch * call.length}", fix=fix)
        return tuple(end - start for start, end in pairwise(bounds) if end > start)
    positions = call.position_ids
    if positions is None or positions.dim() != 2 or isinstance(call.attention_mask, Mapping):
        return None
    restart = positions.diff(dim=1) != 1
    if not bool(restart.any()) or (call.attention_mask is not None and _padding(call.attention_mask) is not None):
        return None
    starts = torch.nn.functional.pad(restart, (1, 0), value=True).expand(call.batch, -1).reshape(-1).nonzero().squeeze(1)
    bounds = [*starts.tolist(), call.batch * call.length]
    return tuple(end - start for start, end in pairwise(bounds))


def build_view(layers: Mapping[int | None, int], call: Call, segments: tuple[int, ...] | None) -> View:
    """Return what the layers share in this call; `layers` as of `cache_layers`, `segments` as of `packed_segments` (then B == 1)."""
    past: Any = 0 if call.cache is None else call.cache.get_seq_length()
    cache_position = call.cache_position
    if cache_position is None:
        cache_position = torch.arange(call.length, device=call.device) + past
    positions = call.position_ids if call.position_ids is not None else cache_position[None]
    masks: Mapping[int | None, Tensor | None] = dict.fromkeys(layers) if segments is not None else _masks(layers, call, cache_position)
    return View(
        positions=positions.expand(call.batch, -1),
        cache=call.cache,
        cache_position=cache_position if call.cache is not None else None,
        masks=masks,
        segments=segments,
        causal=call.causal,
        collect=call.collect,
    )


def cache_layers(spec: DecoderSpec) -> dict[int | None, int]:
    """Return window -> index in the cache of the first layer with it; only layers with keys and values have a place in the cache."""
    kept = [layer.attention.window for layer in spec.layers if layer.attention is not None and layer.attention.kind != "linear"]
    return {window: kept.index(window) for window in dict.fromkeys(kept)}


def _masks(layers: Mapping[int | None, int], call: Call, cache_position: Tensor) -> dict[int | None, Tensor | None]:
    given = call.attention_mask
    if isinstance(given, Mapping):
        return {window: _prepared(_by_kind(given, window)) for window in layers}
    if given is not None and given.dim() == 4:
        return dict.fromkeys(layers, _prepared(given))
    padding = None if given is None else _padding(given)
    return {window: _mask(call, cache_position, padding, window=window, layer=layer) for window, layer in layers.items()}


def _mask(call: Call, queries: Tensor, padding: Tensor | None, *, window: int | None, layer: int) -> Tensor | None:
    """Return the mask of the layers with this window, or None where the kernel's own causal rule (or no rule) says the same."""
    keys, offset = call.length, 0
    fixed = False
    if call.cache is not None:
        keys, offset = compat.mask_sizes(call.cache, queries, layer)
        fixed = bool(getattr(call.cache, "is_compileable", False))
    if not call.causal:
        return None if padding is None else _cut(padding, offset, keys)[:, None, None, :].expand(-1, 1, call.length, -1)
    # Without a past the attention knows its own window.
    if padding is None and (keys == call.length or (call.length == 1 and not fixed and (window is None or keys <= window))):
        return None
    query = queries[:, None]
    key = torch.arange(offset, offset + keys, device=call.device)[None]
    seen = key <= query
    if window is not None:
        seen &= key > query - window
    if padding is None:
        return seen[None, None].expand(call.batch, 1, -1, -1)
    # A padded query sees itself, so that no row of the mask is empty; every other query does so anyway.
    return (seen & (_cut(padding, offset, keys)[:, None, :] | (key == query)))[:, None]


def _padding(mask: Any) -> Tensor | None:
    """Return a mask as bool when it hides something, else None."""
    kept = torch.as_tensor(mask).bool()
    return None if bool(kept.all()) else kept


def _cut(padding: Tensor, offset: int, keys: int) -> Tensor:
    """Return the columns of the keys; places after the end of the mask are not filled yet and hidden by the causal rule."""
    found = padding[:, offset : offset + keys]
    return torch.nn.functional.pad(found, (0, keys - found.shape[1]), value=True)


def _prepared(mask: Tensor | None) -> Tensor | None:
    if mask is None or mask.dtype == torch.bool:
        return mask
    return mask.bool() if not mask.is_floating_point() else mask > torch.finfo(mask.dtype).min / 2


def _by_kind(masks: Mapping[str, Tensor | None], window: int | None) -> Tensor | None:
    names = ("full_attention",) if window is None else WINDOWED
    for name in names:
        if name in masks:
            return masks[name]
    raise ModelError("no prepared mask for this kind of layer", found=", ".join(masks), expected=" or ".join(names), fix="pass a 2-D attention_mask")
