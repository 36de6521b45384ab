"""Supervised fine-tuning and pre-training of models that write text: the parts of a job, put together."""

from __future__ import annotations

import time
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import nn

from automodel.auto import build_model
from automodel.checkpoint import restore
from automodel.checkpoint.save import MODEL
from automodel.data import build_loader
from automodel.errors import RecipeError
from automodel.mesh import World, strategy_for
from automodel.optim import Schedule, build_optimizer
from automodel.parallel import apply
from automodel.peft import apply_lora, load_adapter
from automodel.tasks.vlm import frozen_note, frozen_parts
from automodel.train.guards import Guards
from automodel.train.head import SupervisedLoss
from automodel.train.neftune import add_noise
from automodel.train.state import Job, Plan, Progress, Sample

if TYPE_CHECKING:
    from automodel.data import Loader, TokenizedDataset
    from automodel.recipe.schema import Recipe
    from automodel.run import Reporter, RunFolder
    from automodel.tasks.preflight import Prepared


def build_job(ready: Prepared, folder: RunFolder, world: World, *, reporter: Reporter, resume: Path | None) -> Job:
    """Return the job, at its first step or at the step of the checkpoint `resume`."""
    recipe, began = ready.recipe, time.perf_counter()
    seed_everything(recipe)
    strategy, strategy_reason = strategy_for(recipe.distributed, world)
    start = resume or (Path(recipe.checkpoint.restore_from) if recipe.checkpoint.restore_from else None)
    plain = built_model(ready, world, resume=start)
    stop_where_trained(plain, ready.training.stop_token_ids)
    model = apply(plain, recipe.distributed, world, strategy=strategy)
    optimizer = build_optimizer(model, recipe.optimizer)
    loader = training_loader(ready, world)
    plan = Plan.of(recipe, loader.steps_per_epoch)
    chunk = recipe.loss_fn.chunk_len if recipe.loss_fn.name == "chunked_ce" else None
    job = Job(
        recipe=recipe,
        world=world,
        folder=folder,
        reporter=reporter,
        model=model,
        tokenizer=ready.tokenizer,
        processor=ready.processor,
        loss=SupervisedLoss(model, chunk=chunk, upcast=recipe.loss_fn.fp32_upcast),
        optimizer=optimizer,
        schedule=Schedule.build(recipe.optimizer, recipe.lr_scheduler, total_steps=plan.total_steps),
        precision=ready.precision,
        strategy=strategy,
        loader=loader,
        validation={name: validation_loader(data, ready, world) for name, data in ready.validation.items()},
        plan=plan,
        guards=Guards(recipe.guards),
        samples=samples(ready),
        stop_tokens=sorted(ready.training.stop_token_ids),
    )
    seed_dropout(recipe, world)
    if world.main:
        folder.update(total_steps=plan.total_steps, parameters=ready.parameters, trained_parameters=ready.trained_parameters)
    describe(job, ready, strategy_reason, seconds=time.perf_counter() - began)
    if start is not None:
        go_on_from(job, start)
    return job


def seed_everything(recipe: Recipe) -> None:
    """Seed what is drawn while weights are made."""
    import random

    if recipe.rng is not None and recipe.rng.deterministic:
        torch.use_deterministic_algorithms(True)
    random.seed(recipe.seed)
    np.random.seed(recipe.seed)
    torch.manual_seed(recipe.seed)


def seed_dropout(recipe: Recipe, world: World) -> None:
    """Give each process its own stream once the weights, which must be the same everywhere, are there."""
    ranked = recipe.rng is None or recipe.rng.ranked
    torch.manual_seed(recipe.seed + (world.rank if ranked else 0))


def built_model(ready: Prepared, world: World, *, resume: Path | None) -> nn.Module:
    """Return the model with weights from the recipe or, resuming, from the checkpoint; with its adapter where `peft` is set.

    What `freeze_config` names is frozen, and gets no adapter.
    """
    recipe, section = ready.recipe, ready.recipe.model
    if resume is not None and recipe.peft is None:
        section = section.model_copy(update={"pretrained_model_name_or_path": str(resume / MODEL), "config": None, "revision": None})
    model = build_model(section, task=recipe.task, device=world.device, dtype=ready.precision.weights)
    if recipe.neftune is not None:
        add_noise(model, recipe.neftune.noise_alpha)
    freeze(model, frozen_parts(recipe))
    if recipe.peft is None:
        return model
    if resume is not None:
        return load_adapter(model, resume / MODEL, trainable=True, section=recipe.peft)
    return apply_lora(model, recipe.peft)


FROZEN_PARTS = {
    "freeze_embeddings": ("embed_tokens", "wte", "word_embeddings", "embed_in"),
    "freeze_vision_tower": ("vision", "visual"),
    "freeze_audio_tower": ("audio",),
    "freeze_language_model": ("language_model",),
}


def freeze(model: nn.Module, config: dict[str, bool]) -> list[str]:
    """Switch off the gradients of the parts that `freeze_config` names; return a note for each part that the model does not have.

    Raises:
        RecipeError: a key names no part.
    """
    notes = []
    for key in [key for key, wanted in config.items() if wanted]:
        if key not in FROZEN_PARTS:
            near = get_close_matches(key, FROZEN_PARTS, n=1)
            raise RecipeError(
                "freeze_config names a part that is not known, so nothing would be frozen.",
                found=key,
                expected=", ".join(FROZEN_PARTS),
                fix=f"{near[0]}: true" if near else f"remove {key}",
            )
        meant = [parameter for name, parameter in model.named_parameters() if any(part in name for part in FROZEN_PARTS[key])]
        for parameter in meant:
            parameter.requires_grad_(False)
        notes += [] if meant else [f"freeze_config.{key} freezes nothing: the model has no such part"]
    return notes


def training_loader(ready: Prepared, world: World) -> Loader:
    """Return the loader of the training set for this process."""
    recipe = ready.recipe
    return build_loader(
        ready.training,
        recipe.dataloader,
        scheduler=recipe.step_scheduler,
        rank=world.rank,
        world_size=world.size,
        seed=recipe.seed,
        pad_token_id=pad_id(ready),
        training=True,
    )


def validation_loader(data: TokenizedDataset, ready: Prepared, world: World) -> Loader:
    """Return the loader of one validation set: every row once."""
    recipe = ready.recipe
    from automodel.recipe.schema import DataloaderSection

    section = recipe.validation_dataloader or DataloaderSection()
    return build_loader(
        data,
        section,
        scheduler=recipe.step_scheduler,
        rank=world.rank,
        world_size=world.size,
        seed=recipe.seed,
        pad_token_id=pad_id(ready),
        training=False,
    )


def pad_id(ready: Prepared) -> int:
    """Return the id that fills short rows (never attended, never trained)."""
    found = ready.tokenizer.pad_token_id
    return int(cast(Any, found if found is not None else ready.tokenizer.eos_token_id) or 0)


def samples(ready: Prepared) -> list[Sample]:
    """Return the prompts to answer at each validation: the recipe's own, then the first validation rows with the very tokens of training."""
    section = ready.recipe.samples
    if section is None:
        return []
    own = [Sample(text, list(ready.tokenizer(text)["input_ids"])) for text in section.prompts]
    data = next(iter(ready.validation.values()), None)
    rows = range(min(section.from_validation, len(data))) if data is not None else range(0)
    return own + [_sample(data, row) for row in rows if data is not None]


def _sample(data: TokenizedDataset, row: int) -> Sample:
    prompt, wanted = data.example(row)
    ids = data.prompt_ids(row)
    media = data.media.inputs(row, data.input_ids(row)) if data.media is not None else {}
    # What has a value for each token ends with the prompt, too.
    inputs = {name: torch.from_numpy(value[None, : len(ids)]) if isinstance(value, np.ndarray) else value for name, value in media.items()}
    return Sample(prompt, ids.tolist(), wanted, inputs)


def stop_where_trained(model: nn.Module, stop_tokens: Iterable[int]) -> None:
    """Let generation end at the tokens that end the trained answers, so that the saved model stops by itself everywhere."""
    settings: Any = getattr(model, "generation_config", None)
    wanted = set(stop_tokens)
    if settings is None or not wanted:
        return
    known = settings.eos_token_id
    known = set() if known is None else {known} if isinstance(known, int) else set(known)
    ends = sorted(known | wanted)
    settings.eos_token_id = ends[0] if len(ends) == 1 else ends


def describe(job: Job, ready: Prepared, strategy_reason: str, *, seconds: float) -> None:
    """Record the choices of this job, each with its reason."""
    for note in (*job.world.notes, *ready.notes):
        job.event("fallback", note)
    if frozen := frozen_note(job.recipe):
        job.event("frozen", frozen)
    job.event("precision", ready.precision.reason, weights=str(ready.precision.weights), autocast=str(ready.precision.autocast))
    job.event("strategy", strategy_reason, strategy=job.strategy, world_size=job.world.size, device=str(job.world.device))
    report = ready.training.report
    job.event("data", str(report), rows=len(ready.training), steps_per_epoch=job.plan.steps_per_epoch)
    trained = sum(p.numel() for p in job.model.parameters() if p.requires_grad)
    text = f"{ready.parameters:,} parameters, {ready.trained_parameters:,} trained ({ready.trained_share:.2%}), ready in {seconds:.1f} s"
    job.event("model", text, parameters=ready.parameters, trained_parameters=trained, lora_modules=len(ready.lora_modules))
    plain: Any = job.model.module if hasattr(job.model, "module") else job.model
    for entry in getattr(getattr(plain, "resolution", None), "reasons", []):
        job.event("resolution", str(entry))
    job.event("loss", f"{job.recipe.loss_fn.name}: {job.loss.note}")


def go_on_from(job: Job, start: Path) -> None:
    """Bring optimizer, position, guards and random states back from a checkpoint."""
    progress, notes = restore(start, job.model, job.optimizer, job.world)
    job.progress = Progress(**progress)
    job.guards.load_state_dict(job.progress.guards)
    job.loader.load_state_dict(job.progress.loader)
    job.last_saved = start
    for note in notes:
        job.event("fallback", note)
    job.event("restored", f"going on after step {job.progress.step}, from {start.name}")
