"""The data panel's view-model: shares, bins, packing, what blocks the launch."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from automodel.errors import DataError
from automodel_widgets.state.data import ENDS, LONG, DataState, image_words, kinds, packing, percent, relevant, roles, stretches, why_not

RECIPE = {"model": {"pretrained_model_name_or_path": "m"}, "dataset": {"path_or_dataset": "d.json", "seq_length": 64}, "optimizer": {"lr": 1}}


def answer(**changes: Any) -> dict[str, Any]:
    report = {
        "rows_read": 12,
        "rows_kept": 10,
        "dropped_no_label": 1,
        "dropped_too_long": 0,
        "dropped_no_answer": 1,
        "truncated": 3,
        "tokens": 400,
        "supervised_tokens": 40,
        "template": "plain",
        "dropped_invalid": 0,
        "rewritten": 0,
    }
    tokens = [{"id": 1, "text": "Q", "trained": False}, {"id": 2, "text": "A", "trained": True}]
    row = {"index": 0, "text": "QA", "trained_text": "A", "token_count": 2, "trained_count": 1, "tokens": tokens}
    worst = [{"index": at, "token_count": 40, "trained_count": at} for at in range(10)]
    made = {
        "set": "training",
        "report": report,
        "rows": [row],
        "others": {"validation": "3 rows"},
        "lengths": [[30, 5], [50, 5]],
        "worst_rows": worst,
    }
    return {**made, **changes}


def ready() -> DataState:
    state = DataState()
    state.take(RECIPE, answer())
    return state


def test_counts_and_remarks() -> None:
    state = ready()
    assert state.tiles()["Share trained"] == "10.0 %"
    assert state.tiles()["Left out"] == "2"
    assert any("3 of 12 rows: cut to the limit" in line for line in state.remarks())
    assert (state.quantile(0.5), state.quantile(0.9), state.pages, state.sets) == (30, 50, 2, ["training", "validation"])


def test_remarks_on_conversations() -> None:
    state = DataState()
    state.take(RECIPE, answer(report={**answer()["report"], "template": "chat", "dropped_invalid": 4, "rewritten": 5}))
    assert state.tiles()["Left out"] == "6"
    said = " ".join(state.remarks())
    assert "4 of 12 rows: left out, because they cannot be read" in said
    assert "3 of 12 rows: cut to the limit, oldest turns first" in said
    assert "5 of 12 rows: only their last answers are trained on" in said


def test_few_trained_tokens_are_remarked() -> None:
    state = DataState()
    state.take(RECIPE, answer(report={**answer()["report"], "supervised_tokens": 4}))
    assert "Only 1.0 %" in state.remarks()[-1]


def test_facts_block_the_launch() -> None:
    state = ready()
    facts = state.facts(RECIPE)
    assert facts is not None
    assert facts["state"] == "ready"
    assert facts["trained"] == 40
    assert state.facts({**RECIPE, "dataset": {"path_or_dataset": "other"}}) is None
    assert state.facts({**RECIPE, "optimizer": {"lr": 2}}) == facts
    state.take(RECIPE, answer(report={**answer()["report"], "supervised_tokens": 0}))
    assert state.nothing_to_train
    assert (state.facts(RECIPE) or {})["state"] == "blocked"


def test_an_error_blocks_the_launch_too() -> None:
    state = DataState()
    state.fail(RECIPE, DataError("The training data hold no token to train on: all 5 rows were dropped.", fix="give answers"))
    assert state.nothing_to_train
    assert state.facts(RECIPE) == {
        "state": "blocked",
        "why": "The training data hold no token to train on: all 5 rows were dropped.",
        "fix": "give answers",
    }
    state.fail(RECIPE, DataError("The data file does not exist."))
    assert not state.nothing_to_train
    assert (state.facts(RECIPE) or {})["state"] == "blocked"


def test_which_rows_are_asked_for() -> None:
    state = ready()
    state.page = 1
    assert state.wanted() == {"rows": [8, 9], "of": "training"}
    state.order, state.page = "worst", 0
    assert state.wanted()["rows"] == [0, 1, 2, 3, 4, 5, 6, 7]


def test_bins_hold_every_row() -> None:
    state = DataState()
    state.take(RECIPE, answer(lengths=[[tokens, 2] for tokens in range(10, 110)]))
    bins = state.histogram()
    assert sum(count for _, _, count in bins) == 200
    assert len(bins) <= 16
    assert bins[0][0] == 10
    assert all(one[1] + 1 == other[0] for one, other in itertools.pairwise(bins))
    state.take(RECIPE, answer(lengths=[[7, 3]]))
    assert state.histogram() == [(7, 7, 3)]


def test_packing_by_best_fit() -> None:
    found = packing([(50, 10), (100, 10)], 150, 4)
    assert (found.packs, found.packed_waste, found.too_long) == (10, 0.0, 0)
    assert packing([(50, 3)], 120, 1).packs == 2
    assert packing([(60, 2), (30, 1), (200, 4)], 100, 1).too_long == 4
    assert packing([(5, 8)], 100, 8).padded_waste == 0.0
    # Of two rows, one of 10 and one of 30 tokens drawn at random, the longer has 25 on average.
    assert packing([(10, 1), (30, 1)], 100, 2).padded_waste == pytest.approx(1 - 20 / 25)


def test_packing_takes_the_length_of_the_recipe() -> None:
    state = ready()
    assert state.packing(RECIPE).length == 64
    assert state.packing({**RECIPE, "packed_sequence": {"packed_sequence_size": 500}}).length == 500
    assert state.packing({"dataset": {}, "step_scheduler": {"local_batch_size": 2}}).batch == 2


def test_long_ignored_runs_are_shown_by_their_ends() -> None:
    tokens = [{"id": 0, "text": "x", "trained": False}] * (LONG + 1) + [{"id": 1, "text": "y", "trained": True}]
    found = stretches(tokens)
    assert [(on, len(pieces), skipped) for on, pieces, skipped in found] == [(False, ENDS, LONG + 1 - 2 * ENDS), (False, ENDS, 0), (True, 1, 0)]


def test_what_is_missing_before_a_look() -> None:
    assert why_not({}) == "Choose a dataset first"
    assert "model" in str(why_not({"dataset": {"path_or_dataset": "d"}}))
    assert why_not(RECIPE) is None
    assert why_not({**RECIPE, "dataset": {"name": "mock"}}) is None
    assert "block" in str(why_not({**RECIPE, "dataset": {"name": "text", "path_or_dataset": "d"}}))
    assert set(relevant(RECIPE)) == {"model", "dataset"}


def test_percent() -> None:
    assert [percent(share) for share in (0.0, 0.0001, 0.037, 1.0)] == ["0.0 %", "under 0.1 %", "3.7 %", "100 %"]


IMAGES = {**RECIPE, "recipe": "FinetuneRecipeForVLM"}


def test_the_tokens_of_an_image_are_one_run_each() -> None:
    def piece(**more: Any) -> dict[str, Any]:
        return {"id": 1, "text": "x", "trained": False, **more}

    tokens = [piece(), *(piece(image=0) for _ in range(LONG + 40)), *(piece(image=1) for _ in range(3)), piece(), piece(trained=True)]
    found = stretches(tokens)
    assert [(trained, len(run), left_out) for trained, run, left_out in found] == [
        (False, 1, 0),
        (False, LONG + 40, 0),
        (False, 3, 0),
        (False, 1, 0),
        (True, 1, 0),
    ]
    assert image_words(0, {"tokens": 1256}) == "image 1, 1,256 tokens"
    assert image_words(1, {"tokens": 1}) == "image 2, 1 token"


def test_a_job_on_images_and_text_offers_what_holds_images() -> None:
    assert set(kinds(RECIPE)) == {"squad", "column_mapped", "text", "chat", "mock"}
    assert set(kinds({**IMAGES, "dataset": {"name": "chat"}})) == {"chat", "column_mapped"}
    # the default is shown, and refused with a reason: what is chosen must not change by itself
    assert "squad" in kinds(IMAGES)
    assert list(roles(IMAGES)) == ["image", "context", "question", "answer"]
    assert list(roles(RECIPE)) == ["context", "question", "answer"]
