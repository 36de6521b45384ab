"""An exported model remembers its run: its card says the same, also when the run is gone, and the record itself stays here."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import pytest

from automodel.checkpoint import export, merge_adapter
from automodel.hub import model_card, push_to_hub
from automodel.hub.facts import gather
from automodel.hub.source import find_source
from automodel.run import Run
from automodel.run.kept import Cell, Result, write_kept
from automodel.run.location import ORIGIN
from tests.hub_server import WRITER, Hub


@pytest.fixture
def full_copy(full_run: Run, tmp_path: Path) -> Run:
    """A run of one's own, with kept answers of its best checkpoint."""
    run = Run(shutil.copytree(full_run.path, tmp_path / "runs" / full_run.path.name, symlinks=True))
    point = next(one for one in run.checkpoints if one.best)
    answered = {"checkpoint": point.path.name, "step": point.step, "settings": {"max_new_tokens": 4, "temperature": 0, "seed": 0}}
    write_kept(run.path, answered, [Result("Who?", Cell(text="at /home/ann/x/y.txt", state="done"), Cell(text="Anna", state="done"))])
    return run


def test_the_card_of_an_export_is_that_of_its_run(full_copy: Run, tmp_path: Path) -> None:
    card = model_card(full_copy, license="mit", write=False)
    folder = export(full_copy.path, tmp_path / "made")
    again = export(folder, tmp_path / "made-again")
    shutil.rmtree(full_copy.path)
    for place in (folder, again):
        assert model_card(place, license="mit", write=False).text == card.text
    assert "| Who" not in card.text
    assert "<code>Anna</code>" in card.text


@pytest.mark.both_ends
def test_the_card_of_a_merged_adapter_says_what_the_run_was(lora_run: Run, tmp_path: Path) -> None:
    folder = merge_adapter(lora_run.path, tmp_path / "merged")
    of_run, of_folder = gather(find_source(lora_run)), gather(find_source(folder))
    assert (of_run.kind, of_folder.kind) == ("adapter", "model")
    for name in ("title", "task", "method", "step", "best", "prompt", "settings", "rows", "data", "results", "validation", "samples", "versions"):
        assert getattr(of_folder, name) == getattr(of_run, name), name
    assert of_folder.results
    assert of_folder.base is not None
    assert of_run.base is not None
    assert of_folder.base.name == of_run.base.name
    text = model_card(folder, base_model="org/base", write=False).text
    assert "Made from [org/base](https://huggingface.co/org/base) by LoRA (rank 4, alpha 32)" in text
    assert "lora" in text.partition("tags:")[2][:60]


def test_the_record_names_no_place(full_copy: Run, tmp_path: Path) -> None:
    text = (export(full_copy.path, tmp_path / "made") / ORIGIN).read_text()
    found = json.loads(text)
    best = next(one for one in full_copy.checkpoints if one.best)
    assert (found["run"], found["checkpoint"], found["step"], found["made"]) == (full_copy.id, best.path.name, best.step, "copied")
    assert {"torch", "transformers", "automodel-workbench"} <= set(found["versions"])
    assert found["facts"]["base"]["hub"] is False
    assert "y.txt" in text
    for hidden in (str(tmp_path), str(full_copy.path.parent), "/tmp/", "/home/", socket.gethostname()):
        assert hidden not in text


def test_it_is_not_pushed_but_its_facts_are_in_the_card(hub: Hub, full_copy: Run, tmp_path: Path) -> None:
    folder = export(full_copy.path, tmp_path / "made")
    shutil.rmtree(full_copy.path)
    done = push_to_hub(folder, "made", token=WRITER)
    assert ORIGIN not in done.files
    assert any(ORIGIN in note for note in done.notes)
    card = hub.files("ann/made")["README.md"].decode()
    assert "## Training" in card
    assert "validation loss" in card


def test_a_folder_that_is_no_run_s_keeps_what_is_known(tiny_model_dir: Path, lora_run: Run, tmp_path: Path) -> None:
    plain = json.loads((export(tiny_model_dir, tmp_path / "plain") / ORIGIN).read_text())
    assert (plain["run"], plain["step"], plain["facts"]["base"]) == (None, None, None)
    adapter = Path(shutil.copytree(lora_run.checkpoints[-1].model, tmp_path / "adapter"))
    merged = json.loads((merge_adapter(adapter, tmp_path / "merged", base=str(tiny_model_dir)) / ORIGIN).read_text())
    assert merged["facts"]["base"]["name"] == tiny_model_dir.name
    assert merged["facts"]["method"] == "LoRA (rank 4, alpha 32)"
