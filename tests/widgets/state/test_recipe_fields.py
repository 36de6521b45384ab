"""Every field of the form has a unit, a range, an effect and a place, and what cannot apply says why."""

from __future__ import annotations

import pytest

from automodel import Recipe
from automodel.recipe.places import PLACES
from automodel.recipe.schema import Section
from automodel.recipe.sections import RecipeFields
from automodel_widgets.state.applies import method_why_not, option_why_not, section_why_not, why_not
from automodel_widgets.state.fields import GROUPS, VALIDATION, by_path, fields, scientific

START = {"model": {"pretrained_model_name_or_path": "tiny"}, "dataset": {"path_or_dataset": "rows.jsonl"}}


@pytest.mark.parametrize("field", fields(), ids=lambda field: field.path)
def test_each_field_has_unit_range_effect_and_place(field) -> None:
    assert field.group in GROUPS
    assert field.effect.endswith(".")
    assert field.label
    assert field.takes
    if field.kind in ("whole", "number"):
        assert field.unit, "a number counts something, or is a share, a factor, a rate, ..."
        assert field.range
    if field.kind == "choice":
        assert field.options or field.path == "recipe"


def test_every_key_of_the_schema_is_in_the_form_or_hidden_on_purpose() -> None:
    schema = Recipe.model_json_schema()
    shown = {path.rpartition(".")[2] for path in by_path()}
    hidden = {name for node in schema["$defs"].values() for name, one in node["properties"].items() if one.get("hidden")}
    every = {name for node in schema["$defs"].values() for name in node["properties"]} - {"early_stopping"}
    assert every <= shown | hidden
    assert all(node.get("group") in GROUPS for node in schema["properties"].values())


def test_places_name_keys_that_exist() -> None:
    sections = {kind.__name__: kind for kind in _below(Section)} | {"RecipeFields": RecipeFields}
    for name, keys in PLACES.items():
        known = {info.alias or key for key, info in sections[name].model_fields.items()}
        assert set(keys) <= known, name


def _below(kind: type) -> list[type]:
    return [one for child in kind.__subclasses__() for one in (child, *_below(child))]


def test_simple_fields_are_few_and_in_every_group() -> None:
    simple = [field for field in fields() if field.simple]
    assert {field.group for field in simple} == set(GROUPS)
    assert len(simple) < 32
    assert not any(field.path.startswith("teacher") for field in simple)


def test_rates_are_shown_in_scientific_notation() -> None:
    assert [scientific(value) for value in (0.001, 2e-4, 1.5e-5, 0.0)] == ["1e-3", "2e-4", "1.5e-5", "0"]
    assert by_path()["optimizer.lr"].text(0.0003) == "3e-4"


@pytest.mark.parametrize(
    ("path", "shown", "value"),
    [
        ("optimizer.lr", "3e-4", 3e-4),
        ("step_scheduler.max_steps", " 60 ", 60),
        ("step_scheduler.max_steps", "", None),
        ("peft.target_modules", "q_proj, v_proj", ["q_proj", "v_proj"]),
        ("dataset.path_or_dataset", "a.jsonl", "a.jsonl"),
        ("dataset.path_or_dataset", "a.jsonl, b.jsonl", ["a.jsonl", "b.jsonl"]),
        ("samples.prompts", "one, two\nthree\n", ["one, two", "three"]),
        ("dataset.column_mapping", "{answer: out}", {"answer": "out"}),
        ("optimizer.betas", "[0.9, 0.95]", [0.9, 0.95]),
        ("dataset.split", "train[:10]", "train[:10]"),
        ("checkpoint.enabled", False, False),
    ],
)
def test_a_control_means(path, shown, value) -> None:
    assert by_path()[path].value(shown) == value


@pytest.mark.parametrize("field", fields(), ids=lambda field: field.path)
def test_a_default_reads_back(field) -> None:
    if field.kind != "switch" and field.default not in (None, [], {}):
        assert field.value(field.text(field.default)) == field.default or field.kind == "choice"


@pytest.mark.parametrize(
    ("path", "more", "word"),
    [
        ("peft.dim", {}, "Only for LoRA"),
        ("peft.dim", {"peft": {"dim": 8}}, None),
        ("model.config", {}, "Model first"),
        ("dataset.column_mapping", {}, "column_mapped"),
        ("lr_scheduler.wsd_decay_steps", {}, "WSD"),
        ("lr_scheduler.lr_warmup_steps", {"lr_scheduler": {"warmup_ratio": 0.1}}, "as a share"),
        ("step_scheduler.val_every_steps", {}, "validation"),
        ("step_scheduler.val_every_steps", {"validation_dataset": {"split": "train[:5]"}}, None),
        ("optimizer.momentum", {"optimizer": {"name": "sgd"}}, None),
        ("loss_fn.chunk_len", {"loss_fn": {"name": "chunked_ce"}}, None),
        ("fp8.enabled", {}, "Not in this version"),
        ("processor.max_pixels", {}, "images and text"),
        ("dataset.truncation", {"recipe": "FinetuneRecipeForVLM"}, "Half an image"),
        ("processor.max_pixels", {"recipe": "FinetuneRecipeForVLM"}, None),
        ("dataset.mask_history", {}, "conversations"),
        ("dataset.mask_history", {"dataset": {"name": "chat"}}, None),
        ("dataset.system_prompt", {"dataset": {"name": "chat"}}, None),
        ("dataset.prompt_template", {"dataset": {"name": "chat"}}, "chat template"),
    ],
)
def test_a_field_that_cannot_apply_says_why(path, more, word) -> None:
    why = why_not(path, Recipe(**{**START, **more}))
    assert why is None if word is None else why is not None and word in why


def test_methods_options_and_sections_say_why(monkeypatch) -> None:
    from automodel_widgets.state import applies

    recipe = Recipe(**START)
    assert method_why_not("lora") is None
    assert method_why_not("qlora")
    monkeypatch.setattr(applies, "NOT_BUILT", ())
    monkeypatch.setattr(applies, "find_spec", lambda _name: None)
    assert "bitsandbytes" in str(method_why_not("qlora"))
    monkeypatch.undo()
    assert option_why_not("dataset.name", "hellaswag", recipe)
    assert option_why_not("dataset.name", "squad", recipe) is None
    assert option_why_not("recipe", "FinetuneRecipeForVLM", recipe) is None
    images = Recipe(**{**START, "recipe": "FinetuneRecipeForVLM"})
    assert "no images" in str(option_why_not("dataset.name", "text", images))
    assert option_why_not("dataset.name", "chat", images) is None
    assert section_why_not("processor") is None
    assert option_why_not("dataset.name", "chat", recipe) is None
    assert section_why_not("wandb")
    assert section_why_not(VALIDATION) is None
