"""The recipe form without a browser: values, drafts, methods, batches, texts both ways."""

from __future__ import annotations

import pytest

from automodel_widgets.state.recipe import RecipeState, preset, presets
from automodel_widgets.state.session import Session


@pytest.fixture
def state() -> RecipeState:
    made = RecipeState(Session(preset("demo_sft")))
    made.look()
    return made


def test_values_defaults_and_changes(state) -> None:
    assert state.recipe is not None
    assert state.shown("optimizer.lr") == "1e-3"
    assert state.shown("optimizer.weight_decay") == "0"
    assert state.changed("optimizer.lr")
    assert not state.changed("optimizer.name")
    assert state.counts()["Model"] == 1
    assert state.missing == []


def test_a_bound_is_kept_as_a_draft_and_states_the_range(state) -> None:
    state.set("optimizer.lr", "-1")
    assert "number > 0" in state.error("optimizer.lr")
    assert "1e-5 to 5e-5" in state.error("optimizer.lr")
    assert state.shown("optimizer.lr") == "-1"
    assert state.session.get("optimizer.lr") == 0.001
    state.set("optimizer.lr", "2e-4")
    assert not state.error("optimizer.lr")
    assert state.session.get("optimizer.lr") == 2e-4


def test_what_does_not_fit_together_is_taken_and_shown(state) -> None:
    state.set("step_scheduler.local_batch_size", "3")
    assert state.session.get("step_scheduler.local_batch_size") == 3
    assert "15 or 18" in state.error("step_scheduler.global_batch_size")
    assert state.recipe is None
    assert state.text("python") == ""
    assert "local_batch_size: 3" in state.text("yaml")
    state.set("step_scheduler.local_batch_size", "4")
    assert state.recipe is not None
    assert state.batch() == (16, 4, 4.0, 1)
    state.session.learn("processes", 2)
    assert state.batch() == (16, 4, 2.0, 2)


def test_a_default_that_is_typed_is_not_written(state) -> None:
    state.set("guards.nonfinite", "stop")
    assert state.session.get("guards") is None
    state.set("neftune.noise_alpha", "5")
    assert state.session.get("neftune.noise_alpha") == 5


def test_clipping_can_be_switched_off(state) -> None:
    state.set("clip_grad_norm.max_norm", "none")
    assert state.recipe is not None
    assert state.recipe.clip_grad_norm.max_norm is None
    assert state.shown("clip_grad_norm.max_norm") == "none"


def test_the_method_comes_and_goes_with_its_rate() -> None:
    state = RecipeState(Session({"model": {"pretrained_model_name_or_path": "tiny"}}))
    state.look()
    assert state.method == "full"
    state.choose_method("lora")
    assert (state.method, state.session.get("optimizer.lr")) == ("lora", 2e-4)
    assert state.notes
    state.set("peft.dim", "16")
    state.reset("peft.dim")
    assert state.method == "lora"
    state.choose_method("full")
    assert state.session.recipe == {"model": {"pretrained_model_name_or_path": "tiny"}}
    state.choose_method("qlora")
    assert state.method == "full"


def test_reset_all_and_undo(state) -> None:
    before = state.session.recipe
    state.reset_all()
    assert state.session.recipe == {}
    assert any("no model" in line for line in state.missing)
    state.undo()
    assert state.session.recipe == before
    state.reset("optimizer.lr")
    assert state.session.get("optimizer.lr") is None


def test_yaml_fills_the_form_and_keeps_its_comments(state) -> None:
    text = "# mine\n" + state.text("yaml").replace("seed: 42", "seed: 7")
    state.take_text("yaml", text)
    assert state.session.get("seed") == 7
    assert state.text("yaml") == text
    state.set("optimizer.lr", "3e-4")
    assert state.text("yaml").startswith("# mine\n")
    assert "lr: 0.0003" in state.text("yaml")


def test_a_text_that_does_not_fit_is_kept_with_its_lines(state) -> None:
    text = state.text("yaml").replace("lr:", "lrr:")
    state.take_text("yaml", text)
    assert state.text("yaml") == text
    line, what, fix = state.texts["yaml"].problems[0]
    assert text.splitlines()[line - 1].strip().startswith("lrr")
    assert "optimizer.lrr" in what
    assert "optimizer.lr?" in fix
    state.set("seed", "5")
    assert state.text("yaml") == text, "typing into a field loses no text"
    assert state.session.get("optimizer.lr") == 0.001
    state.drop_text("yaml")
    assert "seed: 5" in state.text("yaml")


def test_command_and_python_fill_the_form(state) -> None:
    state.take_text("command", state.text("command").replace("--seed 42", "--seed 9"))
    assert state.session.get("seed") == 9
    state.take_text("python", state.text("python").replace("seed=9", "seed=10"))
    assert state.session.get("seed") == 10
    state.take_text("python", "import os; os.remove('x')")
    assert state.texts["python"].problems[0][0] is None


def test_a_recipe_that_code_broke_is_shown(state) -> None:
    state.session.set("optimizer.lr", "much")
    state.look()
    assert state.recipe is None
    assert "does not fit" in state.error("optimizer.lr")


def test_presets_are_those_of_the_package() -> None:
    assert list(presets())[:2] == ["demo_sft", "demo_lora"]
    for name in presets():
        made = RecipeState(Session(preset(name)))
        made.look()
        assert made.recipe is not None
        assert made.missing == []
