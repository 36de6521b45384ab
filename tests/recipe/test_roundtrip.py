"""YAML, Python and the command line each give the same recipe back."""

import sys
import types
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from automodel.recipe import Recipe, as_loaded, load_recipe, recipe_from_dict
from automodel.recipe.dump import python_values

FILES = Path(__file__).parent / "files"
# Every kind of text that YAML, a shell or Python could misread.
TRICKY = ["1e-5", "007", "true", "no", "a: b", "[x]", "{y}", "- z", "--flag", "-1", "${HOME}", "$${HOME}", "# c", "'", '"', "\\", "a\nb", " lead"]
TRICKY += ["日本", "*_proj", "!t", "&a", "%d", "@x", "`", "|", "\u2028", "=", "''"]
texts = st.one_of(st.sampled_from(TRICKY), st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)).filter(
    lambda text: text.strip().lower() not in ("none", "null", "~", "")
)
keys = st.from_regex(r"[a-z][a-z_]{2,8}", fullmatch=True).filter(lambda key: not key.endswith(("token", "secret", "password", "key")))
values = st.recursive(
    st.one_of(st.booleans(), st.integers(-(10**12), 10**12), st.floats(allow_nan=False, allow_infinity=False), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=5,
)
rates = st.floats(1e-9, 1.0)
counts = st.integers(1, 10**6)


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


datasets = some(
    name=st.sampled_from(["squad", "text", "mock", "column_mapped"]),
    path_or_dataset=st.one_of(texts, st.lists(texts, min_size=1, max_size=2)),
    split=texts,
    seq_length=counts,
    column_mapping=st.dictionaries(keys, texts, max_size=2),
    prompt_template=texts,
    truncation=st.booleans(),
    shuffle_seed=st.integers(0, 99),
)
own = st.fixed_dictionaries(
    {"target": st.just("mypkg.make"), "kwargs": st.dictionaries(keys | st.sampled_from(["lr", "name", "kwargs"]), values, max_size=3)}
)
recipes = some(
    seed=st.integers(0, 2**31),
    recipe=st.sampled_from(
        ["TrainFinetuneRecipeForNextTokenPrediction", "PretrainRecipeForNextTokenPrediction", "KnowledgeDistillationRecipeForVLM"]
    ),
    model=st.one_of(
        some(
            pretrained_model_name_or_path=texts,
            torch_dtype=st.sampled_from(["auto", "bf16", "float32"]),
            backend=st.dictionaries(keys, values, max_size=2),
        ),
        st.fixed_dictionaries({"config": st.dictionaries(keys, values, max_size=3).map(lambda found: {"model_type": "llama", **found})}),
    ),
    peft=some(dim=counts, alpha=rates, target_modules=st.lists(texts, min_size=1, max_size=2), use_dora=st.booleans()),
    optimizer=st.one_of(
        some(name=st.sampled_from(["adamw", "sgd"]), lr=rates, eps=rates, betas=st.tuples(st.floats(0, 0.99), st.floats(0, 0.99))), own
    ),
    dataset=st.one_of(datasets, own),
    validation_datasets=st.dictionaries(st.sampled_from(["validation", "a", "b-2"]), datasets, max_size=2),
    clip_grad_norm=some(max_norm=st.one_of(st.none(), rates)),
    distributed=some(
        strategy=st.sampled_from(["ddp", "fsdp2"]), activation_checkpointing=st.sampled_from([True, False, "selective"]), dp_size=st.none() | counts
    ),
    freeze_config=st.dictionaries(keys, st.booleans(), min_size=1, max_size=2),
    samples=some(prompts=st.lists(texts, max_size=3), max_new_tokens=counts),
    guards=some(nonfinite=st.sampled_from(["stop", "skip"]), early_stopping=some(patience=counts)),
    checkpoint=some(save_consolidated=st.sampled_from([True, False, "final"]), max_recent_checkpoints=st.none() | counts),
    wandb=st.dictionaries(keys, values, max_size=3),
    lr_scheduler=some(lr_decay_style=st.sampled_from(["WSD", "cosine"]), warmup_ratio=st.floats(0, 1)),
)


@settings(max_examples=30, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(recipes)
def test_yaml_python_and_command_are_inverse(data: dict[str, Any]) -> None:
    recipe = Recipe(**data)
    for only_set in (True, False):
        assert from_yaml_text(recipe.to_yaml(only_set=only_set)) == recipe
    assert Recipe.from_command(recipe.to_command(), allow_targets=["mypkg"]) == recipe
    assert from_python(recipe.to_python(run=False)) == recipe


def from_yaml_text(text: str) -> Recipe:
    from automodel.recipe.read import build, read_tree
    from automodel.recipe.tree import parse_text

    return build(Recipe, read_tree(parse_text(text, name="text"), allow_targets=["mypkg"]))


def from_python(code: str) -> Recipe:
    room = types.ModuleType("automodel")
    room.Recipe = Recipe  # type: ignore[attr-defined]  # a stand-in for the front door, which another test covers
    before = sys.modules["automodel"]
    sys.modules["automodel"] = room
    try:
        names: dict[str, Any] = {}
        exec(compile(code, "recipe", "exec"), names)
    finally:
        sys.modules["automodel"] = before
    found = names["recipe"]
    assert isinstance(found, Recipe)
    return found


TRAIN = {"name": "squad", "path_or_dataset": "rows.jsonl", "split": "train[:90%]", "seq_length": 512, "column_mapping": {"question": "q"}}
OWN = {"_target_": "mypkg.make", "split": "train", "seq_length": 64, "kwargs": {"lr": 1, "size": 2}}


@pytest.mark.parametrize(
    ("train", "given"),
    [
        (TRAIN, {"split": "train[90%:]", "seq_length": "none"}),
        (TRAIN, {}),
        (TRAIN, {"split": "test", "seq_length": 512, "path_or_dataset": "rows.jsonl"}),
        (TRAIN, {"limit_dataset_samples": 8, "truncation": False}),
        (TRAIN, {"name": "mock", "num_samples": 4}),
        (OWN, {"split": "test"}),
        (OWN, {"kwargs": {"size": 3}}),
        (OWN, {"kwargs": {"size": 2}, "seq_length": 32}),
        (OWN, {"_target_": "mypkg.make", "split": "test"}),
    ],
)
def test_what_a_validation_set_inherits_is_not_written(train: dict[str, Any], given: dict[str, Any]) -> None:
    recipe = recipe_from_dict({"dataset": train, "validation_dataset": given, "validation_dataset_b": given}, allow_targets=["mypkg"]).recipe
    wanted = {key: value for key, value in given.items() if value != "none" and (key, value) != ("kwargs", {"size": 2})}
    short, python = YAML(typ="safe").load(recipe.to_yaml()), python_values(recipe)
    for name, section in (("validation", "validation_dataset"), ("b", "validation_dataset_b")):
        assert short[section] == wanted
        found = {{"target": "_target_"}.get(key, key): value for key, value in python["validation_datasets"][name].items()}
        assert {key: value for key, value in found.items() if value not in (None, {})} == wanted
    for again in (
        from_yaml_text(recipe.to_yaml()),
        from_yaml_text(recipe.to_yaml(only_set=False)),
        from_python(recipe.to_python(run=False)),
        Recipe.from_command(recipe.to_command(), allow_targets=["mypkg"]),
        recipe_from_dict(recipe.model_dump(mode="json", by_alias=True, exclude_unset=True), allow_targets=["mypkg"]).recipe,
    ):
        assert again == recipe
    assert from_yaml_text(recipe.to_yaml()).to_yaml() == recipe.to_yaml()


def test_a_written_recipe_still_follows_its_training_set() -> None:
    recipe = recipe_from_dict({"dataset": TRAIN, "validation_dataset": {"split": "test"}}).recipe
    moved = as_loaded(recipe, overrides=["--dataset.path_or_dataset=other.jsonl"]).recipe
    assert moved.validation_datasets["validation"].path_or_dataset == "other.jsonl"
    assert "path_or_dataset: rows.jsonl" in recipe.to_yaml(only_set=False).partition("validation_dataset")[2]


@pytest.mark.parametrize("name", ["d1.yaml", "d2.yaml", "d3.yaml"])
def test_files_of_every_dialect_come_back(name: str) -> None:
    recipe = load_recipe(FILES / name).recipe
    assert from_yaml_text(recipe.to_yaml()) == recipe
    assert Recipe.from_command(recipe.to_command()) == recipe
    assert from_python(recipe.to_python(run=False)) == recipe


def test_order_is_kept() -> None:
    recipe = Recipe(model={"config": {"model_type": "llama", "z": 1, "a": 2, "m": 3}})
    again = from_yaml_text(recipe.to_yaml())
    assert isinstance(again.model.config, dict)
    assert list(again.model.config) == ["model_type", "z", "a", "m"]


def test_only_set_is_short_and_full_holds_defaults() -> None:
    recipe = recipe_from_dict({"optimizer": {"lr": 1e-4}}).recipe
    short, full = recipe.to_yaml(), recipe.to_yaml(only_set=False)
    assert "weight_decay" not in short
    assert "weight_decay: 0.0" in full
    assert "# The optimizer." in short


def test_written_numbers_are_numbers_to_old_readers() -> None:
    text = Recipe(optimizer={"lr": 1e-5}).to_yaml()
    assert "lr: 1.0e-05" in text


def test_to_yaml_writes_the_file(tmp_path: Path) -> None:
    text = Recipe(seed=3).to_yaml(tmp_path / "r.yaml")
    assert (tmp_path / "r.yaml").read_text() == text


def test_python_snippet_runs_the_recipe() -> None:
    code = Recipe(model={"pretrained_model_name_or_path": "m"}).to_python()
    compile(code, "snippet", "exec")
    assert code.endswith("run = automodel.finetune(recipe)\n")
    assert "automodel.Recipe(" in code


def test_command_names_the_domain() -> None:
    assert Recipe(recipe="PretrainRecipeForNextTokenPrediction").to_command().startswith("automodel pretrain llm -c recipe.yaml")
    assert Recipe().to_command(config=None) == "automodel finetune llm"
