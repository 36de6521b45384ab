"""What is shown is what is trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from automodel.errors import DataError, RequestError
from automodel.recipe import recipe_from_dict
from automodel.tasks import preview
from automodel.tasks.preflight import preflight

Make = Callable[..., dict[str, Any]]


@pytest.mark.both_ends
def test_the_rows_are_those_that_a_job_trains_on(recipe_dict: Make) -> None:
    data = recipe_dict(dataset={"seq_length": 64})
    found = preview(data, n=2)
    ready = preflight(recipe_from_dict(data).recipe)
    assert [row.index for row in found.rows] == [0, 1]
    for number, row in enumerate(found.rows):
        assert list(found.ids[number]) == ready.training.input_ids(number).tolist()
        labels = ready.training.labels(number)
        assert [on for _, on in row.tokens] == [bool(label != -100) for label in labels]
        assert row.text == ready.tokenizer.decode(found.ids[number])
    assert found.report == ready.training.report
    assert found.rows[0].trained_text == " 1800</s>"


def test_the_text_marks_what_is_trained_with_and_without_colour(recipe_dict: Make) -> None:
    found = preview(recipe_dict(), n=1)
    assert "Answer:⟦ 1800</s>⟧" in str(found)
    assert ' ⟦"' in str(found)
    assert '"</s>"⟧\n' in str(found)
    assert "\x1b" not in str(found)
    coloured = found.text(colour=True)
    assert "\x1b[1;32m⟦ 1800</s>⟧\x1b[0m" in coloured
    assert "40 of 40 rows" in coloured
    html = found._repr_html_()
    assert "<mark title='trained on'>⟦ 1800&lt;/s&gt;⟧</mark>" in html
    assert "<script" not in html


def test_json_holds_every_token(recipe_dict: Make) -> None:
    row = json.loads(json.dumps(preview(recipe_dict(), rows=[3]).as_dict()))["rows"][0]
    assert row["index"] == 3
    assert len(row["tokens"]) == row["token_count"]
    assert sum(token["trained"] for token in row["tokens"]) == row["trained_count"]
    assert "".join(token["text"] for token in row["tokens"]) == row["text"]


def test_worst_rows_and_truncation_are_told(recipe_dict: Make) -> None:
    found = preview(recipe_dict(dataset={"seq_length": 40}))
    assert found.report.truncated == 40
    assert "40 cut to seq_length" in str(found)
    whole = preview(recipe_dict())
    lengths = [len(preview(recipe_dict(), rows=[row]).ids[0]) for row in (whole.longest, 0)]
    assert lengths[0] >= lengths[1]


def test_a_validation_set_is_shown_by_its_name(recipe_dict: Make, rows_file: Path) -> None:
    data = recipe_dict(validation_dataset={"path_or_dataset": str(rows_file), "split": "train[:5]"})
    found = preview(data, of="validation")
    assert found.report.rows_kept == 5
    assert "40 of 40 rows" in found.others["training"]
    with pytest.raises(RequestError, match="no such set"):
        preview(data, of="test")
    with pytest.raises(RequestError, match="no such row"):
        preview(data, rows=[40])


def test_data_alone(rows_file: Path, tiny_tokenizer_dir: Path) -> None:
    from automodel.auto import NeMoAutoTokenizer
    from automodel.data import build_dataset
    from automodel.recipe.schema import DatasetSection

    tokenizer = NeMoAutoTokenizer.from_pretrained(tiny_tokenizer_dir)
    section = DatasetSection(path_or_dataset=str(rows_file))
    shown = {str(preview(given, tokenizer=tokenizer)) for given in (rows_file, section, build_dataset(section, tokenizer))}
    assert len(shown) == 1
    with pytest.raises(RequestError, match="say nothing about tokens"):
        preview(rows_file)


def test_a_set_without_a_trained_token_is_refused(recipe_dict: Make, tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text(json.dumps({"context": "c", "question": "q", "answers": {"text": [], "answer_start": []}}) + "\n")
    with pytest.raises(DataError, match="no token to train on"):
        preview(recipe_dict(dataset={"path_or_dataset": str(empty)}))


def test_other_rows_of_the_same_look_are_those_of_a_new_one(recipe_dict: Make) -> None:
    found = preview(recipe_dict(), n=1)
    again = found.at([5, 2])
    assert again == preview(recipe_dict(), rows=[5, 2])
    assert [row.index for row in again.rows] == [5, 2]
    with pytest.raises(RequestError, match="no such set"):
        found.at([0], of="nothing")


def test_every_row_is_in_the_lengths_and_the_worst_come_first(recipe_dict: Make) -> None:
    data = preview(recipe_dict(), n=40).as_dict()
    assert sum(rows for _, rows in data["lengths"]) == data["report"]["rows_kept"]
    assert sum(tokens * rows for tokens, rows in data["lengths"]) == data["report"]["tokens"]
    shares = [row["trained_count"] / row["token_count"] for row in data["worst_rows"]]
    assert shares == sorted(shares)
    assert data["worst_rows"][0]["index"] == data["worst"]["least_trained"]
    assert min(row["trained_count"] / row["token_count"] for row in data["rows"]) == shares[0]
