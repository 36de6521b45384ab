"""Rules over several settings: what must fit together, what a job needs, and what fits a number of processes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from automodel.recipe.problems import Problem, problems_error
from automodel.recipe.sections import OpenSection, RecipeFields

_NAME = re.compile(r"[A-Za-z0-9_-]+")


def combinations(recipe: RecipeFields) -> list[Problem]:
    """Return what does not fit together in a recipe, whatever it will run on."""
    return [*_batches(recipe), *_lora(recipe), *_schedule(recipe), *_optimizer(recipe), *_sets(recipe), *_quantization(recipe)]


def _batches(recipe: RecipeFields) -> Iterator[Problem]:
    section = recipe.step_scheduler
    total, local = section.global_batch_size, section.local_batch_size
    if total % local:
        near = sorted({max(local, total // local * local), (total // local + 1) * local})
        yield Problem(
            ("step_scheduler", "global_batch_size"),
            "The global batch cannot be dealt out in local batches.",
            found=f"global_batch_size {total}, local_batch_size {local}",
            expected="a global batch that is a multiple of the local batch",
            fix=f"global_batch_size: {' or '.join(map(str, near))}, or local_batch_size: {_largest_divisor(total, local)}",
        )
    degree = recipe.distributed
    if degree.dp_size and degree.dp_replicate_size and degree.dp_size % degree.dp_replicate_size:
        yield Problem(
            ("distributed", "dp_replicate_size"),
            "The data-parallel processes cannot be divided into that many copies.",
            found=f"dp_size {degree.dp_size}, dp_replicate_size {degree.dp_replicate_size}",
            expected="a dp_replicate_size that divides dp_size",
            fix="set dp_replicate_size to 1, or remove it",
        )


def _largest_divisor(total: int, most: int) -> int:
    return max(number for number in range(1, min(most, total) + 1) if total % number == 0)


def _lora(recipe: RecipeFields) -> Iterator[Problem]:
    peft = recipe.peft
    if peft is None:
        return
    given = [name for name in ("target_modules", "exclude_modules") if getattr(peft, name)]
    given += ["match_all_linear"] if peft.match_all_linear else []
    if len(given) > 1:
        yield Problem(
            ("peft", given[0]),
            "The layers that get an adapter are chosen in two ways at once.",
            found=" and ".join(given),
            expected="one of target_modules, exclude_modules, match_all_linear",
            fix=f"remove {' or '.join(given[1:])}",
        )


def _schedule(recipe: RecipeFields) -> Iterator[Problem]:
    section, lr = recipe.lr_scheduler, recipe.optimizer.lr
    if section is None:
        return
    for key in ("min_lr", "init_lr"):
        if getattr(section, key) > lr:
            found = f"{key} {getattr(section, key):g}, optimizer.lr {lr:g}"
            yield Problem(
                ("lr_scheduler", key), f"{key} is above the highest learning rate.", found, f"at most {lr:g}", f"lower {key}, or raise optimizer.lr"
            )
    warmup = section.lr_warmup_steps
    if warmup is not None and section.warmup_ratio is not None:
        found = f"lr_warmup_steps {warmup}, warmup_ratio {section.warmup_ratio:g}"
        yield Problem(("lr_scheduler", "warmup_ratio"), "The warm-up is given twice.", found, "steps or a ratio", "remove one of the two")
    for name, most in (("step_scheduler.max_steps", recipe.step_scheduler.max_steps), ("lr_scheduler.lr_decay_steps", section.lr_decay_steps)):
        if warmup and most and warmup > most:
            yield Problem(
                ("lr_scheduler", "lr_warmup_steps"),
                "The warm-up is longer than what it leads to.",
                found=f"lr_warmup_steps {warmup}, {name} {most}",
                expected=f"at most {most} steps",
                fix="lower lr_warmup_steps, or use warmup_ratio",
            )


def _optimizer(recipe: RecipeFields) -> Iterator[Problem]:
    if not all(0 <= beta < 1 for beta in recipe.optimizer.betas):
        yield Problem(
            ("optimizer", "betas"), "A beta is out of range.", str(list(recipe.optimizer.betas)), "two numbers >= 0 and < 1", "betas: [0.9, 0.999]"
        )


def _sets(recipe: RecipeFields) -> Iterator[Problem]:
    for name in recipe.validation_datasets:
        if not _NAME.fullmatch(name):
            yield Problem(
                ("validation_datasets", name), "The name of a validation set cannot be used.", repr(name), "letters, digits, _ and -", "rename it"
            )
    key, sets = recipe.checkpoint.best_metric_key, recipe.validation_datasets
    if key != "validation" and key not in sets:
        yield Problem(
            ("checkpoint", "best_metric_key"),
            "No validation set has that name.",
            key,
            f"one of {', '.join(sets) or 'the validation sets'}",
            f"best_metric_key: {next(iter(sets), 'validation')}",
        )


def _quantization(recipe: RecipeFields) -> Iterator[Problem]:
    section = recipe.quantization
    if section is None or section.enabled is False:
        return
    extra: dict[str, Any] = section.model_extra or {}
    if extra.get("load_in_4bit") and extra.get("load_in_8bit"):
        yield Problem(
            ("quantization", "load_in_8bit"),
            "Weights are asked for in 4 and in 8 bits.",
            "load_in_4bit and load_in_8bit",
            "one of them",
            "remove one",
        )
    if recipe.peft is None:
        yield Problem(
            ("quantization",),
            "Quantised weights cannot be trained themselves.",
            "quantization without peft",
            "peft beside quantization (QLoRA)",
            "add `peft: {dim: 8}`",
        )


def is_on(section: OpenSection | None) -> bool:
    """Return whether a switchable section is there and not switched off."""
    return section is not None and section.enabled is not False


def completeness(recipe: RecipeFields) -> list[Problem]:
    """Return what a job would still need; a form may hold such a recipe, a job cannot start from it."""
    problems = []
    model, data = recipe.model, recipe.dataset
    sources = [name for name in ("pretrained_model_name_or_path", "config") if getattr(model, name)]
    if len(sources) != 1 and not model.target:
        problems.append(
            Problem(
                ("model", "config") if sources else ("model",),
                "The recipe names no model." if not sources else "The recipe names two models.",
                found=" and ".join(sources) or "neither pretrained_model_name_or_path nor config",
                expected="one of the two: weights to start from, or a config to start at random",
                fix="model: {pretrained_model_name_or_path: ORGANISATION/NAME}"
                if not sources
                else f"remove one, for example --model.{sources[1]} none",
            )
        )
    for path, section in [(("dataset",), data), *((("validation_datasets", name), item) for name, item in recipe.validation_datasets.items())]:
        if section.path_or_dataset is None and section.target is None and section.name != "mock":
            problems.append(
                Problem(path, "The recipe names no data.", "no path_or_dataset", "a hub id or a file", "dataset: {path_or_dataset: rajpurkar/squad}")
            )
        if section.name == "column_mapped" and not section.target and "answer" not in (section.column_mapping or {}):
            problems.append(
                Problem(
                    path,
                    "Column-mapped data needs to know which column holds the answer.",
                    found=f"column_mapping: {section.column_mapping}",
                    expected="column_mapping with answer, and context or question",
                    fix="column_mapping: {question: instruction, answer: output}",
                )
            )
    if recipe.task == "kd" and recipe.teacher_model is None:
        problems.append(
            Problem(("teacher_model",), "Distillation needs a teacher.", "no teacher_model", "a teacher_model section", "add teacher_model")
        )
    if recipe.guards.early_stopping and not recipe.validation_datasets:
        problems.append(
            Problem(
                ("guards", "early_stopping"), "Early stopping needs a validation set.", "no validation_dataset", "a validation_dataset", "add one"
            )
        )
    return problems


def check_complete(recipe: RecipeFields) -> None:
    """Check that a recipe holds all that a job needs.

    Raises:
        RecipeError: no model or two, no data, no answer column, no teacher, or early stopping without validation.
    """
    if problems := completeness(recipe):
        raise problems_error(problems, source="recipe")


def check_world(recipe: RecipeFields, world_size: int) -> int:
    """Check that the batches can be dealt to a number of processes, and return the number of data-parallel ones.

    Raises:
        RecipeError: the processes do not fit the degrees, or the global batch does not fit the processes.
    """
    degree, batch = recipe.distributed, recipe.step_scheduler
    model_parallel = (degree.tp_size or 1) * (degree.cp_size or 1) * (degree.pp_size or 1)
    if world_size % model_parallel:
        found = f"{world_size} processes, tp x cp x pp = {model_parallel}"
        problem = Problem(
            ("distributed",), "The processes do not fill the mesh.", found, f"a multiple of {model_parallel}", f"--nproc-per-node {model_parallel}"
        )
        raise problems_error([problem], source="recipe")
    dp = world_size // model_parallel
    if degree.dp_size and degree.dp_size != dp:
        found = f"dp_size {degree.dp_size}, but {world_size} processes leave {dp}"
        fix = f"remove dp_size, or start {degree.dp_size * model_parallel} processes"
        raise problems_error(
            [Problem(("distributed", "dp_size"), "The processes do not fill the mesh.", found, f"dp_size: {dp}", fix)], source="recipe"
        )
    total, local = batch.global_batch_size, batch.local_batch_size
    if total % (local * dp):
        up = (total // (local * dp) + 1) * local * dp
        smaller = [size for size in range(min(local, total), 0, -1) if total % (size * dp) == 0]
        fits = [f"global_batch_size: {up}"] + [f"local_batch_size: {size}" for size in smaller[:1]]
        problem = Problem(
            ("step_scheduler", "global_batch_size"),
            "The global batch cannot be dealt out to the processes.",
            found=f"global_batch_size {total}, local_batch_size {local}, {dp} data-parallel processes",
            expected=f"a multiple of {local} x {dp} = {local * dp}",
            fix=", or ".join(fits),
        )
        raise problems_error([problem], source="recipe")
    return dp
