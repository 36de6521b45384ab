"""A recipe as YAML, command and Python: each reads back, nothing is run, nothing that was typed is lost."""

from __future__ import annotations

import pytest

from automodel.errors import RecipeError
from automodel.recipe import list_presets, recipe_from_dict
from automodel_widgets.state.recipe_text import demo_paths, from_command, from_python, from_yaml, hidden, revised, sections, to_yaml

PRESETS = list_presets()


@pytest.mark.parametrize("name", PRESETS)
def test_each_preset_reads_back_from_each_language(name) -> None:
    data = from_yaml(PRESETS[name].read_text(encoding="utf-8")).data
    recipe = recipe_from_dict(data).recipe
    assert from_yaml(to_yaml(data)).data == data
    assert recipe_from_dict(from_yaml(recipe.to_yaml()).data).recipe == recipe
    assert recipe_from_dict(from_command(recipe.to_command()).data).recipe == recipe
    assert recipe_from_dict(from_python(recipe.to_python()).data).recipe == recipe


@pytest.mark.parametrize("name", PRESETS)
def test_a_change_keeps_the_comments_of_the_text(name) -> None:
    text = PRESETS[name].read_text(encoding="utf-8")
    data = from_yaml(text).data
    data["optimizer"]["lr"] = 3e-4
    data.pop("lr_scheduler", None)
    data["guards"] = {"nonfinite": "skip"}
    made = revised(text, data)
    assert text.splitlines()[0] in made
    assert from_yaml(made).data == data


def test_older_spellings_become_the_names_of_the_form() -> None:
    read = from_yaml("model: org/tiny\noptimizer: {_target_: torch.optim.AdamW, lr: 1e-3}\ndataset: {path_or_dataset: rows.jsonl}\n")
    assert read.data["model"] == {"pretrained_model_name_or_path": "org/tiny"}
    assert read.data["optimizer"]["name"] == "adamw"
    assert sections({"model": "org/tiny"})["model"] == {"pretrained_model_name_or_path": "org/tiny"}


def test_placeholders_stay() -> None:
    text = "model: {pretrained_model_name_or_path: tiny}\ndataset: {path_or_dataset: '${HOME}/rows.jsonl'}\n"
    assert from_yaml(text).data["dataset"]["path_or_dataset"] == "${HOME}/rows.jsonl"


def test_a_secret_is_left_out_and_said() -> None:
    read = from_yaml("model: {pretrained_model_name_or_path: x}\nwandb: {api_key: abcdef, project: p}\n")
    assert "abcdef" not in repr(read)
    assert read.data["wandb"] == {"project": "p"}
    assert "wandb.api_key" in read.notes[0]


def test_yaml_errors_have_lines_and_the_nearest_key() -> None:
    with pytest.raises(RecipeError) as caught:
        from_yaml("model: {pretrained_model_name_or_path: x}\noptimizer:\n  lrr: 1e-4\n")
    assert "line:3" in str(caught.value)
    assert "optimizer.lr?" in str(caught.value)


def test_a_command_with_a_file_takes_both(tmp_path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("model: {pretrained_model_name_or_path: tiny}\noptimizer: {lr: 1e-4}\n", encoding="utf-8")
    read = from_command(f"$ automodel finetune llm -c {file} \\\n  --optimizer.lr=3e-4 --nproc-per-node 2 --dataloader.shuffle")
    assert read.data["optimizer"]["lr"] == 3e-4
    assert read.data["dataloader"]["shuffle"] is True
    assert read.data["model"]["pretrained_model_name_or_path"] == "tiny"
    assert "was read" in read.notes[0]
    assert "not here" in from_command("automodel away.yaml --seed 3").notes[0]


@pytest.mark.parametrize("text", ["rm -rf /", "automodel finetune llm --optimizer.lrr 1", "automodel 'open", ""])
def test_other_commands_are_refused(text) -> None:
    with pytest.raises(RecipeError):
        from_command(text)


@pytest.mark.parametrize(
    "text",
    [
        "x = 1",
        "automodel.Recipe(model=open('x'))",
        "automodel.Recipe(**values)",
        "automodel.Recipe({'seed': 1})",
        "Recipe(seed=1)\nRecipe(seed=2)",
        "recipe = (",
    ],
)
def test_python_is_never_run(text) -> None:
    with pytest.raises(RecipeError):
        from_python(text)


def test_what_the_package_ships_is_found_anywhere() -> None:
    made = demo_paths({"model": {"pretrained_model_name_or_path": "automodel/demo/model"}})
    assert made["model"]["pretrained_model_name_or_path"].startswith("/")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("wandb:\n  api_key: abc\n  lrr: 1", "wandb:\n  api_key: ***\n  lrr: 1"),
        ("wandb: {api_key: 'abc', x: 1}", "wandb: {api_key: '***', x: 1}"),
        ("automodel --wandb.api_key abc --seed 1", "automodel --wandb.api_key *** --seed 1"),
        ("Recipe(wandb={'hf_token': 'abc'})", "Recipe(wandb={'hf_token': '***'})"),
        ("hf_token: ${HF_TOKEN}", "hf_token: ${HF_TOKEN}"),
        ("max_new_tokens: 32\nadd_bos_token: true", "max_new_tokens: 32\nadd_bos_token: true"),
    ],
)
def test_a_text_that_does_not_fit_shows_no_secret(text, shown) -> None:
    assert hidden(text) == shown


def test_a_switch_is_no_secret_whatever_its_name() -> None:
    data = {"tokenizer": {"add_bos_token": True}}
    assert from_yaml(to_yaml(data)).data == data
