"""Batches: token rows filled to one length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from automodel.data.encode import IGNORED

Batch = dict[str, torch.Tensor]
TokenRow = Mapping[str, NDArray[np.int32]]


def collate(
    rows: Sequence[TokenRow],
    *,
    pad_token_id: int,
    pad_to_multiple_of: int | None = None,
    max_length: int | None = None,
    padding_side: Literal["left", "right"] = "right",
) -> Batch:
    """Fill rows to one length T and stack them: `input_ids`, `attention_mask` and `labels`, each int64 [rows, T].

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
    ids, mask, labels = np.full(shape, pad_token_id, np.int64), np.zeros(shape, np.int64), np.full(shape, IGNORED, np.int64)
    for number, row in enumerate(rows):
        size = len(row["input_ids"])
        place = slice(0, size) if padding_side == "right" else slice(length - size, length)
        ids[number, place] = row["input_ids"]
        mask[number, place] = 1
        labels[number, place] = row["labels"]
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask), "labels": torch.from_numpy(labels)}
