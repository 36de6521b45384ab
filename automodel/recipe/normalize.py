"""From a file as it was written to the one normal form of the schema: dialects, aliases, short forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from automodel.recipe import forms_data, forms_model, forms_rest
from automodel.recipe.aliases import FOREIGN_SECTIONS, IGNORED_SECTIONS, MODEL_CLASSES, SFT
from automodel.recipe.context import Context, leaf_of
from automodel.recipe.problems import Path, dotted, nearest
from automodel.recipe.sections import NONE_SPELLINGS, RECIPES

Form = Callable[[dict[str, Any], Context, Path], dict[str, Any]]

FORMS: dict[str, Form] = {
    "rng": forms_rest.rng,
    "model": forms_model.model,
    "teacher_model": forms_model.model,
    "tokenizer": forms_model.tokenizer,
    "processor": forms_model.processor,
    "peft": forms_model.peft,
    "quantization": forms_model.open_section,
    "fp8": forms_model.open_section,
    "wandb": forms_model.open_section,
    "mlflow": forms_model.open_section,
    "tensorboard": forms_model.open_section,
    "trackio": forms_model.open_section,
    "benchmark": forms_model.open_section,
    "kd_loss_fn": forms_model.open_section,
    "slurm": forms_model.open_section,
    "skypilot": forms_model.open_section,
    "distributed": forms_rest.distributed,
    "teacher_distributed": forms_rest.distributed,
    "loss_fn": forms_rest.loss_fn,
    "dataset": forms_data.dataset,
    "dataloader": forms_data.dataloader,
    "validation_dataloader": forms_data.dataloader,
    "packed_sequence": forms_data.packed_sequence,
    "step_scheduler": forms_rest.step_scheduler,
    "optimizer": forms_rest.optimizer,
    "lr_scheduler": forms_rest.lr_scheduler,
    "checkpoint": forms_rest.checkpoint,
}
# The key that a section means when it is written as one value: `optimizer: adamw`.
SHORT_KEYS = {
    "model": "pretrained_model_name_or_path",
    "teacher_model": "pretrained_model_name_or_path",
    "tokenizer": "pretrained_model_name_or_path",
    "processor": "pretrained_model_name_or_path",
    "dataset": "path_or_dataset",
    "optimizer": "name",
    "loss_fn": "name",
    "distributed": "strategy",
    "lr_scheduler": "lr_decay_style",
    "clip_grad_norm": "max_norm",
    "neftune": "noise_alpha",
    "rng": "seed",
}


def normalize(raw: dict[str, Any], ctx: Context, *, default_recipe: str | None = None) -> dict[str, Any]:
    """Return the normal form of a recipe; warnings and problems go to the context.

    Args:
        raw: the recipe as written, overrides applied, placeholders filled in.
        ctx: where values stand, and what is allowed.
        default_recipe: recipe class for a file that names none.
    """
    data = _top_level(raw, ctx)
    data["recipe"] = _recipe_name(data, ctx, default_recipe)
    _gather_validation(data, ctx)
    for name in list(data):
        if name in FORMS or name in SHORT_KEYS:
            data[name] = _section(name, data[name], ctx, (name,), FORMS.get(name))
    _datasets(data, ctx)
    _seed(data, ctx)
    return data


def _top_level(raw: dict[str, Any], ctx: Context) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for key, value in raw.items():
        path = (key,)
        off = _off(value) or (isinstance(value, dict) and any(value.get(word) in (False, "false", "False") for word in ("enabled", "enable")))
        if key.startswith("_"):
            ctx.warn(path, "is ignored: a leading underscore comments a block out")
        elif key in IGNORED_SECTIONS:
            ctx.warn(path, f"is ignored: {IGNORED_SECTIONS[key]}")
        elif key in FOREIGN_SECTIONS and not off:
            ctx.problem(
                path,
                f"The section {key} belongs to {FOREIGN_SECTIONS[key]}, which this library does not have.",
                found=key,
                expected="sections of " + ", ".join(sorted(set(RECIPES.values()))),
                fix="remove it, or run this file with NeMo AutoModel",
            )
        elif not _off(value) and key not in FOREIGN_SECTIONS:
            data[key] = dict(value) if isinstance(value, dict) else value
    return data


def _off(value: object) -> bool:
    return value is None or (isinstance(value, str) and value.strip().lower() in NONE_SPELLINGS)


def _section(name: str, value: Any, ctx: Context, path: Path, form: Form | None) -> Any:
    if not isinstance(value, dict):
        if name not in SHORT_KEYS or isinstance(value, list | bool):
            return value  # pydantic says what is wrong with it
        value = {SHORT_KEYS[name]: value}
        ctx.moved[(*path, SHORT_KEYS[name])] = path
    return form(dict(value), ctx, path) if form else value


def _recipe_name(data: dict[str, Any], ctx: Context, default: str | None) -> str:
    given = data.pop("recipe", None)
    if isinstance(given, dict):
        given = given.get("_target_")
    if given is None:
        return default or _guess(data)
    name = str(given).rsplit(".", 1)[-1]
    if name not in RECIPES:
        best = nearest(name, RECIPES)
        ctx.problem(
            ("recipe",),
            "This kind of recipe is not known.",
            found=str(given),
            expected=f"one of {', '.join(RECIPES)}",
            fix=f"did you mean {best}?" if best else f"recipe: {SFT}",
        )
        return SFT
    return name


def _guess(data: dict[str, Any]) -> str:
    """Files of the first dialects name no recipe: the command line did; the sections tell it too."""
    if "teacher_model" in data:
        return "KnowledgeDistillationRecipeForNextTokenPrediction"
    if "benchmark" in data:
        return "BenchmarkingRecipeForNextTokenPrediction"
    model = data.get("model")
    target = model.get("_target_") if isinstance(model, dict) else None
    return MODEL_CLASSES.get(leaf_of(str(target))[0], SFT)


def _gather_validation(data: dict[str, Any], ctx: Context) -> None:
    """Collect `validation_dataset` and `validation_dataset_NAME` into `validation_datasets`."""
    sets = data.get("validation_datasets")
    sets = dict(sets) if isinstance(sets, dict) else {}
    for key in [key for key in data if key == "validation_dataset" or key.startswith("validation_dataset_")]:
        name = key.removeprefix("validation_dataset").removeprefix("_") or "validation"
        if name in sets:
            ctx.problem(
                ("validation_datasets", name), "Two validation sets have one name.", found=name, expected="a name for each", fix=f"rename {key}"
            )
        sets[name] = data.pop(key)
        ctx.moved[("validation_datasets", name)] = (key,)
    sets = {name: value for name, value in sets.items() if not _off(value)}
    if sets:
        data["validation_datasets"] = sets
    elif isinstance(data.get("validation_datasets"), dict):
        del data["validation_datasets"]


def _datasets(data: dict[str, Any], ctx: Context) -> None:
    places: list[tuple[Path, dict[str, Any], str]] = [(("dataset",), data, "dataset")]
    sets = data.get("validation_datasets")
    if isinstance(sets, dict):
        for name, value in sets.items():
            sets[name] = _section("dataset", value, ctx, ("validation_datasets", name), forms_data.dataset)
        places += [(("validation_datasets", name), sets, name) for name in sets]
    for path, holder, name in places:
        if isinstance(holder.get(name), dict):
            inner = holder[name].get("kwargs")
            lifted = inner if isinstance(inner, dict) and "target" not in holder[name] else holder[name]
            forms_data.lift_tokenizer(data, lifted, ctx, path)
    if isinstance(data.get("tokenizer"), dict):
        data["tokenizer"] = forms_model.tokenizer(data["tokenizer"], ctx, ("tokenizer",))
    train = data.get("dataset")
    for name, value in (sets or {}).items() if isinstance(sets, dict) else ():
        if isinstance(value, dict) and isinstance(train, dict) and _same_rows(value, train):
            ctx.warn(("validation_datasets", name), "reads the same rows as training: give it a `split` of its own, such as train[-64:]")


def _same_rows(one: dict[str, Any], other: dict[str, Any]) -> bool:
    if "target" in one or "target" in other or "mock" in (one.get("name"), other.get("name")):
        return False
    path = one.get("path_or_dataset") or other.get("path_or_dataset")
    return path == other.get("path_or_dataset") and (one.get("split") or "train") == (other.get("split") or "train")


def _seed(data: dict[str, Any], ctx: Context) -> None:
    """`seed` and `rng.seed` are one setting: either may be given, and the command line wins."""
    rng = data.get("rng")
    if not isinstance(rng, dict) or _off(rng.get("seed")):
        return
    inner = rng.pop("seed")
    top = data.get("seed")
    if top is None or (ctx.overridden(("rng", "seed")) and not ctx.overridden(("seed",))):
        data["seed"] = inner
        ctx.moved[("seed",)] = ("rng", "seed")
    elif str(top) != str(inner) and not ctx.overridden(("seed",)):
        ctx.problem(
            ("seed",),
            "The recipe holds two different seeds.",
            found=f"{dotted(('seed',))}: {top} and rng.seed: {inner}",
            expected="one seed",
            fix="remove one of the two",
        )
    if not rng:
        del data["rng"]
