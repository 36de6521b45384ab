"""Batches: token rows filled to one length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch

from automodel.data.encode import IGNORED

Batch = dict[str, torch.Tensor]
TokenRow = Mapping[str, Any]
_TOKENS = ("input_ids", "labels")


def collate(
    rows: Sequence[TokenRow],
    *,
    pad_token_id: int,
    pad_to_multiple_of: int | None = None,
    max_length: int | None = None,
    padding_side: Literal["left", "right"] = "right",
) -> Batch:
    """Fill rows to one length T and stack them: `input_ids`, `attention_mask` and `labels`, each int64 [rows, T].

    Whatever else a row has goes along: arrays with a value for each token are filled with 0 like the tokens; tensors (pixels, sizes of
    images) are put one after the other along their first dimension, the others filled with 0 to the largest.

    Args:
        rows: at least one row with `input_ids` and aligned `labels`.
        pad_token_id: token that fills; its labels are -100, whatever the id.
        pad_to_multiple_of: make T a multiple of this.
        max_length: make T at least this.
        padding_side: where short rows are filled.
    """
    length = max(max_length or 0, *(len(row["input_ids"]) for row in rows))
    if pad_to_multiple_of:
        length = -(-length // pad_to_multiple_of) * pad_to_multiple_of
    shape = (len(rows), length)
    names = [name for row in rows for name, value in row.items() if name not in _TOKENS and isinstance(value, np.ndarray)]
    filled = {"input_ids": pad_token_id, "attention_mask": 0, "labels": IGNORED} | dict.fromkeys(names, 0)
    found = {name: np.full(shape, fill, np.int64) for name, fill in filled.items()}
    for number, row in enumerate(rows):
        size = len(row["input_ids"])
        place = slice(0, size) if padding_side == "right" else slice(length - size, length)
        for name in found:
            if name == "attention_mask" or name in row:
                found[name][number, place] = 1 if name == "attention_mask" else row[name]
    return {name: torch.from_numpy(values) for name, values in found.items()} | _joined(rows)


def has_images(row: TokenRow) -> bool:
    """Say whether a row holds pixels beside its tokens."""
    return any(isinstance(value, torch.Tensor) for value in row.values())


def _joined(rows: Sequence[TokenRow]) -> Batch:
    """Put the tensors of rows one after the other; a row without images has none."""
    parts: dict[str, list[torch.Tensor]] = {}
    for row in rows:
        for name, value in row.items():
            if isinstance(value, torch.Tensor):
                parts.setdefault(name, []).append(value)
    return {name: torch.cat(_alike(tensors)) for name, tensors in parts.items()}


def _alike(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    """Fill tensors with 0 until they differ in their first dimension only."""
    largest = [max(sizes) for sizes in zip(*(tensor.shape[1:] for tensor in tensors), strict=True)]
    if all(list(tensor.shape[1:]) == largest for tensor in tensors):
        return tensors
    found = []
    for tensor in tensors:
        whole = tensor.new_zeros((len(tensor), *largest))
        whole[tuple(slice(size) for size in tensor.shape)] = tensor
        found.append(whole)
    return found
