"""The launcher without a browser: checks with reasons, and what is missing."""

from __future__ import annotations

from pathlib import Path

from automodel.errors import DataError, JobFailed, ModelError, RequestError
from automodel_widgets.state.launch import LaunchState, check_output, check_recipe, executor_why_not, from_error, from_plan, missing, root_of
from tests.widgets.state.plans import RECIPE, plan


def test_all_checks_are_good(tmp_path) -> None:
    state = LaunchState()
    state.begin("asked")
    assert state.open
    made, found = check_recipe(RECIPE, 1)
    assert made is not None
    state.put(found, check_output(tmp_path), *from_plan(plan(), 5000, tmp_path))
    assert state.ready("asked")
    assert not state.ready("changed")
    assert state.stale("changed")
    assert all(check.text for check in state.checks.values())


def test_a_recipe_that_cannot_be_dealt_out_says_what_to_do() -> None:
    made, found = check_recipe(RECIPE, 3)
    assert made is None
    assert found.state == "bad"
    assert "global_batch_size" in found.fix
    assert check_recipe({}, 1)[1].state == "bad"
    assert "not" in check_recipe({**RECIPE, "fp8": {"enabled": True}}, 1)[1].text


def test_memory_data_and_disk(tmp_path) -> None:
    found = {check.name: check for check in from_plan(plan(label_tokens_per_step=0), 900, tmp_path)}
    assert found["data"].state == "bad"
    assert found["memory"].state == "bad"
    assert "Memory tab" in found["memory"].fix
    assert {check.name: check.state for check in from_plan(plan(), 1100, tmp_path)}["memory"] == "warn"
    full = {check.name: check for check in from_plan(plan(checkpoint_bytes=10**18), 5000, tmp_path)}
    assert full["disk"].state == "bad"


def test_an_output_that_cannot_be_written(tmp_path) -> None:
    file = tmp_path / "file"
    file.write_text("x", encoding="utf-8")
    assert check_output(file / "runs").state == "bad"
    assert not (tmp_path / "runs").exists()
    assert check_output(tmp_path / "runs").state == "good"
    assert not (tmp_path / "runs").exists(), "looking writes nothing"


def test_errors_go_to_the_check_that_they_are_about() -> None:
    assert from_error(DataError("No rows.", fix="give some")).name == "data"
    assert from_error(ModelError("No config.")).name == "model"
    assert from_error(RequestError("No LoRA target matches.")).name == "model"
    assert from_error(JobFailed("The helper process ended without an answer.")).name == "memory"
    assert from_error(DataError("No rows.", fix="give some")).fix == "give some"


def test_what_is_missing_before_anything_is_checked() -> None:
    assert missing({}, {}) == "choose a model"
    assert missing({"model": {"config": "x"}}, {}) == "choose a dataset"
    assert missing(RECIPE, {"data": {"state": "blocked", "why": "x", "fix": "y"}}) == "the data hold nothing to train on"
    assert missing(RECIPE, {"data": {"state": "ready"}}) is None


def test_the_root_of_the_recipe_goes_before_that_of_the_workbench(tmp_path) -> None:
    assert root_of(RECIPE, tmp_path) == tmp_path
    assert root_of({**RECIPE, "run": {"folder": str(tmp_path / "own")}}, Path("x")) == tmp_path / "own"


def test_executors() -> None:
    assert executor_why_not("local") is None
    assert "not in this version" in str(executor_why_not("slurm"))
