"""Whole jobs in this process on a tiny model: what they compute, write, and survive."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from automodel.errors import JobFailed
from automodel.launch import finetune
from automodel.recipe import recipe_from_dict
from automodel.run import RunFolder
from automodel.tasks import run_recipe
from tests.conftest import CHAT_TEMPLATE

from .conftest import losses, train_rows

Make = Callable[..., dict[str, Any]]


def continue_run(spec: dict[str, Any], checkpoint: Path, folder: RunFolder) -> None:
    """Go on from a checkpoint in a run folder, as the worker does."""
    step = int(checkpoint.name.rpartition("_")[2])
    folder.prepare_resume(step=step)
    run_recipe(recipe_from_dict(spec).recipe, folder, resume=checkpoint)


@pytest.mark.both_ends
def test_a_run_learns_and_leaves_a_plain_model(recipe_dict: Make) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = finetune(recipe_dict(validation_dataset={"split": "train[:8]"}, samples={"from_validation": 1, "max_new_tokens": 4}))
    assert run.status.state == "finished"
    rows = train_rows(run)
    assert [row["step"] for row in rows] == list(range(1, 11))
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert {"loss", "grad_norm", "lr", "tokens", "label_tokens", "step_seconds", "tokens_per_second", "memory_bytes", "mfu", "time"} <= set(rows[0])
    validation = run.metrics("validation")
    assert [row["step"] for row in validation] == [5, 10]
    kinds = {event["kind"] for event in run.events()}
    assert {"precision", "strategy", "data", "model", "sample", "checkpoint"} <= kinds

    folder = run.path / "checkpoints" / "latest" / "model"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer("When was it built?")["input_ids"]
    assert model.config.to_dict()["model_type"] == "llama"
    assert (run.path / "checkpoints" / "best").resolve().name == "epoch_1_step_10"


@pytest.mark.both_ends
def test_conversations_are_learned_with_the_template_that_is_saved(recipe_dict: Make, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    talks = tmp_path / "talks.jsonl"
    turns = [("user", "Who built it?"), ("assistant", "Anna."), ("user", "When?"), ("assistant", "In 1821.")]
    talks.write_text(8 * (json.dumps({"messages": [{"role": role, "content": said} for role, said in turns]}) + "\n"))
    data = {"name": "chat", "path_or_dataset": str(talks), "chat_template": CHAT_TEMPLATE}
    sections = {"dataset": data, "validation_dataset": {"split": "train[:1]"}, "samples": {"from_validation": 1, "max_new_tokens": 2}}
    run = finetune(recipe_dict(**sections, optimizer={"lr": 1e-2}, step_scheduler={"num_epochs": 8}))
    rows = train_rows(run)
    assert rows[-1]["loss"] < rows[0]["loss"] / 2
    assert rows[0]["label_tokens"] == 8 * sum(len(AutoTokenizer.from_pretrained(folder_of(run))(said)["input_ids"]) + 1 for _, said in turns[1::2])
    assert AutoTokenizer.from_pretrained(folder_of(run)).chat_template == CHAT_TEMPLATE
    sample = next(event for event in run.events() if event["kind"] == "sample")
    assert "When?" in json.dumps(sample)


def folder_of(run: Any) -> Path:
    return Path(run.path) / "checkpoints" / "latest" / "model"


def test_micro_batches_do_not_change_the_losses(recipe_dict: Make) -> None:
    whole = losses(finetune(recipe_dict(step_scheduler={"local_batch_size": 8})))
    parts = losses(finetune(recipe_dict(step_scheduler={"local_batch_size": 2})))
    assert parts == pytest.approx(whole, rel=1e-5)


@pytest.mark.both_ends
@pytest.mark.parametrize(
    "changes",
    [
        {"step_scheduler": {"local_batch_size": 2, "ckpt_every_steps": 3}},
        {"step_scheduler": {"ckpt_every_steps": 3}, "peft": {"dim": 4, "dropout": 0.2}, "dataloader": {"group_by_length": True}},
        {"step_scheduler": {"ckpt_every_steps": 3}, "neftune": {"noise_alpha": 5}, "lr_scheduler": {"lr_decay_style": "cosine"}},
    ],
    ids=["accumulation", "lora-dropout-grouped", "noise"],
)
def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit(recipe_dict: Make, changes: dict[str, Any]) -> None:
    spec = recipe_dict(**changes)
    run = finetune(spec)
    before = [(row["step"], row["loss"], row["grad_norm"], row["lr"], row["tokens"]) for row in train_rows(run)]
    weights = read_weights(run.path)
    for name in ("epoch_0_step_3", "epoch_0_step_5"):  # inside an epoch, and at its end
        continue_run(spec, run.path / "checkpoints" / name, RunFolder(run.path))
        after = [(row["step"], row["loss"], row["grad_norm"], row["lr"], row["tokens"]) for row in train_rows(run)]
        assert after == before
        again = read_weights(run.path)
        assert all(torch.equal(again[key], weights[key]) for key in weights)


def read_weights(run: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    (path,) = [p for p in (run / "checkpoints" / "epoch_1_step_10" / "model").glob("*.safetensors")]
    return load_file(path)


def test_lora_leaves_an_adapter_that_merges_and_exports(recipe_dict: Make, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from automodel.checkpoint import export, merge_adapter

    spec = recipe_dict(peft={"dim": 4}, optimizer={"lr": 1e-2})
    run = finetune(spec)
    adapter = run.path / "checkpoints" / "latest" / "model"
    assert sorted(path.name for path in adapter.glob("*.safetensors")) == ["adapter_model.safetensors"]
    base = AutoModelForCausalLM.from_pretrained(spec["model"]["pretrained_model_name_or_path"], dtype=torch.float32)
    ids = torch.arange(3, 23)[None]
    with torch.no_grad():
        plain = base(ids).logits
        tuned = PeftModel.from_pretrained(base, str(adapter))(ids).logits
    for number, made in enumerate((merge_adapter(run.path, tmp_path / "merged"), export(run.path, tmp_path / "exported"))):
        merged = AutoModelForCausalLM.from_pretrained(made, dtype=torch.float32)
        with torch.no_grad():
            torch.testing.assert_close(merged(ids).logits, tuned, rtol=0, atol=1e-4, msg=str(number))
    assert (tuned - plain).abs().max() > 1e-2


def test_a_value_that_is_not_a_number_stops_the_run_and_names_the_rows(recipe_dict: Make) -> None:
    spec = recipe_dict(optimizer={"lr": 1e30}, clip_grad_norm={"max_norm": None})
    with pytest.raises(JobFailed, match=r"(?s)not a finite number at step \d.*rows \[\d"):
        finetune(spec)
    (folder,) = Path(spec["run"]["folder"]).iterdir()
    assert json.loads((folder / "run.json").read_text())["state"] == "failed"
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["loss"] is None or last["grad_norm"] is None
    assert last["nonfinite"]


def test_a_stop_request_saves_and_the_run_can_go_on(recipe_dict: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = recipe_dict()
    unbroken = losses(finetune(spec))
    seen = RunFolder.metric

    def stop_at_three(self: RunFolder, **row: Any) -> None:
        seen(self, **row)
        if row["step"] == 3:
            self.request_stop(save=True)

    monkeypatch.setattr(RunFolder, "metric", stop_at_three)
    run = finetune(spec)
    assert run.status.state == "stopped"
    assert len(losses(run)) == 3
    monkeypatch.setattr(RunFolder, "metric", seen)
    continue_run(spec, run.path / "checkpoints" / "epoch_0_step_3", RunFolder(run.path))
    assert run.status.state == "finished"
    assert losses(run) == unbroken


def test_a_discarding_stop_saves_nothing(recipe_dict: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = RunFolder.metric

    def stop(self: RunFolder, **row: Any) -> None:
        seen(self, **row)
        self.request_stop(save=False)

    monkeypatch.setattr(RunFolder, "metric", stop)
    run = finetune(recipe_dict())
    assert run.status.state == "stopped"
    assert not run.checkpoints


def test_keep_last_and_best(recipe_dict: Make) -> None:
    spec = recipe_dict(
        step_scheduler={"ckpt_every_steps": 2},
        checkpoint={"max_recent_checkpoints": 2},
        validation_dataset={"split": "train[:8]"},
        optimizer={"lr": 0.3},
        clip_grad_norm={"max_norm": None},
    )
    run = finetune(spec)
    kept = {path.name for path in (run.path / "checkpoints").iterdir() if path.is_dir() and not path.is_symlink()}
    best = (run.path / "checkpoints" / "best").resolve().name
    assert {"epoch_1_step_8", "epoch_1_step_10", best} == kept


def test_early_stopping(recipe_dict: Make) -> None:
    spec = recipe_dict(
        optimizer={"lr": 1e-12},
        validation_dataset={"split": "train[:8]"},
        step_scheduler={"val_every_steps": 1},
        guards={"early_stopping": {"patience": 2, "min_delta": 0.5}},
    )
    run = finetune(spec)
    assert run.status.state == "finished"
    assert len(losses(run)) == 3
    assert any(event["kind"] == "early_stopping" for event in run.events())
    assert run.checkpoints


@pytest.mark.parametrize(
    ("changes", "weights"),
    [({"model": {"torch_dtype": "bfloat16"}}, torch.bfloat16), ({"autocast": {"enabled": True}, "model": {"torch_dtype": "float32"}}, torch.float32)],
    ids=["bfloat16", "autocast"],
)
def test_low_precision_trains_close_to_float32(recipe_dict: Make, changes: dict[str, Any], weights: torch.dtype) -> None:
    exact = losses(finetune(recipe_dict(model={"torch_dtype": "float32"})))
    run = finetune(recipe_dict(**changes))
    assert losses(run)[0] == pytest.approx(exact[0], rel=5e-3)
    assert losses(run)[-1] < losses(run)[0]
    saved = read_weights(run.path)
    assert all(tensor.dtype == weights for tensor in saved.values())


def test_the_default_precision_says_why(recipe_dict: Make) -> None:
    run = finetune(recipe_dict(step_scheduler={"max_steps": 1}))
    (event,) = [event for event in run.events() if event["kind"] == "precision"]
    assert "CPU has" in event["text"] or "GPU" in event["text"]


def test_gradient_checkpointing_changes_no_loss(recipe_dict: Make) -> None:
    plain = losses(finetune(recipe_dict()))
    saved = losses(finetune(recipe_dict(distributed={"activation_checkpointing": True})))
    assert saved == pytest.approx(plain, rel=1e-6)


def test_freezing_embeddings(recipe_dict: Make) -> None:
    from safetensors.torch import load_file

    spec = recipe_dict(freeze_config={"freeze_embeddings": True})
    run = finetune(spec)
    before = load_file(Path(spec["model"]["pretrained_model_name_or_path"]) / "model.safetensors")
    after = read_weights(run.path)
    assert torch.equal(before["model.embed_tokens.weight"], after["model.embed_tokens.weight"])
    assert not torch.equal(before["model.layers.0.mlp.up_proj.weight"], after["model.layers.0.mlp.up_proj.weight"])


def test_seeds_decide_the_order(recipe_dict: Make) -> None:
    first, again, other = (losses(finetune(recipe_dict(seed=seed))) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_pretraining_on_text_from_random_weights(recipe_dict: Make, tmp_path: Path, tiny_tokenizer_dir: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(f"The bridge {i} is long. It was built by Anna." for i in range(60)))
    spec = {
        "recipe": "PretrainRecipeForNextTokenPrediction",
        "model": {
            "config": {
                "model_type": "llama",
                "vocab_size": 320,
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
            }
        },
        "tokenizer": {"pretrained_model_name_or_path": str(tiny_tokenizer_dir)},
        "dataset": {"name": "text", "path_or_dataset": str(text), "seq_length": 64},
        "step_scheduler": {"global_batch_size": 4, "local_batch_size": 4, "max_steps": 12},
        "optimizer": {"lr": 3e-3},
        "run": {"folder": str(tmp_path / "runs")},
    }
    run = finetune(spec)
    assert losses(run)[-1] < losses(run)[0] - 0.3
