"""The three generations of files load, and write back as the newest."""

from pathlib import Path

import pytest

from automodel.errors import NotBuiltError, RecipeError
from automodel.recipe import Recipe, check_complete, features_not_built, load_recipe, not_built, recipe_from_dict

FILES = Path(__file__).parent / "files"
NEMO = "nemo_automodel.components"


def test_first_dialect() -> None:
    loaded = load_recipe(FILES / "d1.yaml")
    recipe = loaded.recipe
    assert loaded.dialect == "D1"
    assert recipe.seed == 1111
    assert recipe.rng is not None
    assert recipe.rng.ranked
    assert recipe.distributed.strategy == "fsdp2"
    assert recipe.distributed.dp_size is None
    assert recipe.model.torch_dtype == "bfloat16"
    assert (recipe.optimizer.name, recipe.optimizer.lr, recipe.optimizer.eps) == ("adam", 1e-5, 1e-8)
    assert recipe.dataset.name == "squad"
    assert recipe.dataset.path_or_dataset == "rajpurkar/squad"
    assert recipe.validation_datasets["validation"].split == "validation"
    assert recipe.validation_datasets["validation"].limit_dataset_samples == 64
    assert recipe.checkpoint.model_save_format == "safetensors"
    texts = " ".join(map(str, loaded.warnings))
    assert "torch_save" in texts
    assert "split_across_pack" in texts
    check_complete(recipe)
    not_built(recipe)


def test_second_dialect() -> None:
    loaded = load_recipe(FILES / "d2.yaml")
    recipe = loaded.recipe
    assert loaded.dialect == "D2"
    assert recipe.seed == 7
    assert recipe.peft is not None
    assert recipe.peft.target_modules == ["*_proj"]
    assert recipe.model.config_overrides == {"output_hidden_states": True}
    assert recipe.distributed.options["mp_policy"] == {"param_dtype": "bf16", "reduce_dtype": "float32"}
    assert recipe.loss_fn.name == "fused_linear_ce"
    data = recipe.dataset
    assert (data.name, data.path_or_dataset, data.subset) == ("column_mapped", "./rows.jsonl", "english")
    assert (data.limit_dataset_samples, data.seq_length, data.padding) == (500, 512, "max_length")
    assert recipe.tokenizer is not None
    assert recipe.tokenizer.pretrained_model_name_or_path == "some-org/small-model"
    assert recipe.dataloader.pad_seq_len_divisible == 16
    assert recipe.validation_datasets == {}
    assert recipe.optimizer.name == "adamw"
    warned = {warning.path for warning in loaded.warnings}
    assert {"ci", "_validation_dataset", "optimizer._target_", "peft.use_triton"} <= warned
    not_built(recipe)


def test_third_dialect() -> None:
    loaded = load_recipe(FILES / "d3.yaml")
    recipe = loaded.recipe
    assert loaded.dialect == "D3"
    assert recipe.task == "sft"
    assert recipe.model.config == "some-org/small-moe"
    assert recipe.model.config_overrides == {"num_hidden_layers": 4}
    assert recipe.model.backend == {"attn": "sdpa", "rms_norm": "torch"}
    assert recipe.dataset.seq_length == 64
    assert recipe.optimizer.weight_decay == 0.01  # torch's own default of AdamW
    assert recipe.checkpoint.best_metric_key == "validation"
    assert recipe.wandb is not None
    assert recipe.wandb.enabled is False
    with pytest.raises(NotBuiltError, match=r"distributed\.ep_size"):
        not_built(recipe)


@pytest.mark.parametrize("name", ["d1.yaml", "d2.yaml", "d3.yaml"])
def test_writes_back_as_the_newest(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(FILES / name).recipe
    recipe.to_yaml(tmp_path / "new.yaml")
    again = load_recipe(tmp_path / "new.yaml")
    assert again.dialect == "D3"
    assert again.recipe == recipe
    assert "_target_" not in (tmp_path / "new.yaml").read_text()


def test_recipe_is_guessed_where_the_file_names_none() -> None:
    vlm = {"model": {"_target_": "nemo_automodel.NeMoAutoModelForImageTextToText.from_pretrained", "pretrained_model_name_or_path": "x"}}
    assert recipe_from_dict(vlm).recipe.task == "vlm"
    assert recipe_from_dict({}, default_recipe="PretrainRecipeForNextTokenPrediction").recipe.task == "pretrain"


@pytest.mark.parametrize(
    ("target", "kind"),
    [("llm.hellaswag.HellaSwag", "hellaswag"), ("llm.chat_dataset.ChatDataset", "chat"), ("llm.squad.SquadConfig", "squad")],
)
def test_dataset_targets(target: str, kind: str) -> None:
    data = {"dataset": {"_target_": f"{NEMO}.datasets.{target}", "path_or_dataset": "x", "num_samples_limit": 3}}
    section = recipe_from_dict(data).recipe.dataset
    assert (section.name, section.limit_dataset_samples) == (kind, 3)


def test_conversations_of_nemo() -> None:
    own = {"path_or_dataset_id": "talks.jsonl", "name": "part", "shuffle_seed": 3, "mask_history": True, "padding": "do_not_pad", "truncation": True}
    ignored = {"unshifted": True, "start_of_turn_token": "<|im_start|>"}
    loaded = recipe_from_dict({"dataset": {"_target_": f"{NEMO}.datasets.llm.chat_dataset.ChatDataset", **own, **ignored}})
    section = loaded.recipe.dataset
    assert (section.name, section.subset, section.path_or_dataset, section.mask_history) == ("chat", "part", "talks.jsonl", True)
    assert section.padding is False
    assert section.kwargs == {}
    assert [warning.path for warning in loaded.warnings] == [f"dataset.{name}" for name in ignored]
    not_built(loaded.recipe)
    with pytest.raises(RecipeError, match="mask_historie"):
        recipe_from_dict({"dataset": {"name": "chat", "mask_historie": True}})


def test_a_dataset_of_nemo_that_is_not_here_is_named() -> None:
    target = f"{NEMO}.datasets.vlm.datasets.make_cord_v2_dataset"
    recipe = recipe_from_dict({"dataset": {"_target_": target, "split": "train"}}).recipe
    assert recipe.dataset.target == target
    with pytest.raises(NotBuiltError, match="dataset"):
        not_built(recipe)


@pytest.mark.parametrize(
    ("target", "name", "lr"),
    [("torch.optim.AdamW", "adamw", 1e-3), ("torch.optim.SGD", "sgd", 1e-3), ("torch.optim.adagrad.Adagrad", "adagrad", 1e-2)],
)
def test_torch_optimizers_keep_torch_defaults(target: str, name: str, lr: float) -> None:
    section = recipe_from_dict({"optimizer": {"_target_": target, "amsgrad": False}}).recipe.optimizer
    assert (section.name, section.lr) == (name, lr)


def test_validation_set_without_a_source_reads_the_training_one() -> None:
    data = {"dataset": {"path_or_dataset": "a.json", "seq_length": 64, "split": "train[:-8]"}, "validation_dataset": {"split": "train[-8:]"}}
    held_out = recipe_from_dict(data, overrides=["--dataset.path_or_dataset", "b.json"]).recipe.validation_datasets["validation"]
    assert (held_out.path_or_dataset, held_out.seq_length, held_out.split) == ("b.json", 64, "train[-8:]")


def test_validation_on_training_rows_warns() -> None:
    loaded = recipe_from_dict({"dataset": {"path_or_dataset": "a.json"}, "validation_dataset": {}})
    assert any("same rows" in warning.message for warning in loaded.warnings)


def test_either_seed_counts() -> None:
    assert recipe_from_dict({"rng": {"seed": 3}}).recipe.seed == 3
    assert Recipe(rng={"seed": 3}).seed == 3
    assert recipe_from_dict({"seed": 4, "rng": {"seed": 3}}, overrides=["--rng.seed=9"]).recipe.seed == 9
    with pytest.raises(RecipeError, match="two different seeds"):
        recipe_from_dict({"seed": 4, "rng": {"seed": 3}})


def test_short_forms() -> None:
    recipe = recipe_from_dict(
        {"model": "m", "optimizer": "sgd", "dataset": "d.json", "clip_grad_norm": 0.5, "distributed": "ddp", "tokenizer": "t"}
    ).recipe
    assert recipe.model.pretrained_model_name_or_path == "m"
    assert recipe.optimizer.name == "sgd"
    assert recipe.dataset.path_or_dataset == "d.json"
    assert recipe.clip_grad_norm.max_norm == 0.5
    assert recipe.distributed.strategy == "ddp"


@pytest.mark.parametrize("spelling", ["none", "None", "null", None, ""])
def test_none_null_and_absent_are_the_same(spelling: object) -> None:
    data = {
        "distributed": {"dp_size": spelling, "tp_size": spelling},
        "peft": spelling,
        "optimizer": {"weight_decay": spelling},
        "dataset": {"split": spelling},
    }
    assert recipe_from_dict(data).recipe == Recipe()


def test_null_turns_clipping_off() -> None:
    assert recipe_from_dict({"clip_grad_norm": {"max_norm": None}}).recipe.clip_grad_norm.max_norm is None


def test_a_processor_of_nemo_is_read_and_written_back(tmp_path: Path) -> None:
    section = {
        "_target_": "transformers.AutoProcessor.from_pretrained",
        "pretrained_model_name_or_path": "a/b",
        "trust_remote_code": True,
        "padding_side": "left",
        "min_pixels": 200704,
        "max_pixels": 1003520,
        "use_fast": False,
    }
    loaded = recipe_from_dict({"recipe": "FinetuneRecipeForVLM", "processor": section})
    found = loaded.recipe.processor
    assert found is not None
    assert (found.target, found.max_pixels, found.trust_remote_code, found.kwargs) == (None, 1003520, True, {"use_fast": False})
    loaded.recipe.to_yaml(tmp_path / "new.yaml")
    assert load_recipe(tmp_path / "new.yaml").recipe == loaded.recipe
    short = recipe_from_dict({"recipe": "FinetuneRecipeForVLM", "processor": "a/b"}).recipe.processor
    assert short is not None
    assert short.pretrained_model_name_or_path == "a/b"
    own = {"_target_": f"{NEMO}.models.minimax_m3_vl.processing.build_minimax_m3_vl_processor", "pretrained_model_name_or_path": "a/b"}
    kept = recipe_from_dict({"recipe": "FinetuneRecipeForVLM", "processor": own}).recipe
    assert kept.processor is not None
    assert kept.processor.target == own["_target_"]
    assert "processor._target_" in dict(features_not_built(kept))
