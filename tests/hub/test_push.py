"""What is pushed is checked before, compared afterwards, and says no more than it should; against a Hub on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from automodel.errors import AutomodelError, ModelError
from automodel.hub import HubFailed, HubRefused, model_card, push_to_hub
from automodel.hub.card import is_ours
from automodel.run import Run
from tests.house.source import ROOT
from tests.hub_server import READER, STRANGER, WRITER, Hub

SECONDS = 120


def paths(hub: Hub) -> list[str]:
    return [path for _, path in hub.calls]


@pytest.mark.both_ends
def test_a_model_by_lfs_loads_with_equal_weights(hub: Hub, large_model: Path, tmp_path: Path) -> None:
    done = push_to_hub(large_model, "large", token=WRITER)
    assert (done.repo_id, done.private) == ("ann/large", True)
    repo = hub.repo("ann/large")
    assert repo.private
    commit = repo.commits[done.commit]
    weights = (large_model / "model.safetensors").read_bytes()
    assert len(weights) > 20_000_000
    assert commit.lfs == {"model.safetensors": hashlib.sha256(weights).hexdigest()}, "by LFS, all else by the commit"
    assert commit.files["model.safetensors"] == weights
    assert done.files["model.safetensors"] == len(weights)
    assert not any("xet" in path for path in paths(hub)), "a Hub of one's own has no Xet"
    loaded = python(
        "import torch, transformers as t\n"
        "m = t.AutoModelForCausalLM.from_pretrained('ann/large')\n"
        f"w = t.AutoModelForCausalLM.from_pretrained({str(large_model)!r})\n"
        "assert all(torch.equal(a, b) for a, b in zip(m.state_dict().values(), w.state_dict().values(), strict=True))\n"
        "print('equal')",
        hub,
        tmp_path,
    )
    assert "equal" in loaded.stdout, loaded.stderr


def test_the_lines_of_the_card_work(hub: Hub, full_run: Run, lora_run: Run, tiny_model_dir: Path, tmp_path: Path) -> None:
    push_to_hub(full_run, "ann/full", token=WRITER)
    push_to_hub(lora_run, "ann/lora", token=WRITER)
    for name in ("ann/full", "ann/lora"):
        text = hub.files(name)["README.md"].decode()
        code = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]
        assert name in code
        code = re.sub(r"FOLDER-OF-[^\"]+", str(tiny_model_dir), code)
        done = python(code, hub, tmp_path)
        assert done.returncode == 0, f"{code}\n{done.stderr}"


@pytest.mark.both_ends
def test_an_adapter_says_nothing_of_this_machine(hub: Hub, lora_run: Run) -> None:
    done = push_to_hub(lora_run, "team/adapter", token=WRITER)
    files = hub.files("team/adapter")
    assert json.loads(files["adapter_config.json"])["base_model_name_or_path"] is None
    assert any("names no base model" in note for note in done.notes)
    for name, content in files.items():
        assert b"/tmp/" not in content, name
        assert WRITER.encode() not in content, name
    push_to_hub(lora_run, "team/named", token=WRITER, base_model="org/base")
    files = hub.files("team/named")
    assert json.loads(files["adapter_config.json"])["base_model_name_or_path"] == "org/base"
    assert b"base_model: org/base" in files["README.md"]
    assert "training" not in " ".join(files)


def test_an_edited_card_is_sent_as_it_is(hub: Hub, full_run: Run) -> None:
    card = model_card(full_run, overwrite=True)
    assert card.path is not None
    edited = card.text.replace("*To be written by whoever publishes this model.*", "For tests.", 1)
    card.path.write_text(edited)
    push_to_hub(full_run, "ann/edited", token=WRITER)
    sent = hub.files("ann/edited")["README.md"].decode()
    assert "For tests." in sent
    assert "ann/edited" in sent
    assert card.path.read_text() == edited
    model_card(full_run, overwrite=True)
    push_to_hub(full_run, "ann/fresh", token=WRITER)
    assert is_ours(hub.files("ann/fresh")["README.md"].decode())


def test_public_only_when_asked(hub: Hub, full_run: Run) -> None:
    assert not push_to_hub(full_run, "ann/open", token=WRITER, private=False).private
    assert not hub.repo("ann/open").private
    with pytest.raises(HubRefused, match="is public"):
        push_to_hub(full_run, "ann/open", token=WRITER, update=True)
    assert len(hub.repo("ann/open").commits) == 2


def test_a_name_that_is_taken(hub: Hub, full_run: Run) -> None:
    first = push_to_hub(full_run, "ann/mine", token=WRITER)
    with pytest.raises(HubRefused, match="name is taken") as error:
        push_to_hub(full_run, "ann/mine", token=WRITER)
    assert "--update" in error.value.fix
    again = push_to_hub(full_run, "ann/mine", token=WRITER, update=True)
    assert again.commit == first.commit, "nothing changed, so there is nothing to commit"
    changed = push_to_hub(full_run, "ann/mine", token=WRITER, update=True, checkpoint=full_run.checkpoints[0].path.name)
    assert changed.commit != first.commit


def test_branches_and_pull_requests(hub: Hub, full_run: Run) -> None:
    with pytest.raises(HubRefused, match="no such repository"):
        push_to_hub(full_run, "ann/pulled", token=WRITER, create_pr=True)
    hub.add("ann/pulled", {"README.md": b"# mine"})
    pulled = push_to_hub(full_run, "ann/pulled", token=WRITER, create_pr=True)
    assert pulled.pull_request is not None
    assert "/discussions/1" in pulled.pull_request
    assert hub.files("ann/pulled") == {"README.md": b"# mine"}, "main is as it was"
    assert "model.safetensors" in hub.files("ann/pulled", "refs/pr/1")
    push_to_hub(full_run, "ann/pulled", token=WRITER, revision="v2", commit_message="Second try")
    assert hub.files("ann/pulled") == {"README.md": b"# mine"}
    repo = hub.repo("ann/pulled")
    assert repo.commits[repo.refs["v2"]].title == "Second try"
    with pytest.raises(HubRefused, match="cannot go to a branch"):
        push_to_hub(full_run, "ann/pulled", token=WRITER, create_pr=True, revision="v3")


@pytest.mark.parametrize(
    ("token", "repo", "said"),
    [
        (None, "ann/x", "There is no token"),
        ("hf_unknownunknownunknown", "ann/x", "does not accept the token"),
        (READER, "ann/x", "may only read"),
        (STRANGER, "ann/x", "may not write to ann/x"),
        (STRANGER, "team/x", "may not write to team/x"),
        (WRITER, "a b", "name cannot be used"),
    ],
)
@pytest.mark.both_ends
def test_who_may_not_push(hub: Hub, full_run: Run, token: str | None, repo: str, said: str) -> None:
    with pytest.raises(HubRefused, match=said) as error:
        push_to_hub(full_run, repo, token=token, load=False)
    assert error.value.exit_code == 2
    assert error.value.fix
    assert token is None or token not in str(error.value)
    assert not hub.repos


def test_what_arrives_otherwise_is_not_called_done(hub: Hub, full_run: Run, large_model: Path) -> None:
    hub.lose.add("tokenizer.json")
    with pytest.raises(HubFailed, match=r"tokenizer.json did not arrive") as error:
        push_to_hub(full_run, "ann/lost", token=WRITER, load=False)
    assert error.value.found == "the Hub does not list it"
    hub.lose.clear()
    hub.spoil.add("config.json")
    with pytest.raises(HubFailed, match=r"config.json did not arrive"):
        push_to_hub(full_run, "ann/spoilt", token=WRITER, load=False)
    hub.spoil = {"model.safetensors"}
    with pytest.raises(HubFailed, match=r"model.safetensors did not arrive"):
        push_to_hub(large_model, "ann/large", token=WRITER, load=False)


@pytest.mark.parametrize(
    ("part", "code", "said"),
    [
        ("/commit/", 500, "repository was made and is empty"),
        ("/preupload/", 403, "may not write"),
        ("/lfs/put/", 500, "repository was made and is empty"),
        ("/api/repos/create", 500, "nothing was sent"),
        ("/api/whoami-v2", 429, "slow down"),
        ("/revision/", 500, r"the commit \w{8} was made"),
    ],
)
def test_a_hub_that_fails(hub: Hub, large_model: Path, part: str, code: int, said: str) -> None:
    hub.fail[part] = code
    with pytest.raises(AutomodelError, match=said) as error:
        push_to_hub(large_model, "ann/x", token=WRITER, load=False)
    assert WRITER not in str(error.value)
    assert error.value.fix


def test_no_network(hub: Hub, full_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubFailed, match="could not be reached") as error:
        push_to_hub(full_run, "ann/x", token=WRITER, load=False)
    assert error.value.exit_code == 1
    assert "nothing was sent" in error.value.what


def broken(folder: Path, how: str) -> None:
    weights = folder / "model.safetensors"
    if how == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    if how == "tokenizer":
        (folder / "tokenizer.json").unlink()
    if how == "config":
        (folder / "config.json").write_text("{")
    if how == "secret":
        (folder / "notes.txt").write_text("log in with hf_abcdefghijklmnopqrstuvwx")
    if how in ("missing", "nan", "shape"):
        import torch
        from safetensors.torch import load_file, save_file

        tensors = load_file(weights)
        name = "model.layers.0.mlp.up_proj.weight"
        if how == "missing":
            del tensors[name]
        else:
            tensors[name] = torch.full_like(tensors[name], float("nan")) if how == "nan" else tensors[name][:4].contiguous()
        save_file(tensors, weights, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("truncated", "truncated"),
        ("tokenizer", "no tokenizer"),
        ("config", "config"),
        ("secret", "holds a token"),
        ("missing", r"lacks? model.layers.0.mlp.up_proj.weight"),
        ("shape", r"up_proj|shape|size"),
        ("nan", "no numbers"),
    ],
)
def test_a_folder_that_is_not_fit_is_refused_before_the_hub_is_asked(hub: Hub, tiny_model_dir: Path, tmp_path: Path, how: str, said: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model_dir, folder)
    broken(folder, how)
    with pytest.raises((ModelError, RuntimeError), match=said):
        push_to_hub(folder, "ann/x", token=WRITER)
    assert not hub.calls


def test_files_that_are_no_part_of_a_model_stay_here(hub: Hub, tiny_model_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model_dir, folder)
    for name in ("optimizer.pt", ".git/config", "training_args.bin", "events.out.tfevents.1"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x")
    done = push_to_hub(folder, "ann/clean", token=WRITER, load=False)
    assert set(hub.files("ann/clean")) == {*(path.name for path in tiny_model_dir.iterdir()), "README.md", ".gitattributes"}
    assert any("optimizer.pt" in note for note in done.notes)


def test_a_checkpoint_that_was_changed_is_refused(hub: Hub, full_run: Run, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(full_run.path, copy, symlinks=True)
    point = Run(copy).checkpoints[-1]
    config = point.model / "config.json"
    config.write_text(config.read_text().replace("silu", "relu"))
    with pytest.raises(ModelError, match="not the file that the run saved"):
        push_to_hub(copy, "ann/x", token=WRITER, load=False, checkpoint=point.path.name)
    assert not hub.calls


def test_an_adapter_for_another_base_is_refused(hub: Hub, lora_run: Run, large_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    shutil.copytree(lora_run.checkpoints[-1].model, folder)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": str(large_model)}))
    with pytest.raises(ModelError, match="does not fit its base model"):
        push_to_hub(folder, "ann/x", token=WRITER)


def test_how_a_push_shows(hub: Hub, full_run: Run) -> None:
    done = push_to_hub(full_run, "ann/shown", token=WRITER, load=False)
    assert f"{hub.address}/ann/shown (private)" in str(done)
    assert "<table>" in done._repr_html_()
    assert json.loads(json.dumps(done.as_dict()))["repo_id"] == "ann/shown"


def python(code: str, hub: Hub, home: Path) -> subprocess.CompletedProcess[str]:
    return call([sys.executable, "-c", code], hub, home)


def call(words: list[str], hub: Hub, home: Path, token: str | None = WRITER) -> subprocess.CompletedProcess[str]:
    given: dict[str, Any] = {**os.environ, "HF_ENDPOINT": hub.address, "HF_HOME": str(home / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    given["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "widgets")])
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN"):
        given.pop(name, None)
    if token:
        given["HF_TOKEN"] = token
    return subprocess.run(words, cwd=home, env=given, capture_output=True, text=True, timeout=SECONDS, check=False)


@pytest.mark.both_ends
def test_the_command_honours_hf_endpoint_and_tells_no_token(hub: Hub, lora_run: Run, tmp_path: Path) -> None:
    automodel = [sys.executable, "-m", "automodel"]
    done = call([*automodel, "push", str(lora_run.path), "ann/command", "--json"], hub, tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["commit"] in hub.repo("ann/command").commits
    assert hub.repo("ann/command").private
    again = call([*automodel, "push", str(lora_run.path), "ann/command", "--debug"], hub, tmp_path)
    refused = call([*automodel, "push", str(lora_run.path), "bob/command"], hub, tmp_path)
    nobody = call([*automodel, "push", str(lora_run.path), "ann/command"], hub, tmp_path, token=None)
    assert (refused.returncode, nobody.returncode) == (2, 2)
    assert again.returncode != 0
    assert "may not write to bob/command" in refused.stderr
    assert "hf auth login" in nobody.stderr
    for shown in (done, again, refused, nobody):
        assert WRITER not in shown.stdout + shown.stderr
    for path in lora_run.path.rglob("*"):
        assert not path.is_file() or WRITER.encode() not in path.read_bytes(), path


def test_the_card_command(hub: Hub, lora_run: Run, tmp_path: Path) -> None:
    automodel = [sys.executable, "-m", "automodel", "card", str(lora_run.path)]
    written = call([*automodel, "--overwrite"], hub, tmp_path)
    assert written.returncode == 0, written.stderr
    assert written.stdout.strip() == str(lora_run.path / "card" / "README.md")
    assert "license" in written.stderr
    shown = call([*automodel, "--show", "--license", "mit"], hub, tmp_path)
    assert "license: mit" in shown.stdout
    assert not hub.calls, "a card asks nobody"
