"""Each kind of bad input: exit code 2, one message with what, found, expected and fix, and nothing written."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.acceptance.desk import FINETUNE, Desk
from tests.hub_server import small_hub

Prepare = Callable[[Desk], object]
ROW = {"context": "The bridge was built by Anna.", "question": "Who built it?", "answers": {"text": ["Anna"]}}


def nothing(desk: Desk) -> None:
    """Leave the desk as it is: the command line is what is wrong."""


def edit(old: str, new: str) -> Prepare:
    return lambda desk: desk.edit(old, new)


def rows(*records: object) -> Prepare:
    return lambda desk: desk.write_rows(records)


def config(**changes: object) -> Prepare:
    return lambda desk: desk.config(**changes)


def weights(change: Callable[[bytes], bytes]) -> Prepare:
    def damage(desk: Desk) -> None:
        file = desk.model / "model.safetensors"
        file.write_bytes(change(file.read_bytes()))

    return damage


def shards(lost: int) -> Prepare:
    """Write the weights in several files and lose one."""

    def split(desk: Desk) -> None:
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(desk.model)
        (desk.model / "model.safetensors").unlink()
        model.save_pretrained(desk.model, max_shard_size="40KB")
        sorted(desk.model.glob("model-*.safetensors"))[lost].unlink()

    return split


def bomb(desk: Desk) -> None:
    """Nine references to nine references, ten times over: 600 bytes that would unfold into billions of values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 11))]
    desk.recipe.write_text("\n".join(lines))


CASES: dict[str, tuple[Prepare, Iterable[str], Iterable[str]]] = {
    # name: (what is changed on the desk, words added to the command, words that the message must hold)
    "unknown key": (edit("seq_length", "seq_lenght"), (), ["recipe.yaml:6:", "seq_lenght", "did you mean dataset.seq_length?"]),
    "unknown key on the command line": (nothing, ["--optimizer.lrr=1"], ["--optimizer.lrr", "did you mean optimizer.lr?"]),
    "unknown section": (edit("optimizer:", "optimiser:"), (), ["recipe.yaml:11:", "did you mean optimizer?"]),
    "wrong type": (edit("max_steps: 2", "max_steps: many"), (), ["recipe.yaml:10:", "'many'", "whole number >= 1"]),
    "wrong type of a section": (edit("optimizer:\n  lr: 1e-3", "optimizer: [1]"), (), ["recipe.yaml:11:", "map of optimizer keys"]),
    "negative learning rate": (edit("lr: 1e-3", "lr: -1e-3"), (), ["recipe.yaml:12:", "-0.001", "number > 0"]),
    "negative learning rate on the command line": (nothing, ["--optimizer.lr", "-1"], ["--optimizer.lr", "-1", "number > 0"]),
    "missing recipe": (lambda desk: desk.recipe.rename("recip.yaml"), (), ["no such recipe", "did you mean recip.yaml?"]),
    "recipe that is a folder": (lambda desk: (desk.recipe.unlink(), desk.recipe.mkdir()), (), ["Is a directory", "name the right file"]),
    "missing dataset": (nothing, ["--dataset.path_or_dataset=row.jsonl"], ["does not exist: row.jsonl", "near it: rows.jsonl"]),
    "missing validation set": (nothing, ["--validation_dataset.path_or_dataset=val.jsonl"], ["validation_dataset: ", "val.jsonl"]),
    "missing model": (nothing, ["--model.pretrained_model_name_or_path=./mdel"], ["./mdel does not exist", "correct the path"]),
    "missing checkpoint": (nothing, ["--checkpoint.restore_from=nowhere"], ["restore_from", "nowhere", "automodel resume"]),
    "malformed row": (rows(ROW, ROW, '{"context": "a", "question": ', ROW), (), ["rows.jsonl, line 3", "at column 30", "delete that row"]),
    "row that is no object": (rows(ROW, "[1]"), (), ["rows.jsonl, line 2", "list: [1]"]),
    "empty dataset": (rows(), (), ["is empty: rows.jsonl", "0 rows"]),
    "blank lines only": (rows("", " "), (), ["is empty: rows.jsonl"]),
    "empty SQuAD file": (
        lambda desk: (desk.folder / "rows.json").write_text('{"data": []}'),
        ["--dataset.path_or_dataset=rows.json"],
        ["is empty: rows.json"],
    ),
    "missing answer column": (
        rows(*[{"context": "c", "question": "q", "solution": "a"}] * 8),
        (),
        ["no column 'answers'", "context, question, solution"],
    ),
    "missing mapped column": (
        rows(*[{"instruction": "c", "output": "a"}] * 8),
        ["--dataset.name=column_mapped", "--dataset.column_mapping={question: instruction, answer: outpt}"],
        ["no column 'outpt'", "nearest: output", "`answer: output`"],
    ),
    "answer missing in one row": (rows(*[ROW] * 4, {"context": "c", "question": "q"}), (), ["no column 'answers'", "line 5"]),
    "rows longer than the length": (
        nothing,
        ["--dataset.seq_length=4", "--dataset.truncation=false"],
        ["all 16 rows were dropped", "16 longer", "(now 4)"],
    ),
    "answers that are all blank": (rows(*[{**ROW, "answers": {"text": [" "]}}] * 8), (), ["no token to train on", "8 without an answer"]),
    "batch not divisible": (
        nothing,
        ["--step_scheduler.global_batch_size=5"],
        ["global_batch_size 5, local_batch_size 2", "global_batch_size: 4 or 6"],
    ),
    "unknown model type": (
        config(model_type="lama"),
        (),
        ["does not know the model_type", "no known transformers release has lama", "nearest: llama"],
    ),
    "config that is not JSON": (lambda desk: (desk.model / "config.json").write_text("{"), (), ["config.json is not JSON"]),
    "config that cannot be built": (config(hidden_act="swoosh"), (), ["swoosh", "config.json"]),
    "config of another type": (config(hidden_size="wide"), (), ["no model can be built from the config.json of model"]),
    "config of other sizes": (config(hidden_size=48, head_dim=12), (), ["model.embed_tokens.weight", "[320, 32]", "[320, 48]"]),
    "config of more layers": (config(num_hidden_layers=3), (), ["model.layers.2.", "belongs to this checkpoint"]),
    "corrupt weights": (weights(lambda data: b"\xff" * 4000), (), ["model.safetensors is not a safetensors file", "again"]),
    "corrupt header": (weights(lambda data: data[:8] + b"x" * 50 + data[58:]), (), ["header of", "cannot be read", "again"]),
    "truncated weights": (weights(lambda data: data[:-100]), (), ["is truncated", "158,324 bytes", "158,424 bytes", "again"]),
    "missing shard": (shards(0), (), ["names model-00001-of-00004.safetensors, which is not there", "again"]),
    "missing tokenizer": (lambda desk: (desk.model / "tokenizer.json").unlink(), (), ["tokenizer"]),
    "corrupt tokenizer": (lambda desk: (desk.model / "tokenizer.json").write_text("{"), (), ["tokenizer"]),
    "target outside the list": (
        edit("optimizer:\n", "optimizer:\n  _target_: os.system\n"),
        (),
        ["recipe.yaml:12:", "os.system", "--allow-target os.system"],
    ),
    "target of data": (edit("dataset:\n", "dataset:\n  _target_: mine.rows\n"), (), ["recipe.yaml:5:", "`name: squad`", "--allow-target mine.rows"]),
    "tag that calls": (edit("lr: 1e-3", "lr: !!python/object/apply:os.getpid []"), (), ["recipe.yaml:12", "tags are not allowed"]),
    "YAML bomb": (bomb, (), ["far more than a recipe can", "unfold"]),
    "root below a file": (nothing, ["--runs-root=rows.jsonl/runs"], ["cannot be written", "rows.jsonl", "AUTOMODEL_RUNS"]),
    "root that is a file": (nothing, ["--run.folder=rows.jsonl"], ["cannot be written", "rows.jsonl", "AUTOMODEL_RUNS"]),
    "checkpoints below a file": (nothing, ["--checkpoint.checkpoint_dir=rows.jsonl/all"], ["cannot be written", "rows.jsonl", "checkpoint_dir"]),
    "no LoRA match": (nothing, ["--peft.target_modules=[q_prj]"], ["would be trained", "q_prj", "peft.target_modules: [q_proj]"]),
    "no LoRA match at all": (nothing, ["--peft.target_modules=[c_attn]"], ["c_attn", "down_proj", "peft.match_all_linear: true"]),
    "no LoRA layer is left": (nothing, ["--peft.exclude_modules=*"], ["exclude_modules ['*']", "peft.match_all_linear: true"]),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused(desk: Desk, name: str) -> None:
    prepare, more, expected = CASES[name]
    prepare(desk)
    text = desk.refuse(*FINETUNE, *more)
    for word in expected:
        assert word in text, text


def test_the_desk_is_right_as_it_stands(desk: Desk) -> None:
    """Without a fault the same command trains: the cases above are refused for what they change, not for what the desk lacks."""
    answer = desk.call(*FINETUNE)
    assert answer.code == 0, answer.err
    assert json.loads((Path(answer.out.strip()) / "run.json").read_text())["state"] == "finished"
    assert [path.name for path in desk.folder.iterdir() if path.name not in ("recipe.yaml", "model", "rows.jsonl")] == ["runs"]


def test_all_labels_masked(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    module = SimpleNamespace(rows=lambda: [{"input_ids": [5, 6, 7], "labels": [-100] * 3}] * 8)
    monkeypatch.setitem(sys.modules, "own_rows", module)  # type: ignore[arg-type]  # all that is asked of it is the name
    desk.edit("dataset:\n  path_or_dataset: rows.jsonl\n", "dataset:\n  _target_: own_rows.rows\n")
    text = desk.refuse(*FINETUNE, "--allow-target", "own_rows.rows")
    assert "8 with all labels masked" in text
    assert "not all -100" in text


def test_types_that_other_releases_have(desk: Desk) -> None:
    from transformers import __version__

    new = __version__.startswith("4.")
    desk.config(model_type="qwen3_5" if new else "nezha")
    text = desk.refuse(*FINETUNE)
    assert ("needs transformers >= 5" if new else "dropped in transformers 5 (it is in 4.57.6)") in text
    assert "pip install" in text


def test_two_processes_and_the_launcher(desk: Desk) -> None:
    """What a detached job or a job of several processes is refused for is found by another process, and reads the same."""
    text = desk.refuse(*FINETUNE, "--step_scheduler.global_batch_size=6", "--nproc-per-node", "2")
    for word in ("2 data-parallel processes", "2 x 2 = 4", "global_batch_size: 8, or local_batch_size: 1"):
        assert word in text
    weights(lambda data: data[:-100])(desk)
    assert desk.refuse(*FINETUNE, "--detach") == desk.refuse(*FINETUNE)


def test_from_a_real_shell(desk: Desk) -> None:
    """The process prints nothing else, and no library adds a word of its own."""
    weights(lambda data: data[:-100])(desk)
    assert "truncated" in desk.refuse(*FINETUNE, here=False)
    desk.edit("lr: 1e-3", "lr: -1e-3")
    assert desk.refuse("validate", "recipe.yaml", here=False) == desk.refuse("validate", "recipe.yaml")


def test_gated_and_missing_repositories(desk: Desk, tmp_path: Path) -> None:
    """Each is asked for in a process of its own, because the hub's address is read when its library is loaded."""
    asked = {
        "model.pretrained_model_name_or_path=team/gated": ["team/gated is gated", "accept the terms at HUB/team/gated", "hf auth login"],
        "model.pretrained_model_name_or_path=team/absent": ["there is no model team/absent", "HUB/team/absent", "hf auth login"],
        "dataset.path_or_dataset=team/gated": ["'team/gated'", "gated", "HUB/datasets/team/gated", "hf auth login"],
    }
    with small_hub() as address, ThreadPoolExecutor(2) as pool:
        hub = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "cache"), "HF_TOKEN": "", "HF_HUB_OFFLINE": "0"}
        texts = list(pool.map(lambda setting: desk.refuse(*FINETUNE, f"--{setting}", here=False, **hub), asked))
    for text, words in zip(texts, asked.values(), strict=True):
        for word in words:
            assert word.replace("HUB", address) in text, text


def test_misspelt_folders_are_not_looked_up_for_long(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    constants = importlib.import_module("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    text = desk.refuse(*FINETUNE, "--model.pretrained_model_name_or_path=modl")
    assert "did you mean the folder model?" in text


def test_a_disk_that_cannot_be_written(desk: Desk, small_disk: Callable[..., Path]) -> None:
    disk = small_disk("ro")
    text = desk.refuse(*FINETUNE, f"--runs-root={disk}/runs")
    assert "Read-only file system" in text
    assert str(disk) in text


def test_a_full_disk(desk: Desk, small_disk: Callable[..., Path]) -> None:
    disk = small_disk("size=1m")
    (disk / "filler").write_bytes(b"x" * 800_000)
    text = desk.refuse(*FINETUNE, f"--run.folder={disk}/runs")
    assert "too little room" in text
    assert str(disk) in text
    text = desk.refuse(*FINETUNE, f"--checkpoint.checkpoint_dir={disk}/all")
    assert "too little room" in text
    assert [path.name for path in disk.iterdir()] == ["filler"]


def test_a_disk_full_to_the_last_byte(desk: Desk, small_disk: Callable[..., Path]) -> None:
    disk = small_disk("size=1m")
    (disk / "filler").write_bytes(b"x" * 1_048_576)
    for more in ([], ["--checkpoint.enabled=false"]):
        desk.refuse(*FINETUNE, f"--run.folder={disk}/runs", *more)
    assert [path.name for path in disk.iterdir()] == ["filler"]


def test_little_room_as_the_system_reports_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    usage: Any = SimpleNamespace(total=10**9, used=10**9 - 1000, free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    text = desk.refuse(*FINETUNE)
    assert "too little room" in text
    assert "0 MB free" in text
