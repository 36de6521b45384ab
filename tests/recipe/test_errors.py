"""Wrong recipes: one message with file, line, what was found, what was expected, and the fix."""

from pathlib import Path

import pytest

from automodel.errors import RecipeError
from automodel.recipe import Recipe, check_complete, check_world, load_recipe, recipe_from_dict


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "r.yaml"
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("optimizer:\n  lrr: 1e-5\n", 2, ["optimizer.lrr", "did you mean optimizer.lr?"]),
        ("optimzer:\n  lr: 1e-5\n", 1, ["did you mean optimizer?"]),
        ("optimizer:\n  name: adamw\n  lr: -1e-5\n", 3, ["optimizer.lr", "number > 0"]),
        ("optimizer:\n  learning_rate: fast\n", 2, ["fast", "number > 0"]),
        ("step_scheduler:\n  max_steps: many\n", 2, ["whole number >= 1, or none"]),
        ("step_scheduler:\n  max_steps: true\n", 2, ["whole number"]),
        ("step_scheduler:\n  lr: 1\n", 2, ["lr belongs to optimizer"]),
        ("model:\n  torch_dtype: bf17\n", 2, ["bfloat16"]),
        ("seed: 1\nseed: 2\n", 2, ["given twice", "line 1"]),
        ("a: [1\nb: 2\n", 2, ["not valid YAML"]),
        ("model: !!python/object/apply:os.system ['true']\n", 1, ["tags are not allowed"]),
        ("recipe: TrainFinetuneRecipeForNextTokenPrediktion\n", 1, ["did you mean TrainFinetuneRecipeForNextTokenPrediction"]),
        ("seed: 1\noptimizer:\n  _target_: os.system\n  lr: 1\n", 3, ["os.system", "--allow-target os.system"]),
        ("model:\n  backend:\n    _target_: evil.Backend\n", 3, ["evil.Backend", "--allow-target"]),
        ("model:\n  _target_: nemo_automodel.NeMoAutoModelForCausalLM.from_pretrained\n  pretrained_model_name_or_pth: x\n", 3, ["did you mean"]),
        ("step_scheduler:\n  global_batch_size: 7\n  local_batch_size: 2\n", 2, ["global_batch_size: 6 or 8", "multiple"]),
        ("flow_matching: {i2v_prob: 1}\n", 1, ["diffusion"]),
        ("validation_dataset:\n  spilt: train\n", 2, ["did you mean"]),
        ("model:\n  cache_dir: ${NOT_SET_ANYWHERE}\n", 2, ["NOT_SET_ANYWHERE"]),
        ("peft:\n  target_modules: a\n  match_all_linear: true\n", 2, ["two ways"]),
        ("lr_scheduler: {lr_warmup_steps: 3, warmup_ratio: 0.1}\n", 1, ["given twice"]),
        ("optimizer: {lr: 1e-5}\nlr_scheduler:\n  min_lr: 1e-3\n", 3, ["above the highest learning rate"]),
        ("quantization: {load_in_4bit: true}\n", 1, ["QLoRA"]),
        ("optimizer: {lr: .nan}\n", 1, ["number > 0"]),
        ("dataset: {tokenizer: a}\ntokenizer: b\n", 1, ["two tokenizers"]),
    ],
)
def test_message_names_line_and_fix(tmp_path: Path, text: str, line: int, words: list[str]) -> None:
    file = write(tmp_path, text)
    with pytest.raises(RecipeError) as caught:
        load_recipe(file)
    message = str(caught.value)
    assert caught.value.exit_code == 2
    assert f"r.yaml:{line}:" in message
    for word in words:
        assert word in message
    assert "fix:" in message


def test_all_problems_in_one_message(tmp_path: Path) -> None:
    file = write(tmp_path, "optimizer: {lr: -1}\nmodel: {foo: 1}\nstep_scheduler:\n  max_steps: 0\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(file)
    message = str(caught.value)
    assert "3 problems" in message
    assert message.index("r.yaml:1") < message.index("r.yaml:2") < message.index("r.yaml:4")


def test_missing_file_names_the_nearest(tmp_path: Path) -> None:
    write(tmp_path, "seed: 1\n")
    with pytest.raises(RecipeError, match="did you mean"):
        load_recipe(tmp_path / "rr.yaml")
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(tmp_path)


def test_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(tmp_path / "r.yaml")


def test_yaml_bomb_is_refused_quickly(tmp_path: Path) -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    with pytest.raises(RecipeError, match="far more"):
        load_recipe(write(tmp_path, "\n".join(rows)))


@pytest.mark.parametrize("text", ["a: &a [*a]\n", "a: " + "[" * 3000 + "]" * 3000, "# " + "x" * 2_000_000])
def test_endless_deep_and_huge_files_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(RecipeError):
        load_recipe(write(tmp_path, text))


def test_anchors_and_merge_keys(tmp_path: Path) -> None:
    text = "_base: &base {path_or_dataset: a.json, seq_length: 9}\ndataset:\n  <<: *base\n  seq_length: 10\n"
    text += "validation_dataset:\n  <<: *base\n  split: val\n"
    recipe = load_recipe(write(tmp_path, text)).recipe
    assert recipe.dataset.seq_length == 10
    assert recipe.validation_datasets["validation"].seq_length == 9


def test_python_errors_are_recipe_errors() -> None:
    with pytest.raises(RecipeError, match=r"optimizer\.lr"):
        Recipe(optimizer={"lr": -1})
    with pytest.raises(RecipeError, match="did you mean"):
        Recipe(optimizer={"lrr": 1})


@pytest.mark.parametrize(
    ("data", "word"),
    [
        ({}, "no model"),
        ({"model": {"pretrained_model_name_or_path": "a", "config": "b"}, "dataset": "d"}, "two models"),
        ({"model": "a"}, "no data"),
        ({"model": "a", "dataset": {"name": "column_mapped", "path_or_dataset": "d"}}, "column holds the answer"),
        ({"model": "a", "dataset": "d", "guards": {"early_stopping": {}}}, "validation set"),
    ],
)
def test_incomplete_recipes_validate_but_cannot_start(data: dict[str, object], word: str) -> None:
    loaded = recipe_from_dict(data)
    with pytest.raises(RecipeError, match=word):
        check_complete(loaded.recipe)
    with pytest.raises(RecipeError, match=word):
        loaded.check_complete()


def test_world_size() -> None:
    recipe = Recipe(step_scheduler={"global_batch_size": 8, "local_batch_size": 4})
    assert check_world(recipe, 1) == 1
    assert check_world(recipe, 2) == 2
    with pytest.raises(RecipeError, match="local_batch_size: 2"):
        check_world(recipe, 4)
    with pytest.raises(RecipeError, match="dp_size"):
        check_world(Recipe(distributed={"dp_size": 4}), 2)
