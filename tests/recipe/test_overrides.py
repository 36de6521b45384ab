"""Overrides, interpolation and secrets."""

from pathlib import Path

import pytest

from automodel.errors import RecipeError
from automodel.recipe import Recipe, load_recipe, recipe_from_dict, reveal

FILES = Path(__file__).parent / "files"


def read(*words: str, data: dict[str, object] | None = None) -> Recipe:
    return recipe_from_dict(data or {}, overrides=words).recipe


def test_forms_of_an_override() -> None:
    assert read("--optimizer.lr", "1e-4").optimizer.lr == 1e-4
    assert read("--optimizer.lr=1e-4").optimizer.lr == 1e-4
    assert read("--compile.enabled").compile.enabled  # type: ignore[union-attr]  # the flag makes the section
    assert read("--optimizer.betas", "[0.8, 0.9]").optimizer.betas == (0.8, 0.9)
    assert read("--peft.target_modules", "*_proj").peft.target_modules == ["*_proj"]  # type: ignore[union-attr]  # made by the flag
    assert read("--dataset.prompt_template", "{context}\n{question}").dataset.prompt_template == "{context}\n{question}"
    assert read("--dataset.split", "train[:10]").dataset.split == "train[:10]"
    assert read("--seed", "1", "--seed", "2").seed == 2


def test_overrides_reach_nemo_spellings() -> None:
    words = ["--dataset.path_or_dataset", "x.json", "--step_scheduler.max_steps", "30", "--model.pretrained_model_name_or_path", "DIR", "--seed", "5"]
    recipe = load_recipe(FILES / "d1.yaml", overrides=words).recipe
    assert recipe.dataset.path_or_dataset == "x.json"
    assert recipe.step_scheduler.max_steps == 30
    assert recipe.model.pretrained_model_name_or_path == "DIR"
    assert recipe.seed == 5
    assert load_recipe(FILES / "d1.yaml", overrides=["--optimizer.name", "sgd"]).recipe.optimizer.name == "sgd"
    assert load_recipe(FILES / "d1.yaml", overrides=["--validation_dataset", "none"]).recipe.validation_datasets == {}
    assert load_recipe(FILES / "d1.yaml", overrides=["--dataset.name", "mock"]).recipe.dataset.name == "mock"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--optimizer.lrr", "1"], "did you mean optimizer.lr?"),
        (["--optimzer.lr", "1"], "did you mean optimizer?"),
        (["--optimizer.lr", "x"], "--optimizer.lr"),
        (["optimizer.lr", "1"], "--optimizer.lr"),
        (["--optimizer..lr", "1"], "empty part"),
        (["--step_scheduler.max_steps"], "whole number"),
    ],
)
def test_wrong_overrides(words: list[str], expected: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read(*words)
    assert expected in str(caught.value)


def test_typo_in_a_file_with_targets_is_found() -> None:
    with pytest.raises(RecipeError, match="did you mean"):
        load_recipe(FILES / "d1.yaml", overrides=["--model.pretrained_model_name_or_pat", "x"])


def test_user_keeps_what_was_written() -> None:
    loaded = load_recipe(FILES / "d1.yaml", overrides=["--seed", "5"])
    assert loaded.user["optimizer"]["_target_"] == "torch.optim.Adam"
    assert loaded.user["seed"] == 5
    assert "StatefulRNG" in loaded.user_yaml


def test_interpolation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPS", "12")
    monkeypatch.setenv("WHERE", "/data")
    recipe = read(
        data={
            "step_scheduler": {"max_steps": "${STEPS}", "num_epochs": "${NOPE_X:-3}"},
            "dataset": {"path_or_dataset": "${oc.env:WHERE,x}/a.json", "split": "${NOPE_X,train}", "system_prompt": "$${WHERE}"},
            "model": {"config_overrides": {"num_hidden_layers": "${STEPS}"}},
        }
    )
    assert (recipe.step_scheduler.max_steps, recipe.step_scheduler.num_epochs) == (12, 3)
    assert recipe.dataset.path_or_dataset == "/data/a.json"
    assert recipe.dataset.system_prompt == "${WHERE}"
    assert recipe.model.config_overrides == {"num_hidden_layers": 12}


def test_secrets_are_never_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_KEY", "s3cr3t")
    loaded = recipe_from_dict({"wandb": {"enabled": True, "api_key": "${WANDB_KEY}"}, "skypilot": {"hf_token": "hf_open"}, "tokenizer": "t"})
    for text in (loaded.recipe.to_yaml(), loaded.recipe.to_python(), loaded.recipe.to_command(), loaded.user_yaml):
        assert "s3cr3t" not in text
        assert "hf_open" not in text
        assert "${WANDB_KEY}" in text
        assert "***" in text
    assert "tokenizer" in loaded.recipe.to_yaml()
    assert any("secret in the open" in warning.message for warning in loaded.warnings)
    assert loaded.recipe.wandb is not None
    assert reveal(loaded.recipe.wandb.api_key) == "s3cr3t"  # type: ignore[attr-defined]  # an open section's own key


def test_own_targets_need_permission() -> None:
    data: dict[str, object] = {
        "optimizer": {"_target_": "mypkg.opt.Lion", "lr": 1e-4, "beta": 0.9},
        "dataset": {"_target_": "mypkg.data.rows", "split": "x", "folder": "f"},
    }
    with pytest.raises(RecipeError, match="--allow-target"):
        recipe_from_dict(data)
    recipe = recipe_from_dict(data, allow_targets=["mypkg"]).recipe
    assert (recipe.optimizer.target, recipe.optimizer.lr, recipe.optimizer.kwargs) == ("mypkg.opt.Lion", 1e-4, {"beta": 0.9})
    assert (recipe.dataset.split, recipe.dataset.kwargs) == ("x", {"folder": "f"})
    assert (
        recipe_from_dict({"optimizer": {"_target_": "mypkg2.opt.Lion"}}, allow_targets=["mypkg2.opt.Lion"]).recipe.optimizer.target
        == "mypkg2.opt.Lion"
    )
    with pytest.raises(RecipeError):
        recipe_from_dict({"optimizer": {"_target_": "mypkg2.opt.Lion"}}, allow_targets=["mypkg"])
