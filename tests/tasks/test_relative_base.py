"""A relative path in a recipe means the same wherever the run is read from: it counts from where the run was launched."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from automodel.checkpoint import export, merge_adapter
from automodel.errors import ModelError, RequestError
from automodel.hub import model_card
from automodel.hub.check import check_folder
from automodel.hub.source import find_source, origin_of
from automodel.launch import finetune
from automodel.launch.start import _working_folder
from automodel.run import Run, RunFolder, find_base, run_around
from automodel.tasks import generate

Make = Callable[..., dict[str, Any]]
PROMPT = "Who built the bridge?"


@pytest.fixture
def launched(tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a folder that holds the model `my-model`."""
    place = tmp_path / "here"
    shutil.copytree(tiny_model_dir, place / "my-model")
    monkeypatch.chdir(place)
    return place


def trained(recipe_dict: Make, **changes: Any) -> Run:
    return finetune(
        recipe_dict(model={"pretrained_model_name_or_path": "my-model", "torch_dtype": "float32"}, step_scheduler={"max_steps": 1}, **changes)
    )


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    (tmp_path / "elsewhere").mkdir()
    return tmp_path / "elsewhere"


def test_an_adapter_of_a_relative_base_is_used_from_anywhere(
    recipe_dict: Make, launched: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trained(recipe_dict, peft={"dim": 4}, checkpoint={"checkpoint_dir": str(elsewhere / "store")})
    adapter = run.checkpoints[-1].model
    assert json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == "my-model"
    before = generate(run, PROMPT, max_new_tokens=3)
    monkeypatch.chdir(elsewhere)
    for source in (run, run.path, adapter):
        answer = generate(source, PROMPT, max_new_tokens=3)
        assert (answer.text, answer.base) == (before.text, str(launched / "my-model"))
    assert generate(adapter, PROMPT, max_new_tokens=1, base=True).model == str(launched / "my-model")
    assert (merge_adapter(adapter, elsewhere / "merged") / "model.safetensors").is_file()
    assert (export(run.path, elsewhere / "exported") / "model.safetensors").is_file()
    assert "`my-model`" in model_card(adapter, write=False).text
    checked = check_folder(find_source(adapter))
    assert json.loads(checked.files["adapter_config.json"].content or b"")["base_model_name_or_path"] is None, "a folder is no id on the Hub"
    assert not any("was not put on its base model" in note for note in checked.notes)


def test_the_start_of_a_full_run_is_found_from_anywhere(recipe_dict: Make, launched: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trained(recipe_dict)
    monkeypatch.chdir(elsewhere)
    assert generate(run.checkpoints[-1].path, PROMPT, max_new_tokens=1, base=True).model == str(launched / "my-model")


def test_a_base_that_is_gone_names_both_places(recipe_dict: Make, launched: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trained(recipe_dict, peft={"dim": 4})
    monkeypatch.chdir(elsewhere)
    (launched / "my-model").rename(launched / "moved")
    both = (str(launched / "my-model"), str(elsewhere / "my-model"))
    for ask in (lambda: generate(run, PROMPT), lambda: merge_adapter(run.path, elsewhere / "merged")):
        with pytest.raises(ModelError) as failed:
            ask()
        assert all(place in failed.value.found for place in both)
    with pytest.raises(RequestError) as refused:
        find_base("./my-model", run.folder)
    assert all(place in refused.value.found for place in both)
    shutil.copytree(launched / "moved", elsewhere / "my-model")
    assert generate(run, PROMPT, max_new_tokens=1).base == str(elsewhere / "my-model"), "the present folder is tried next"


def test_an_id_on_the_hub_stays_an_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_base("org/base", None) == "org/base"
    (tmp_path / "here").mkdir()
    assert origin_of("here", cwd="/nowhere").path == tmp_path / "here"
    with pytest.raises(RequestError, match="not where it was"):
        find_base("a/b/c", None)
    assert run_around(tmp_path) is None


def test_a_resume_whose_first_folder_is_gone_says_so(recipe_dict: Make, launched: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(trained(recipe_dict).path)
    monkeypatch.chdir(elsewhere)
    assert _working_folder(folder) == str(launched)
    launched.rename(elsewhere / "moved")
    assert _working_folder(folder) == str(elsewhere)
    said = Run(folder.path).events()[-1]
    assert said["kind"] == "fallback"
    assert str(launched) in said["text"]
