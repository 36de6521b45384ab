"""Everything that can be known to be wrong before a run folder exists.

A wrong request costs seconds and leaves nothing behind; what was prepared on the way (tokenizer, data, plan) is used by the job.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automodel.errors import DataError, RequestError, RunError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from automodel.data import TokenizedDataset
    from automodel.recipe.schema import OptimizerSection, Recipe
    from automodel.train.precision import Precision

# Numbers that torch keeps for each trained one; momentum is one more, and Adafactor's rows and columns are next to nothing.
OPTIMIZER_STATES = {"adamw": 2, "adam": 2, "adafactor": 0, "adagrad": 1, "rmsprop": 1, "sgd": 0}
WITH_MOMENTUM = ("rmsprop", "sgd")
ROOM = 1.1


@dataclass
class Prepared:
    """What preflight found and made."""

    recipe: Recipe
    tokenizer: PreTrainedTokenizerBase
    processor: Any  # of an image-text model; None where rows are text alone
    training: TokenizedDataset
    validation: dict[str, TokenizedDataset]
    precision: Precision
    parameters: int
    trained_parameters: int
    checkpoint_bytes: int
    lora_modules: tuple[str, ...] = ()
    optimizer_bytes: int = 0
    trained_bytes: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def trained_share(self) -> float:
        """Return the share of the parameters that is trained."""
        return self.trained_parameters / max(self.parameters, 1)


def preflight(recipe: Recipe, *, world_size: int = 1, runs_root: Path | None = None, device: torch.device | None = None) -> Prepared:
    """Check a recipe against this machine, its files and its data.

    Raises:
        RequestError: whatever is wrong first: recipe, run root, model, weights, tokenizer, data, LoRA targets, disk space.
    """
    from automodel.auto import check_weights, resolve_config
    from automodel.recipe import check_complete, check_world, not_built
    from automodel.run import runs_root as find_root

    check_complete(recipe)
    not_built(recipe)
    check_world(recipe, world_size)
    root = runs_root or find_root(recipe.run.folder)
    store = Path(recipe.checkpoint.checkpoint_dir).expanduser() if recipe.checkpoint.checkpoint_dir else root
    check_root(root)
    check_root(store, setting="checkpoint.checkpoint_dir")
    resolve_config(recipe.model)
    check_restore(recipe)
    if recipe.model.pretrained_model_name_or_path and Path(recipe.model.pretrained_model_name_or_path).expanduser().is_dir():
        check_weights(recipe.model.pretrained_model_name_or_path)
    prepared = prepare(recipe, device=device)
    if recipe.checkpoint.enabled:
        check_space(store, prepared.checkpoint_bytes)
    return prepared


def prepare(recipe: Recipe, *, device: torch.device | None = None) -> Prepared:
    """Make tokenizer, data and sizes from a complete recipe; no weight is read and nothing is asked of the disk.

    Raises:
        RequestError: the model's config, the tokenizer, the data or the LoRA targets are wrong.
    """
    tokenizer, processor = readers_of(recipe)
    training, validation = build_data(recipe, tokenizer, processor=processor)
    return _size(recipe, tokenizer, processor, training, validation, device)


def readers_of(recipe: Recipe) -> tuple[PreTrainedTokenizerBase, Any]:
    """Return the tokenizer that a job of this recipe trains with and saves, and its processor: None where rows are text alone.

    Raises:
        RequestError: one of them is missing, or its chat template cannot be read.
    """
    from automodel.tasks.vlm import with_processor

    tokenizer = tokenizer_of(recipe)
    return with_processor(recipe, tokenizer) if recipe.task == "vlm" else (tokenizer, None)


def tokenizer_of(recipe: Recipe) -> PreTrainedTokenizerBase:
    """Return the tokenizer that a job of this recipe trains with and saves.

    Raises:
        RequestError: there is none, or its chat template cannot be read.
    """
    from automodel.auto import build_tokenizer
    from automodel.data.formatting import read_chat_template

    if recipe.dataset.name == "mock" and not _names_tokenizer(recipe):
        from automodel.data.mock import mock_tokenizer

        return mock_tokenizer(recipe.dataset.vocab_size or 256)
    tokenizer = build_tokenizer(recipe.tokenizer, recipe.model)
    if recipe.dataset.chat_template is not None:
        # the model learns this template, so the tokenizer that is saved beside it must know it
        tokenizer.chat_template = read_chat_template(recipe.dataset.chat_template)
    return tokenizer


def _names_tokenizer(recipe: Recipe) -> bool:
    named = recipe.tokenizer is not None and recipe.tokenizer.pretrained_model_name_or_path
    return bool(named or recipe.model.pretrained_model_name_or_path or isinstance(recipe.model.config, str))


def check_root(root: Path, *, setting: str = "run.folder, or the environment variable AUTOMODEL_RUNS,") -> None:
    """Raise unless folders can be made below `root`, without making any; `setting` is what names the root.

    Raises:
        RunError: the root, or the nearest folder above it that exists, cannot be written.
    """
    near = nearest_folder(root)
    probe = near / f".automodel-write-test-{os.getpid()}"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise RunError(
            "Run folders cannot be written here." if setting.startswith("run") else f"{setting} cannot be written.",
            found=f"{near}: {error.strerror}",
            expected="a folder this user may write",
            fix=f"set {setting} to such a folder",
        ) from error


def nearest_folder(path: Path) -> Path:
    """Return the path itself or the closest thing above it that exists."""
    path = path.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def check_space(root: Path, needed: int) -> None:
    """Raise unless the disk of `root` has room for one checkpoint beside the previous one.

    Raises:
        RunError: the disk is too full.
    """
    free = shutil.disk_usage(nearest_folder(root)).free
    if free < needed * ROOM:
        raise RunError(
            "The disk has too little room for a checkpoint of this job.",
            found=f"{free / 1e6:,.0f} MB free at {nearest_folder(root)}",
            expected=f"at least {needed * ROOM / 1e6:,.0f} MB",
            fix="free some space, set run.folder to another disk, train with `peft`, or set checkpoint.enabled: false",
        )


def check_restore(recipe: Recipe) -> None:
    """Raise when `checkpoint.restore_from` names no finished checkpoint.

    Raises:
        RequestError: the folder is missing or damaged.
    """
    if recipe.checkpoint.restore_from is None:
        return
    from automodel.checkpoint import read_manifest

    path = Path(recipe.checkpoint.restore_from)
    if recipe.checkpoint.restore_from.upper() == "LATEST" or not path.is_dir():
        raise RequestError(
            "checkpoint.restore_from names no checkpoint folder.",
            found=recipe.checkpoint.restore_from,
            expected="a folder runs/RUN/checkpoints/epoch_E_step_S",
            fix="give that folder, or go on with a run by `automodel resume RUN`",
        )
    read_manifest(path)


def build_data(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, *, processor: Any = None) -> tuple[TokenizedDataset, dict[str, TokenizedDataset]]:
    """Return the tokenised training set and validation sets of a recipe; with a processor, rows may hold images.

    Raises:
        DataError: a set cannot be read or holds nothing to train on.
    """
    from automodel.data import build_dataset

    training = build_dataset(recipe.dataset, tokenizer, role="training", processor=processor)
    validation = {}
    for name, section in recipe.validation_datasets.items():
        try:
            validation[name] = build_dataset(section, tokenizer, role="validation", keep_text=recipe.samples is not None, processor=processor)
        except DataError as error:
            where = "validation_dataset" if name == "validation" else f"validation_dataset_{name}"
            raise DataError(f"{where}: {error.what}", found=error.found, expected=error.expected, fix=error.fix) from error
    return training, validation


def _size(
    recipe: Recipe,
    tokenizer: PreTrainedTokenizerBase,
    processor: Any,
    training: TokenizedDataset,
    validation: dict[str, TokenizedDataset],
    device: torch.device | None,
) -> Prepared:
    import torch

    from automodel.optim import nothing_to_train
    from automodel.train.precision import choose_precision

    target = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = choose_precision(recipe.model.torch_dtype, recipe.autocast, device=target, lora=recipe.peft is not None)
    found = sizes(recipe, precision)
    check_vocabulary(tokenizer, found.embeddings)
    if not found.trained:
        raise nothing_to_train()
    return Prepared(
        recipe,
        tokenizer,
        processor,
        training,
        validation,
        precision,
        found.parameters,
        found.trained,
        found.saved_bytes + found.optimizer_bytes,
        found.lora_modules,
        found.optimizer_bytes,
        found.trained_bytes,
        notes=list(found.notes),
    )


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What a model with its adapters holds, counted on the very modules that the job will have.

    Attributes:
        model: on meta, with adapters and frozen parts as in the job.
        parameters: all, adapters and copies of `modules_to_save` among them; `trained` those with a gradient, `trained_bytes` their size.
        saved_bytes: weights of one checkpoint; `optimizer_bytes` its optimizer state.
        embeddings: rows of the embedding.
        notes: settings that do nothing to this model.
    """

    model: Any
    parameters: int
    trained: int
    trained_bytes: int
    saved_bytes: int
    optimizer_bytes: int
    embeddings: int
    lora_modules: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def sizes(recipe: Recipe, precision: Precision) -> Sizes:
    """Build the model of a recipe on meta, put adapters on it and freeze what the job freezes, and count.

    Raises:
        RequestError: the config cannot be used, or LoRA targets, `modules_to_save` or `freeze_config` mean nothing.
    """
    import torch

    from automodel.auto import build_model
    from automodel.peft import apply_lora, match_layers
    from automodel.tasks.sft import freeze
    from automodel.tasks.vlm import frozen_parts

    shape: Any = build_model(recipe.model, task=recipe.task, device=torch.device("meta"), dtype=precision.weights)
    rows = int(shape.get_input_embeddings().weight.shape[0])
    notes = freeze(shape, frozen_parts(recipe))
    modules: tuple[str, ...] = ()
    if recipe.peft is not None:
        modules = match_layers(shape, recipe.peft).modules
        # how adapters start is of no matter for their size, and some ways need weights
        with torch.device("meta"):
            shape = apply_lora(shape, recipe.peft.model_copy(update={"init_lora_weights": False}))
    every = list(shape.parameters())
    trained = [p for p in every if p.requires_grad]
    weight_bytes = sum(p.numel() * p.itemsize for p in every)
    trained_bytes = sum(p.numel() * p.itemsize for p in trained)
    return Sizes(
        model=shape,
        parameters=sum(p.numel() for p in every),
        trained=sum(p.numel() for p in trained),
        trained_bytes=trained_bytes,
        saved_bytes=trained_bytes if recipe.peft is not None else weight_bytes,
        # torch keeps the state in the number type of the parameter
        optimizer_bytes=optimizer_states(recipe.optimizer) * trained_bytes,
        embeddings=rows,
        lora_modules=modules,
        notes=tuple(notes),
    )


def optimizer_states(section: OptimizerSection) -> int:
    """Return how many numbers the optimizer keeps for each trained one; of an own class as many as Adam."""
    own = 2 if section.target else OPTIMIZER_STATES[section.name]
    return own + (1 if not section.target and section.name in WITH_MOMENTUM and section.momentum else 0)


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, rows: int) -> None:
    """Raise when the tokenizer can produce ids that the model has no embedding for.

    Raises:
        RequestError: tokenizer and model do not belong together.
    """
    largest = max(tokenizer.get_vocab().values(), default=0)
    if largest >= rows:
        raise RequestError(
            "The tokenizer does not fit the model: it can produce token ids that have no embedding.",
            found=f"largest id {largest}, {rows} embedding rows",
            expected=f"ids below {rows}",
            fix="set tokenizer.pretrained_model_name_or_path to the model's own tokenizer",
        )
