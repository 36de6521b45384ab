"""Rows that are too long: what is cut, what is dropped, and what is counted."""

from __future__ import annotations

import pytest

from automodel.data import build_dataset
from automodel.data.encode import Spans, shorten
from automodel.errors import DataError
from tests.data.conftest import ROWS, section


@pytest.mark.both_ends
@pytest.mark.parametrize("chat", [False, True])
def test_the_context_is_cut_from_its_left(tokenizers, jsonl, chat):
    tokenizer = tokenizers(chat)
    whole = build_dataset(section(jsonl()), tokenizer)
    limit = int(whole.lengths[0]) - 8
    data = build_dataset(section(jsonl(), seq_length=limit), tokenizer)
    text = tokenizer.decode(data.input_ids(0).tolist())
    assert data.lengths[0] == limit
    assert data.report.truncated == (whole.lengths > limit).sum() >= 1
    assert "Who built it?" in text
    assert text.startswith("<|user|>") == chat
    assert "The bridge" not in text
    assert data.labels(0)[data.labels(0) != -100].tolist() == whole.labels(0)[whole.labels(0) != -100].tolist()
    # What is left is the row's own tokens in their order.
    rest = iter(whole.input_ids(0).tolist())
    assert all(token in rest for token in data.input_ids(0).tolist())


def test_order_of_cutting():
    # head 0, prompt 1-9 with context 3-6, answer 10-12, tail 13-14
    span = Spans(list(range(15)), 1, (3, 7), 10, 13)
    assert shorten(span, 13).ids == list(range(13))
    assert shorten(span, 11).ids == [0, 1, 2, 5, 6, 7, 8, 9, 10, 11, 12]
    assert shorten(span, 7).ids == [0, 7, 8, 9, 10, 11, 12]
    assert shorten(span, 5).ids == [0, 9, 10, 11, 12]
    assert (shorten(span, 5).answer, shorten(span, 5).end) == (2, 5)
    # The answer alone does not fit: half of the row stays prompt.
    tight = shorten(span, 3)
    assert tight.ids == [0, 9, 10]
    assert (tight.answer, tight.end) == (2, 3)
    assert shorten(span, 1).ids == [0]


@pytest.mark.parametrize("limit", range(2, 60))
def test_no_row_is_longer_than_the_limit(plain, jsonl, limit):
    data = build_dataset(section(jsonl(), seq_length=limit), plain)
    assert data.lengths.max() <= limit
    assert data.supervised.min() >= 1
    assert data.report.rows_kept == 3


def test_without_truncation_long_rows_are_dropped_and_counted(plain, jsonl):
    whole = build_dataset(section(jsonl()), plain)
    limit = int(sorted(whole.lengths)[1])
    data = build_dataset(section(jsonl(), seq_length=limit, truncation=False), plain)
    assert (data.report.dropped_too_long, data.report.rows_kept, data.report.truncated) == (1, 2, 0)
    with pytest.raises(DataError, match="no token to train on: all 3 rows") as caught:
        build_dataset(section(jsonl(), seq_length=5, truncation="do_not_truncate"), plain)
    assert "3 longer than seq_length" in caught.value.found
    assert "seq_length (now 5)" in caught.value.fix


def test_a_set_without_trained_token_is_refused_with_counts(plain, jsonl):
    with pytest.raises(DataError, match="The validation data hold no token to train on") as caught:
        build_dataset(section(jsonl(), seq_length=1), plain, role="validation")
    assert "3 with all labels masked" in caught.value.found
    assert "larger dataset.seq_length" in caught.value.fix


def test_rows_without_answer_are_dropped_and_counted(plain, jsonl):
    rows = [
        *ROWS,
        {"context": "c", "question": "q", "answers": {"text": [], "answer_start": []}},
        {"context": "c", "question": "q", "answers": [" "]},
    ]
    data = build_dataset(section(jsonl(rows)), plain)
    assert (data.report.rows_read, data.report.rows_kept, data.report.dropped_no_answer) == (5, 3, 2)
    assert "2 without an answer" in str(data.report)
    with pytest.raises(DataError, match="all 2 rows were dropped"):
        build_dataset(section(jsonl(rows[3:])), plain)


def test_padding_to_max_length_needs_a_length(plain, jsonl):
    with pytest.raises(DataError, match="padding: max_length needs a length"):
        build_dataset(section(jsonl(), padding="max_length"), plain)
    assert build_dataset(section(jsonl(), padding="max_length", seq_length=64), plain).row_length == 64
