"""Tokenizers and small files for the tests of the data room."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from automodel.recipe.schema import DatasetSection
from tests.conftest import CHAT_TEMPLATE, make_tokenizer

ROWS = [
    {
        "context": "The bridge of Harrow was built in 1821 by Anna Vell.",
        "question": "Who built it?",
        "answers": {"text": ["Anna Vell"], "answer_start": [38]},
    },
    {"context": "The ferry leaves at noon.", "question": "When does it leave?", "answers": {"text": ["at noon", "noon"], "answer_start": [17, 20]}},
    {"context": "It is made of stone.", "question": "What is it made of?", "answers": {"text": ["stone"], "answer_start": [14]}},
]


def load(folder: Path) -> Any:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast.from_pretrained(folder)


@pytest.fixture(scope="session")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Return tokenizer(chat, pad_is_eos), made once."""
    made: dict[tuple[bool, bool], Any] = {}

    def get(chat: bool = False, pad_is_eos: bool = False) -> Any:
        if (chat, pad_is_eos) not in made:
            folder = make_tokenizer(tmp_path_factory.mktemp("tok"), chat_template=CHAT_TEMPLATE if chat else None, pad_is_eos=pad_is_eos)
            made[chat, pad_is_eos] = load(folder)
        return made[chat, pad_is_eos]

    return get


@pytest.fixture
def plain(tokenizers: Callable[..., Any]) -> Any:
    return tokenizers()


@pytest.fixture
def jsonl(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes rows as JSONL."""

    def write(rows: list[Any] = ROWS, name: str = "rows.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n", encoding="utf-8")
        return path

    return write


def section(path: Path | str | None, **fields: Any) -> DatasetSection:
    return DatasetSection(path_or_dataset=str(path) if path is not None else None, **fields)
