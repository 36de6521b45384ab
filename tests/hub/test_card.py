"""The card says what the run recorded, in the form the Hub reads, and nothing about this machine."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from automodel.errors import RunError
from automodel.hub import HubRefused, model_card
from automodel.hub.card import for_repo, is_ours, read_head
from automodel.hub.facts import places_in, text_without_places, without_places
from automodel.hub.source import find_source, origin_of
from automodel.run import Run

HOME = str(Path.home())


def head_of(text: str) -> dict[str, Any]:
    """Read the head as huggingface_hub does."""
    from huggingface_hub import ModelCard

    return ModelCard(text).data.to_dict()


@pytest.mark.both_ends
def test_the_card_of_a_full_run(full_run: Run) -> None:
    card = model_card(full_run, overwrite=True)
    assert card.path == full_run.path / "card" / "README.md"
    assert card.path.read_text() == card.text
    head = head_of(card.text)
    assert (head["library_name"], head["pipeline_tag"]) == ("transformers", "text-generation")
    assert head["tags"] == ["automodel", "sft"]
    assert "base_model" not in head, "a folder of this machine is no model of the Hub"
    assert "license" in card.missing
    rows = full_run.metrics("validation")
    assert f"{rows[-1]['loss']:.4f}" in card.text
    assert "39,072, of which 39,072 trained" in card.text
    assert "`rows.jsonl` (a local file)" in card.text
    assert "train[:8]" in card.text
    assert "learning rate 0.001" in card.text
    assert "| transformers" not in card.text
    for name in ("torch", "transformers", "automodel"):
        assert name in card.text.partition("## Versions")[2]


def test_nothing_about_this_machine(full_run: Run, lora_run: Run) -> None:
    import socket

    for run in (full_run, lora_run):
        text = model_card(run, overwrite=True).text
        for secret in (str(run.path), str(run.path.parent), "/tmp/", HOME + "/", f" {socket.gethostname()} "):
            assert secret not in text
        assert not places_in(text)


def test_the_adapter_names_its_base(lora_run: Run) -> None:
    local = model_card(lora_run, write=False)
    assert head_of(local.text)["library_name"] == "peft"
    assert "PeftModel.from_pretrained(base" in local.text
    assert "FOLDER-OF-" in local.text
    named = model_card(lora_run, write=False, base_model="org/base", license="mit", language=["en"], intended_use="Tests.", limitations="All.")
    head = head_of(named.text)
    assert (head["base_model"], head["base_model_relation"], head["license"], head["language"]) == ("org/base", "adapter", "mit", ["en"])
    assert 'from_pretrained("org/base")' in named.text
    assert "--max-lora-rank 8 " in named.text
    assert named.missing == ()
    assert "LoRA (rank 4, alpha 32)" in named.text


def test_prompts_of_the_recipe_are_shown_and_rows_of_the_data_are_not(full_run: Run) -> None:
    prompts = {event["prompt"] for event in full_run.events() if event["kind"] == "sample"}
    assert len(prompts) == 2
    text = model_card(full_run, write=False).text
    assert "<code>Who &#124; built?</code>" in text
    assert "Bridge 8" not in text


def test_an_edited_card_is_not_lost(full_run: Run) -> None:
    card = model_card(full_run, overwrite=True)
    assert card.path is not None
    assert is_ours(card.text)
    assert is_ours(for_repo(card.text, "ann/x"))
    model_card(full_run)
    card.path.write_text(card.text.replace("## Intended use", "## What it is for"))
    with pytest.raises(RunError, match="edited"):
        model_card(full_run)
    assert "## What it is for" in card.path.read_text()
    model_card(full_run, overwrite=True)


def test_the_card_of_a_checkpoint_is_about_that_checkpoint(full_run: Run) -> None:
    first = full_run.checkpoints[0]
    text = model_card(first.path, write=False).text
    rows = full_run.metrics("validation")
    assert f"after step {first.step}" in text
    assert f"{rows[0]['loss']:.4f} at step {first.step}" in text
    assert f"{rows[-1]['loss']:.4f}" not in text
    with pytest.raises(RunError, match="no checkpoint epoch_9_step_9"):
        model_card(full_run, checkpoint="epoch_9_step_9")


def test_a_plain_folder_gets_a_card_beside_its_weights(tiny_model_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    shutil.copytree(tiny_model_dir, folder)
    card = model_card(folder)
    assert card.path == folder / "README.md"
    assert "vllm serve your-name/your-model" in card.text
    assert "## Training" not in card.text
    with pytest.raises(RunError, match="no model in this folder"):
        model_card(tmp_path)


def test_the_empty_form_of_peft_is_no_card(lora_run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    shutil.copytree(lora_run.checkpoints[-1].model, folder)
    assert "[More Information Needed]" in (folder / "README.md").read_text()
    assert "[More Information Needed]" not in model_card(folder).text
    assert is_ours((folder / "README.md").read_text())


def test_the_licence_is_that_of_the_base_marked_for_review(tiny_model_dir: Path, lora_run: Run, tmp_path: Path) -> None:
    base = tmp_path / "licensed"
    shutil.copytree(tiny_model_dir, base)
    (base / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Base\n")
    folder = tmp_path / "adapter"
    shutil.copytree(lora_run.checkpoints[-1].model, folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": str(base)}))
    card = model_card(folder, write=False)
    assert head_of(card.text)["license"] == "apache-2.0"
    assert "Check that it fits" in card.text
    assert "license" not in card.missing


@pytest.mark.parametrize(
    ("peft", "line"),
    [({"r": 300}, "--max-lora-rank 320"), ({"r": 8, "use_dora": True}, "cannot serve"), ({"r": 8, "modules_to_save": ["lm_head"]}, "cannot serve")],
)
def test_lines_for_vllm_are_true(lora_run: Run, tmp_path: Path, peft: dict[str, Any], line: str) -> None:
    folder = tmp_path / "adapter"
    shutil.copytree(lora_run.checkpoints[-1].model, folder)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **peft}))
    assert line in model_card(folder, base_model="org/base", write=False).text


def test_a_hub_id_is_told_from_a_folder(tmp_path: Path) -> None:
    (tmp_path / "my-model").mkdir()
    snapshot = f"/home/ann/.cache/huggingface/hub/models--org--base/snapshots/{'a' * 40}"
    assert origin_of("org/base").hub
    assert origin_of("gpt2").hub
    assert not origin_of("my-model", cwd=tmp_path).hub
    assert not origin_of("./org/base").hub
    assert not origin_of("data/train.json", data=True).hub
    assert (origin_of(snapshot).name, origin_of(snapshot).revision, origin_of(snapshot).hub) == ("org/base", "a" * 40, True)


def test_places_of_this_machine_go() -> None:
    given = {
        "model": {"pretrained_model_name_or_path": "/home/ann/models/tiny", "cache_dir": "/scratch/cache"},
        "dataset": {"path_or_dataset": ["~/data/a.jsonl", "rajpurkar/squad"], "prompt_template": "{context}/{question}"},
        "run": {"folder": "/x/y"},
    }
    assert without_places(given) == {
        "model": {"pretrained_model_name_or_path": "tiny"},
        "dataset": {"path_or_dataset": ["a.jsonl", "rajpurkar/squad"], "prompt_template": "{context}/{question}"},
    }
    assert text_without_places("see https://huggingface.co/a/b and /home/ann/x.txt") == "see https://huggingface.co/a/b and x.txt"


def test_a_head_that_cannot_be_read_is_refused() -> None:
    for text in ("# no head", "---\na: [\n---\n", "---\n- a list\n---\n"):
        with pytest.raises(HubRefused, match="head of the model card"):
            read_head(text)


def test_a_run_without_a_checkpoint_says_so(full_run: Run, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(full_run.path, bare, symlinks=True, ignore=shutil.ignore_patterns("checkpoints"))
    with pytest.raises(RunError, match="no whole checkpoint"):
        model_card(bare)


def test_a_validation_loss_on_data_of_the_hub_enters_the_head(full_run: Run, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(full_run.path, copy, symlinks=True)
    path = copy / "recipe.yaml"
    recipe = YAML(typ="safe", pure=True).load(path.read_text())
    for name in ("dataset", "validation_dataset"):
        recipe[name]["path_or_dataset"] = "org/questions"
    with path.open("w") as out:
        YAML().dump(recipe, out)
    card = model_card(copy, write=False)
    head = head_of(card.text)
    assert head["datasets"] == ["org/questions"]
    found = card.metadata["model-index"][0]["results"][0]
    assert found["metrics"][0]["value"] == pytest.approx(full_run.metrics("validation")[-1]["loss"], abs=1e-4)
    assert find_source(copy).run is not None
    assert not re.search(r"\| *None *\|", card.text)
