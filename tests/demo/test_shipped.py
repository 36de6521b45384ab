"""What the package ships for the demo: small, valid, and with a clean split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from automodel.demo.build import question_sets
from automodel.demo.files import FOLDER, HELD_OUT, MODEL, TRAIN
from automodel.demo.world import load_kinds, squad_json

EIGHT_MB = 8_000_000


def articles(path: Path) -> list[dict[str, Any]]:
    return list(json.loads(path.read_text(encoding="utf-8"))["data"])


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def test_the_package_data_are_small() -> None:
    assert size(FOLDER) <= EIGHT_MB


@pytest.mark.parametrize("path", [TRAIN, HELD_OUT], ids=lambda path: path.stem)
def test_answers_stand_where_the_file_says(path: Path) -> None:
    seen = set()
    for article in articles(path):
        for paragraph in article["paragraphs"]:
            for row in paragraph["qas"]:
                (answer,) = row["answers"]
                start = answer["answer_start"]
                assert paragraph["context"][start : start + len(answer["text"])] == answer["text"]
                assert row["question"].endswith("?")
                assert row["id"] not in seen
                seen.add(row["id"])
    assert len(seen) >= (2000 if path == TRAIN else 300)


def test_held_out_articles_share_nothing_with_the_training_ones() -> None:
    def parts(path: Path) -> tuple[set[str], set[str], set[str]]:
        rows = articles(path)
        titles = {row["title"] for row in rows}
        sentences = {text for row in rows for part in row["paragraphs"] for text in part["context"].replace("? ", ". ").split(". ")}
        questions = {question["question"] for row in rows for part in row["paragraphs"] for question in part["qas"]}
        return titles, sentences, questions

    for one, other in zip(parts(TRAIN), parts(HELD_OUT), strict=True):
        assert one
        assert not one & other


def test_the_files_are_what_the_generator_makes() -> None:
    for path, made in zip((TRAIN, HELD_OUT), question_sets(load_kinds()), strict=True):
        assert json.loads(path.read_text(encoding="utf-8")) == squad_json(made)


@pytest.mark.both_ends
def test_the_model_loads_in_plain_transformers() -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    text = json.loads(HELD_OUT.read_text(encoding="utf-8"))["data"][0]["paragraphs"][0]["context"]
    ids = tokenizer(text, return_tensors="pt")
    assert tokenizer.decode(ids["input_ids"][0]) == text
    assert tokenizer.eos_token_id == model.config.eos_token_id == 0
    assert tokenizer.pad_token_id == 1
    with torch.no_grad():
        loss = model(**ids, labels=ids["input_ids"]).loss.item()
    # A model that knows nothing has ln(3072) = 8.0.
    assert loss < 5
