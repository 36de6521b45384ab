"""Answers of trained models are those of transformers and peft."""

from __future__ import annotations

import json
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from automodel.errors import RequestError
from automodel.launch import finetune
from automodel.run import Run
from automodel.tasks import generate, load_generator
from tests.conftest import CHAT_TEMPLATE, make_llama, make_tokenizer

Make = Callable[..., dict[str, Any]]
PROMPT = "Who built the bridge?"


def by_hand(model: Any, folder: Path, count: int) -> str:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    out = model.generate(ids, attention_mask=ids.new_ones(ids.shape), max_new_tokens=count, do_sample=False)
    return str(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))


@pytest.fixture
def tuned(recipe_dict: Make) -> Run:
    return finetune(recipe_dict(peft={"dim": 4}, optimizer={"lr": 0.05}, model={"torch_dtype": "float32"}))


@pytest.mark.both_ends
def test_an_adapter_answers_on_its_base_model(tuned: Run, tiny_model_dir: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    pieces: list[str] = []
    answer = generate(tuned, PROMPT, max_new_tokens=6, on_text=pieces.append)
    base = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
    plain = by_hand(base, tiny_model_dir, 6)
    folder = tuned.checkpoints[-1].model
    assert answer.text == by_hand(PeftModel.from_pretrained(base, folder), folder, 6)
    assert "".join(pieces) == answer.text
    assert (answer.model, answer.base) == (str(folder.resolve()), str(tiny_model_dir))
    before = generate(tuned, PROMPT, max_new_tokens=6, base=True)
    assert before.text == plain != answer.text
    assert (before.model, before.base) == (str(tiny_model_dir), None)


def test_a_run_is_found_by_folder_id_and_name(tuned: Run) -> None:
    root = tuned.path.parent
    texts = {generate(source, PROMPT, max_new_tokens=4, runs_root=root).text for source in (tuned.path, tuned.id, tuned.checkpoints[-1].path)}
    assert len(texts) == 1


def test_the_base_of_a_fully_trained_run_is_where_it_started(recipe_dict: Make, tiny_model_dir: Path) -> None:
    run = finetune(recipe_dict(model={"torch_dtype": "float32"}, step_scheduler={"max_steps": 1}))
    assert generate(run, PROMPT, max_new_tokens=2, base=True).model == str(tiny_model_dir)
    with pytest.raises(RequestError, match="base model is not known"):
        generate(tiny_model_dir, PROMPT, base=True)


def test_a_chat_template_is_used_unless_told_otherwise(tmp_path: Path) -> None:
    folder = make_llama(tmp_path / "chat")
    make_tokenizer(folder, chat_template=CHAT_TEMPLATE)
    assert generate(folder, "hi", max_new_tokens=1).rendered == "<|user|>hi</s><|assistant|>"
    assert generate(folder, "hi", max_new_tokens=1, chat=False).rendered == "hi"


def test_how_an_answer_shows(tiny_model_dir: Path) -> None:
    answer = generate(tiny_model_dir, PROMPT, max_new_tokens=3)
    assert str(answer) == answer.text
    assert answer.tokens == 3
    assert not answer.finished
    assert "cut off by max_new_tokens" in answer._repr_html_()
    assert json.loads(json.dumps(answer.as_dict()))["prompt"] == PROMPT
    assert (
        generate(tiny_model_dir, PROMPT, max_new_tokens=8, sample=True, seed=1).text
        == generate(tiny_model_dir, PROMPT, max_new_tokens=8, sample=True, seed=1).text
    )


@pytest.mark.both_ends
def test_a_model_is_loaded_once_for_several_prompts(tuned: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = [PROMPT, "When was it built?", PROMPT]
    drawing: dict[str, Any] = {"max_new_tokens": 8, "sample": True, "temperature": 1.5, "seed": 3}
    alone = [generate(tuned, prompt, **drawing).text for prompt in prompts]
    assert len(set(alone)) == 2
    loads: list[object] = []
    room = sys.modules["automodel.tasks.generate"]
    load = room._load

    def counted(found: object) -> object:
        loads.append(found)
        return load(found)

    monkeypatch.setattr(room, "_load", counted)
    with load_generator(tuned) as ask:
        together = [ask(prompt, **drawing) for prompt in prompts]
        parts = ask._parts
        assert parts is not None
        kept = weakref.ref(parts[0])
        del parts
    assert [one.text for one in together] == alone
    assert len(loads) == 1
    assert kept() is None, "its memory is free"
    assert "closed" in repr(ask)
    with pytest.raises(RequestError, match="closed"):
        ask(PROMPT)


def test_wrong_requests(tiny_model_dir: Path, tmp_path: Path) -> None:
    for source, words in ((tmp_path, "no model to take"), ("no-such-run", "no runs in")):
        with pytest.raises(RequestError, match=words):
            generate(source, PROMPT, runs_root=tmp_path)
    with pytest.raises(RequestError, match="at least one token"):
        generate(tiny_model_dir, PROMPT, max_new_tokens=0)
    with pytest.raises(RequestError, match="no chat template"):
        generate(tiny_model_dir, PROMPT, chat=True)
