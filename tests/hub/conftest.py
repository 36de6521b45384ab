"""Finished runs to publish, made once, and a Hub of one's own for each test."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from automodel.run import Run
from tests.conftest import make_llama
from tests.hub_server import Hub, local_hub


def train(folder: Path, model: str, **changes: Any) -> Run:
    from automodel.launch import finetune

    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"context": f"Bridge {i}.", "question": "Who built it?", "answers": {"text": ["Anna"], "answer_start": [0]}} for i in range(12)]
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe: dict[str, Any] = {
        "model": {"pretrained_model_name_or_path": model},
        "dataset": {"path_or_dataset": str(data), "split": "train[:8]"},
        "validation_dataset": {"path_or_dataset": str(data), "split": "train[8:]"},
        "samples": {"prompts": ["Who | built?"], "from_validation": 1, "max_new_tokens": 4},
        "step_scheduler": {"global_batch_size": 4, "local_batch_size": 4, "num_epochs": 2},
        "optimizer": {"lr": 1e-3},
        "run": {"folder": str(folder / "runs")},
    }
    return finetune({**recipe, **changes})


@pytest.fixture(scope="session")
def full_run(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Run:
    return train(tmp_path_factory.mktemp("full"), str(tiny_model_dir))


@pytest.fixture(scope="session")
def lora_run(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Run:
    return train(tmp_path_factory.mktemp("lora"), str(tiny_model_dir), peft={"dim": 4})


@pytest.fixture(scope="session")
def large_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose weights, 21 MB, go by LFS."""
    return make_llama(tmp_path_factory.mktemp("large"), vocab_size=40_960, hidden_size=64)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub at which huggingface_hub of this process points, with nobody logged in."""
    from huggingface_hub import constants

    with local_hub() as found:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", found.address)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nowhere/token")
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield found
