"""Parts of a batch: the same rows, less padding, never more than asked for."""

from __future__ import annotations

import pytest
import torch

from automodel.train.step import parts_of


def batch(lengths: list[int]) -> dict[str, torch.Tensor]:
    width = max(lengths)
    mask = torch.tensor([[1] * size + [0] * (width - size) for size in lengths])
    ids = torch.arange(len(lengths) * width).reshape(len(lengths), width) + 1
    return {"input_ids": ids * mask, "attention_mask": mask, "labels": ids, "rows": torch.arange(len(lengths))}


@pytest.mark.parametrize("limit", [1, 9, 20, 40])
def test_parts_hold_every_row_once_and_no_column_of_padding(limit: int) -> None:
    whole = batch([9, 7, 7, 3, 2])
    parts = parts_of(whole, limit)
    assert torch.cat([part["rows"] for part in parts]).tolist() == [0, 1, 2, 3, 4]
    assert sum(int(part["input_ids"].sum()) for part in parts) == int(whole["input_ids"].sum())
    for part in parts:
        assert part["attention_mask"].any(0).all()
        assert len(part["rows"]) == 1 or part["input_ids"].numel() <= limit
        assert part["input_ids"].shape == part["labels"].shape


def test_a_small_batch_stays_whole() -> None:
    whole = batch([4, 2])
    assert parts_of(whole, 8) == [whole]
