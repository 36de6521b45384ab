"""The shipped recipes, the reference, and how light the room is."""

import subprocess
import sys
from pathlib import Path

import pytest

from automodel.errors import NotBuiltError, RecipeError
from automodel.recipe import Recipe, check_world, list_presets, load_recipe, not_built, preset_path
from automodel.recipe.reference import json_schema, recipe_reference
from automodel.recipe.sections import RecipeFields

ROOT = Path(__file__).parents[2]


def test_presets_are_found_by_name() -> None:
    assert {"sft_guide", "peft_guide", "pretrain_text", "column_mapped", "mock_smoke"} <= set(list_presets())
    assert preset_path("sft_guide").is_file()
    with pytest.raises(RecipeError, match="did you mean sft_guide"):
        preset_path("sft_gide")


@pytest.mark.parametrize("name", sorted(list_presets()))
def test_presets_are_ready_to_run(name: str) -> None:
    loaded = load_recipe(preset_path(name))
    loaded.check_complete()
    not_built(loaded.recipe)
    assert loaded.warnings == []
    assert loaded.dialect == "D3"
    for processes in (1, 2):
        check_world(loaded.recipe, processes)
    short = load_recipe(preset_path(name), overrides=["--step_scheduler.max_steps", "3"]).recipe
    assert short.step_scheduler.max_steps == 3


@pytest.mark.parametrize("name", ["sft_guide", "peft_guide"])
def test_guides_take_a_local_file(name: str) -> None:
    words = ["--model.pretrained_model_name_or_path", "DIR", "--dataset.path_or_dataset", "local.json", "--step_scheduler.max_steps", "30"]
    recipe = load_recipe(preset_path(name), overrides=words).recipe
    held_out = recipe.validation_datasets["validation"]
    assert (recipe.dataset.path_or_dataset, held_out.path_or_dataset) == ("local.json", "local.json")
    assert recipe.dataset.split != held_out.split


def test_reference_names_every_key() -> None:
    text = recipe_reference()
    for name in RecipeFields.model_fields:
        assert f"`{name}`" in text
    assert "`lr` | number > 0 (typically" in text
    assert json_schema()["properties"]["seed"]["minimum"] == 0


def test_every_key_says_what_it_does() -> None:
    for name, definition in json_schema()["$defs"].items():
        for key, value in definition["properties"].items():
            assert value.get("description"), f"{name}.{key}"


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ({"quantization": {"load_in_4bit": True}, "peft": {}}, "quantization"),
        ({"fp8": {"enabled": True}}, "fp8"),
        ({"compile": {"enabled": True}}, "compile"),
        ({"distributed": {"tp_size": 2}}, "distributed.tp_size"),
        ({"distributed": {"dp_replicate_size": 2}}, "distributed.dp_replicate_size"),
        ({"distributed": {"strategy": "megatron_fsdp"}}, "distributed.strategy"),
        ({"packed_sequence": {"packed_sequence_size": 64}}, "packed_sequence"),
        ({"wandb": {"project": "x"}}, "wandb"),
        ({"slurm": {"nodes": 2}}, "slurm"),
        ({"dataset": {"name": "hellaswag"}}, "dataset.name"),
        ({"checkpoint": {"is_async": True}}, "checkpoint.is_async"),
        ({"loss_fn": {"target": "mypkg.Loss"}}, "loss_fn._target_"),
        ({"recipe": "TrainFinetuneRecipeForSequenceClassification"}, "recipe"),
        ({"recipe": "FinetuneRecipeForVLM", "dataset": {"name": "squad"}}, "dataset.name"),
        ({"recipe": "FinetuneRecipeForVLM", "dataset": {"name": "chat"}, "processor": {"target": "automodel.Own"}}, "processor._target_"),
        ({"recipe": "FinetuneRecipeForVLM", "dataset": {"target": "nemo_automodel.vlm.make_cord_v2_dataset"}}, "dataset._target_"),
        ({"processor": {"max_pixels": 1000}}, "processor"),
        ({"kd_ratio": 0.5}, "teacher_model"),
    ],
)
def test_features_not_built_are_named(data: dict[str, object], key: str) -> None:
    with pytest.raises(NotBuiltError) as caught:
        not_built(Recipe(**data))
    assert caught.value.found.startswith(key)
    assert caught.value.fix


VLM = {"recipe": "FinetuneRecipeForVLM", "dataset": {"name": "chat"}, "processor": {"max_pixels": 1000}}


@pytest.mark.parametrize("data", [{"neftune": {}}, {"freeze_config": {"freeze_embeddings": True}}, {"samples": {}}, {"fp8": {"enabled": False}}, VLM])
def test_built_features_pass(data: dict[str, object]) -> None:
    not_built(Recipe(**data))


def test_room_is_light() -> None:
    code = (
        "import sys; from automodel.recipe import load_recipe, list_presets; [load_recipe(p) for p in list_presets().values()];"
        "print([m for m in ('torch', 'transformers', 'datasets', 'peft', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
