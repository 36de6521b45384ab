"""A small question set and a way to run a recipe on it in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def write_rows(path: Path, count: int = 40) -> Path:
    rows = [
        {
            "context": f"The bridge of Harrow {i} was built in {1800 + i} by Anna{' Vell' * (i % 5)}.",
            "question": "Who built it?" if i % 2 else "When was it built?",
            "answers": {"text": ["Anna" if i % 2 else str(1800 + i)], "answer_start": [0]},
        }
        for i in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def rows_file(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "rows.jsonl")


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {**base, **{key: merge(base.get(key) or {}, value) if isinstance(value, dict) else value for key, value in changes.items()}}


@pytest.fixture
def recipe_dict(tiny_model_dir: Path, rows_file: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    base: dict[str, Any] = {
        "model": {"pretrained_model_name_or_path": str(tiny_model_dir)},
        "dataset": {"path_or_dataset": str(rows_file)},
        "step_scheduler": {"global_batch_size": 8, "local_batch_size": 4, "num_epochs": 2},
        "optimizer": {"lr": 1e-3},
        "run": {"folder": str(tmp_path / "runs")},
    }

    def make(**changes: Any) -> dict[str, Any]:
        return merge(base, changes)

    return make


def train_rows(run: Any) -> list[dict[str, Any]]:
    return [row for row in run.metrics() if row["split"] == "train"]


def losses(run: Any) -> list[float]:
    return [row["loss"] for row in train_rows(run)]
