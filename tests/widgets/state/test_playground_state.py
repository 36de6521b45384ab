"""The playground without a model: settings, answers as they come, what is kept, and where two texts differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from automodel.errors import RequestError
from automodel_widgets.state import playground
from automodel_widgets.state.playground import PlaygroundState, differences
from tests.widgets.fake_children import FakeChild
from tests.widgets.fake_runs import fake_run


def answer(side: str, index: int, text: str) -> dict[str, Any]:
    return {"kind": "answer", "side": side, "index": index, "text": text, "tokens": 2, "seconds": 0.1, "rendered": "<user>", "finished": True}


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlaygroundState:
    monkeypatch.setattr(playground, "Child", FakeChild)
    monkeypatch.setattr(FakeChild, "made", [])
    monkeypatch.setattr(FakeChild, "answers", {})
    return PlaygroundState(fake_run(tmp_path, points=(2, 4)))


def test_it_begins_with_the_best_checkpoint_and_the_prompts_of_the_recipe(state: PlaygroundState) -> None:
    assert state.checkpoint == "epoch_0_step_4"
    assert state.options() == {"epoch_0_step_4": "Step 4 (best, newest)", "epoch_0_step_2": "Step 2"}
    assert state.prompts == ["Who lives in the caves?"]


def test_answers_fill_in_as_they_come(state: PlaygroundState, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = [{"kind": "begin", "side": "base", "index": 0}, {"kind": "piece", "side": "base", "index": 0, "text": "A "}]
    monkeypatch.setattr(FakeChild, "answers", {"speak": [*pieces, answer("base", 0, "A bear"), answer("tuned", 0, "A badger")]})
    state.settings.change("temperature", "0.7")
    state.start()
    assert state.busy
    assert state.why_not() == "It is answering already"
    assert not state.poll()
    sides, prompts, settings = FakeChild.made[0].args
    assert [(name, base) for name, _, base in sides] == [("base", True), ("tuned", False)]
    assert prompts == ["Who lives in the caves?"]
    assert settings == {"max_new_tokens": 64, "seed": 0, "sample": True, "temperature": 0.7}
    result = state.results[0]
    assert (result.base.text, result.tuned.text, result.same) == ("A bear", "A badger", False)
    assert state.released
    assert state.peak == 300_000_000


def test_a_base_that_is_not_known_leaves_the_tuned_one(state: PlaygroundState, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = {"kind": "refused", "side": "base", "what": "The base model is not known.", "found": "", "expected": "", "fix": ""}
    monkeypatch.setattr(FakeChild, "answers", {"speak": [refused, answer("tuned", 0, "A badger")]})
    state.start()
    state.poll()
    assert state.refused["base"]["what"] == "The base model is not known."
    assert (state.results[0].base.state, state.results[0].tuned.state, state.results[0].same) == ("refused", "done", None)


def test_cancel_leaves_what_was_written(state: PlaygroundState) -> None:
    state.start()
    state.cancel()
    assert not state.busy
    assert {state.results[0].base.state, state.results[0].tuned.state} == {"cancelled"}


def test_settings_say_what_they_take(state: PlaygroundState) -> None:
    for name, bad in (("max_new_tokens", "0"), ("max_new_tokens", "x"), ("temperature", "-1"), ("temperature", "nan"), ("seed", "1.5")):
        with pytest.raises(RequestError, match=name.split("_")[0]):
            state.settings.change(name, bad)
    assert state.settings.options() == {"max_new_tokens": 64, "seed": 0}


def test_kept_answers_are_found_again_and_name_no_place(state: PlaygroundState, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeChild, "answers", {"speak": [answer("base", 0, "same"), answer("tuned", 0, "same")]})
    state.start()
    state.poll()
    report = state.run.report()
    kept = state.keep()
    assert "Base model and tuned model" in report.read_text(), "a report that is there shows them at once"
    assert kept.name == "samples.json"
    assert str(state.run.path) not in kept.read_text()
    again = PlaygroundState(state.run)
    assert again.results[0].as_dict() == state.results[0].as_dict()
    assert again.results[0].same
    assert again.answered["step"] == 4
    kept.write_text('{"results": [{}]}')
    assert PlaygroundState(state.run).results == []


def test_nothing_to_ask_is_said(state: PlaygroundState, tmp_path: Path) -> None:
    state.write("  \n \n")
    assert state.why_not() == "Write a prompt first"
    with pytest.raises(RequestError):
        state.start()
    assert PlaygroundState(fake_run(tmp_path, "bare")).why_not() == "The run has no whole checkpoint yet"


def test_differences_are_marked_word_by_word() -> None:
    left, right = differences("A bear lives here.", "A badger lives here.")
    assert [piece for piece, differs in left if differs] == ["bear"]
    assert [piece for piece, differs in right if differs] == ["badger"]
    assert "".join(piece for piece, _ in left) == "A bear lives here."
    assert differences("", "") == ([], [])


def test_a_prompt_may_have_several_lines(state: PlaygroundState) -> None:
    state.write("one\n\n two \n")
    assert state.prompts == ["one", "two"]
    assert state.written == "one\ntwo"
    state.write("A badger.\n\nWhere?\n---\nshort\n---\n")
    assert state.prompts == ["A badger.\n\nWhere?", "short"]
    for prompts in (["a\nb"], ["a\nb", "c"], ["a", "b"]):
        state.prompts = prompts
        state.write(state.written)
        assert state.prompts == prompts


def test_prompts_are_taken_from_the_data_of_the_run(state: PlaygroundState, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeChild, "answers", {"rows": [{"kind": "rows", "prompts": ["A badger.\n\nWhere?"]}]})
    state.take_rows()
    assert state.busy
    assert not state.poll()
    assert state.prompts == ["A badger.\n\nWhere?"]
    assert not state.released
    assert state.results == []


def test_rows_become_prompts_without_their_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from automodel.demo.files import HELD_OUT, MODEL, TRAIN
    from automodel_widgets.state import heavy

    monkeypatch.chdir(tmp_path)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"recipe: TrainFinetuneRecipeForNextTokenPrediction\nmodel: {{pretrained_model_name_or_path: {MODEL}}}\n"
        f"dataset: {{path_or_dataset: {TRAIN}}}\nvalidation_dataset: {{path_or_dataset: {HELD_OUT}}}\n"
    )
    sent: list[dict[str, Any]] = []
    heavy.rows(sent.append, str(recipe), str(tmp_path), 2)
    first, second = sent[0]["prompts"]
    assert first.endswith("Answer:")
    assert "\nQuestion: " in second


def test_texts_with_little_in_common_are_not_marked() -> None:
    assert differences("one two three", "one two four")[1] == [("one two ", False), ("four", True)]
    assert differences("one two three", "vier fuenf sechs") == ([("one two three", False)], [("vier fuenf sechs", False)])


def test_conversations_give_no_prompts_and_the_error_says_why(tmp_path: Path) -> None:
    import json

    from automodel.demo.files import MODEL
    from automodel.errors import DataError
    from automodel_widgets.state import heavy

    said = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "A badger."}]
    (tmp_path / "rows.jsonl").write_text(json.dumps({"messages": said}) + "\n")
    (tmp_path / "template.jinja").write_text(
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"recipe: TrainFinetuneRecipeForNextTokenPrediction\nmodel: {{pretrained_model_name_or_path: {MODEL}}}\n"
        f"dataset: {{name: chat, path_or_dataset: {tmp_path / 'rows.jsonl'}, chat_template: {tmp_path / 'template.jinja'}}}\n"
    )
    with pytest.raises(DataError, match="one message of a user") as raised:
        heavy.rows(lambda _message: None, str(recipe), None, 2)
    assert raised.value.expected == "rows with a plain prompt"
