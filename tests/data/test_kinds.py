"""Plain text, mock data and own data sets."""

from __future__ import annotations

import numpy as np
import pytest

from automodel.data import build_dataset, data_report, preview_rows
from automodel.errors import DataError
from automodel.recipe.schema import DatasetSection
from tests.data.conftest import section


def good(tokenizer=None, size: int = 2, split: str = "train"):
    row = {"input_ids": [5, 6, 7, 8], "labels": [-100, -100, 7, 8], "attention_mask": [1, 1, 1, 0]}
    return [{**row, "input_ids": [len(split), *row["input_ids"][1:]]} for _ in range(size if tokenizer is not None else 0)]


def masked():
    return [{"input_ids": [5, 6], "labels": [-100, -100]}]


def crooked():
    return [{"input_ids": [5, 6], "labels": [5]}]


def unlabelled():
    return [{"input_ids": [5, 6]}]


class Mapped:
    """A map-style data set without __iter__."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return {"input_ids": np.arange(10, 16), "labels": np.arange(10, 16)}


number = 3


def own(name: str, **fields) -> DatasetSection:
    return DatasetSection(target=f"{__name__}.{name}", **fields)


@pytest.mark.both_ends
def test_text_is_joined_with_eos_and_cut_into_blocks(plain, tmp_path):
    path = tmp_path / "book.txt"
    path.write_text("The bridge is\nmade of stone.\n\n\nThe ferry leaves at noon.\n")
    data = build_dataset(section(path, name="text", seq_length=8), plain)
    wanted = []
    for text in ("The bridge is\nmade of stone.", "The ferry leaves at noon."):
        wanted += [*plain(text, add_special_tokens=False)["input_ids"], plain.eos_token_id]
    assert np.concatenate([data.input_ids(i) for i in range(len(data))]).tolist() == wanted
    assert set(data.lengths[:-1].tolist()) == {8}
    assert all((data.labels(i) == data.input_ids(i)).all() for i in range(len(data)))
    assert data.report.rows_read == 2
    assert data.report.template == "none"


def test_text_columns_and_their_errors(plain, jsonl):
    rows = [{"body": "one stone"}, {"body": None}, {"body": "noon"}]
    data = build_dataset(section(jsonl(rows), name="text", text_column="body", seq_length=64), plain)
    assert plain.decode(data.input_ids(0).tolist()) == "one stone</s>noon</s>"
    assert data.report.dropped_no_answer == 1
    with pytest.raises(DataError, match="no column 'text'"):
        build_dataset(section(jsonl(rows), name="text", seq_length=64), plain)
    with pytest.raises(DataError, match="block length"):
        build_dataset(section(jsonl(rows), name="text"), plain)


def test_mock_data_depend_on_the_seed_only(plain):
    fields = {"name": "mock", "num_samples": 5, "seq_length": 7, "vocab_size": 50}
    first, again, other = (build_dataset(DatasetSection(**fields, seed=seed), plain) for seed in (1, 1, 2))
    rows = [[data.input_ids(i).tolist() for i in range(5)] for data in (first, again, other)]
    assert rows[0] == rows[1] != rows[2]
    assert max(map(max, rows[0])) < 50
    assert first.supervised.tolist() == [6] * 5
    assert rows[0][0][:3] == [27, 36, 35]
    with pytest.raises(DataError, match="mock training data need a size"):
        build_dataset(DatasetSection(name="mock"), plain)


def test_own_targets(plain):
    data = build_dataset(own("good", kwargs={"size": 4}, split="train[:5]", limit_dataset_samples=3), plain)
    assert len(data) == 3
    # The masked-out padding is gone, and the split was handed over.
    assert data.input_ids(0).tolist() == [9, 6, 7]
    assert data.labels(0).tolist() == [-100, -100, 7]
    assert len(build_dataset(own("Mapped"), plain)) == 3
    assert build_dataset(own("Mapped", seq_length=4), plain).report.truncated == 3


def test_own_targets_that_do_not_fit_say_why(plain):
    cases = [
        ("masked", {}, "no token to train on"),
        ("crooked", {}, "do not fit together"),
        ("unlabelled", {}, "not both input_ids and labels"),
        ("nowhere", {}, "cannot be imported"),
        ("number", {}, "cannot be called"),
        ("masked", {"split": "train"}, "does not take 'split'"),
        ("good", {"kwargs": {"colour": 1}}, "wrong arguments"),
    ]
    for name, fields, words in cases:
        with pytest.raises(DataError, match=words):
            build_dataset(own(name, **fields), plain)
    with pytest.raises(DataError, match="cannot be imported"):
        build_dataset(DatasetSection(target="no.such.module"), plain)


@pytest.mark.both_ends
def test_preview_shows_text_and_mask(tokenizers, jsonl):
    row = {"context": "Straße 日本 🙂", "question": "Wo?", "answers": ["日本 🙂"]}
    for chat in (False, True):
        data = build_dataset(section(jsonl([row])), tokenizers(chat))
        shown = preview_rows(data, tokenizers(chat), 5)
        assert len(shown) == 1
        assert shown[0].text == tokenizers(chat).decode(data.input_ids(0).tolist())
        assert shown[0].trained_text.strip() == "日本 🙂</s>"
        assert shown[0].trained_count == sum(trained for _, trained in shown[0].tokens) == data.supervised[0]
        assert "1 of 1 rows" in data_report(data)


def test_rows_are_views_with_bounds(plain, jsonl):
    data = build_dataset(section(jsonl()), plain)
    assert data[-1]["input_ids"].tolist() == data[2]["input_ids"].tolist()
    assert len([data[i] for i in range(len(data))]) == 3
    with pytest.raises(IndexError):
        data[3]
    with pytest.raises(ValueError, match="keep_text=True"):
        data.example(0)
