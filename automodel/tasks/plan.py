"""What a job will be before it runs: its length, its batches, what is trained, and what it takes of memory and disk."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automodel.tables import facts_html, facts_text, size_text
from automodel.tasks.memory import Load, estimate

if TYPE_CHECKING:
    from automodel.data import GlobalBatchSampler
    from automodel.mesh import World
    from automodel.recipe.schema import Recipe
    from automodel.tasks.preflight import Prepared


@dataclass(frozen=True, kw_only=True)
class JobPlan:
    """What a job will do and take; prints as text and HTML.

    Attributes:
        steps: optimizer steps of the job; an epoch has `steps_per_epoch`.
        global_batch: rows a step = `local_batch` x `accumulation` x `world_size`.
        tokens_per_step: mean of real tokens; `padded_tokens_per_step` counts the filling too, `label_tokens_per_step` the trained ones.
        memory: item -> bytes on one device, an estimate; `memory_total` is its sum and `device_memory` what there is (bytes).
        advice: what would make it fit, empty when it fits.
        checkpoint_bytes: one checkpoint; `disk_free` is what the disk of `root` has left.
    """

    recipe: str
    world_size: int
    strategy: str
    strategy_reason: str
    device: str
    precision: str
    steps: int
    epochs: float
    steps_per_epoch: int
    global_batch: int
    local_batch: int
    accumulation: int
    rows: int
    tokens_per_step: float
    padded_tokens_per_step: float
    label_tokens_per_step: float
    total_tokens: int
    parameters: int
    trained_parameters: int
    lora_modules: tuple[str, ...]
    memory: dict[str, int]
    memory_total: int
    device_memory: int
    checkpoint_bytes: int
    checkpoints_kept: int | None
    root: str
    disk_free: int
    data: str
    advice: list[str] = field(default_factory=list)

    @property
    def fits(self) -> bool:
        """Say whether the estimate is below the memory of the device."""
        return self.memory_total <= self.device_memory

    @property
    def padding(self) -> float:
        """Return the share of computed tokens that is filling."""
        return 1 - self.tokens_per_step / self.padded_tokens_per_step

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values, for `--json`."""
        return {**asdict(self), "padding": self.padding, "fits": self.fits}

    def facts(self) -> list[tuple[str, str]]:
        """Return label and text of each line."""
        kept = "all" if self.checkpoints_kept is None else str(self.checkpoints_kept)
        rows = [
            ("job", self.recipe),
            ("processes", f"{self.world_size} on {self.device}, {self.strategy}: {self.strategy_reason}"),
            ("precision", self.precision),
            ("data", self.data),
            ("steps", f"{self.steps:,} ({self.epochs:.3g} epochs of {self.steps_per_epoch:,} steps)"),
            ("batch", f"{self.global_batch} rows a step = {self.local_batch} local x {self.accumulation} accumulated x {self.world_size} processes"),
            (
                "tokens",
                f"{self.tokens_per_step:,.0f} a step, {self.label_tokens_per_step:,.0f} of them trained; {self.padding:.0%} of the computed tokens"
                f" is padding\nabout {self.total_tokens:,} in all",
            ),
            ("parameters", f"{self.parameters:,}, {self.trained_parameters:,} trained ({self.trained_parameters / self.parameters:.2%})"),
        ]
        if self.lora_modules:
            rows.append(("LoRA", f"{len(self.lora_modules)} layers: {', '.join(dict.fromkeys(n.rpartition('.')[2] for n in self.lora_modules))}"))
        verdict = "fits" if self.fits else "does not fit"
        rows.append(("memory", f"about {size_text(self.memory_total)} a device (an estimate), {verdict} into {size_text(self.device_memory)}"))
        rows += [("", f"{name:<12} {size_text(size):>10}") for name, size in self.memory.items()]
        rows += [("advice", text) for text in self.advice]
        rows.append(("checkpoint", f"{size_text(self.checkpoint_bytes)} each, {kept} kept; {size_text(self.disk_free)} free at {self.root}"))
        return rows

    def __str__(self) -> str:
        return facts_text(self.facts())

    def _repr_html_(self) -> str:
        return facts_html("Plan", self.facts())


def plan(
    recipe: Recipe | Mapping[str, Any] | str | Path,
    *,
    world_size: int = 1,
    device_memory: int | None = None,
    overrides: Sequence[str] = (),
    allow_targets: Sequence[str] = (),
) -> JobPlan:
    """Work out what a job will be; reads the data and the model's config, but no weight, and writes nothing.

    Args:
        recipe: a `Recipe`, a map of sections, or the path of a YAML file.
        world_size: number of processes.
        device_memory: bytes a device has; absent: measured here.
        overrides: changes as on the command line, `--a.b.c=value`.
        allow_targets: dotted `_target_` paths that may run.

    Raises:
        RequestError: the recipe cannot be run: settings, model, tokenizer, data, or LoRA targets that match nothing.
    """
    from automodel.mesh import strategy_for
    from automodel.recipe import Recipe, as_loaded, check_complete, check_world, not_built
    from automodel.tasks.preflight import prepare

    given = recipe if isinstance(recipe, Recipe) and not overrides else as_loaded(recipe, overrides=overrides, allow_targets=allow_targets).recipe
    check_complete(given)
    not_built(given)
    check_world(given, world_size)
    world = _imagined_world(world_size)
    ready = prepare(given, device=world.device)
    strategy, reason = strategy_for(given.distributed, world)
    return _put_together(ready, world, strategy, reason, device_memory)


def _imagined_world(size: int) -> World:
    """Return the first of so many processes, where it would compute, without starting the others."""
    import torch

    from automodel.mesh import World

    device = torch.device("cuda", 0) if torch.cuda.is_available() and torch.cuda.device_count() >= size else torch.device("cpu")
    return World(0, 0, size, device)


def _put_together(ready: Prepared, world: World, strategy: str, reason: str, device_memory: int | None) -> JobPlan:
    from automodel.run import runs_root
    from automodel.tasks.preflight import nearest_folder
    from automodel.train.state import Plan

    recipe, batch = ready.recipe, ready.recipe.step_scheduler
    work = _work(ready, world)
    length = Plan.of(recipe, work.steps)
    memory = estimate(_load(ready, world, strategy, work))
    room = device_memory or _device_memory(world)
    root = Path(recipe.checkpoint.checkpoint_dir or runs_root(recipe.run.folder)).expanduser()
    return JobPlan(
        recipe=recipe.recipe,
        world_size=world.size,
        strategy=strategy,
        strategy_reason=reason,
        device=world.device.type,
        precision=ready.precision.reason,
        steps=length.total_steps,
        epochs=length.total_steps / length.steps_per_epoch,
        steps_per_epoch=length.steps_per_epoch,
        global_batch=batch.global_batch_size,
        local_batch=batch.local_batch_size,
        accumulation=work.accumulation,
        rows=len(ready.training),
        tokens_per_step=work.tokens / work.steps,
        padded_tokens_per_step=work.padded / work.steps,
        label_tokens_per_step=work.labels / work.steps,
        total_tokens=round(work.tokens / work.steps * length.total_steps),
        parameters=ready.parameters,
        trained_parameters=ready.trained_parameters,
        lora_modules=ready.lora_modules,
        memory=memory,
        memory_total=sum(memory.values()),
        device_memory=room,
        checkpoint_bytes=ready.checkpoint_bytes if recipe.checkpoint.enabled else 0,
        checkpoints_kept=recipe.checkpoint.max_recent_checkpoints,
        root=str(root),
        disk_free=shutil.disk_usage(nearest_folder(root)).free,
        data=str(ready.training.report),
        advice=_advice(recipe, strategy, world) if sum(memory.values()) > room else [],
    )


@dataclass
class _Work:
    """The first epoch, counted over all processes; `most_tokens` and `most_labels` are the largest of any micro-batch."""

    steps: int
    accumulation: int
    tokens: int = 0
    padded: int = 0
    labels: int = 0
    most_tokens: int = 0
    most_labels: int = 0


def _work(ready: Prepared, world: World) -> _Work:
    """Walk over the very micro-batches of the first epoch."""
    from automodel.data import build_sampler

    recipe, data = ready.recipe, ready.training

    def sampler(rank: int) -> GlobalBatchSampler:
        return build_sampler(
            data, recipe.dataloader, scheduler=recipe.step_scheduler, rank=rank, world_size=world.size, seed=recipe.seed, training=True
        )

    ranks = [sampler(rank) for rank in range(world.size)]
    work = _Work(ranks[0].steps_per_epoch, ranks[0].micro_batches_per_step)
    unit = recipe.dataloader.pad_seq_len_divisible or 1
    for rows in ranks[0].steps(0):
        for micro in (micro for one in ranks for micro in one.deal(rows) if micro):
            longest = data.row_length or int(data.lengths[micro].max())
            padded = len(micro) * -(-longest // unit) * unit
            labels = int(data.supervised[micro].sum())
            work.tokens += int(data.lengths[micro].sum())
            work.padded += padded
            work.labels += labels
            work.most_tokens, work.most_labels = max(work.most_tokens, padded), max(work.most_labels, labels)
    return work


def _load(ready: Prepared, world: World, strategy: str, work: _Work) -> Load:
    import torch

    from automodel.auto import build_model
    from automodel.auto.parts import activation_width
    from automodel.parallel import decoder_layers

    recipe, precision = ready.recipe, ready.precision
    shape: Any = build_model(recipe.model, task=recipe.task, device=torch.device("meta"), dtype=precision.weights)
    layers = decoder_layers(shape)
    vocabulary, hidden = shape.get_input_embeddings().weight.shape
    trained = ready.trained_parameters
    return Load(
        frozen=ready.parameters - trained,
        frozen_bytes=precision.weights.itemsize,
        trained=trained,
        trained_bytes=(ready.checkpoint_bytes - ready.optimizer_bytes) // max(trained, 1),
        optimizer_bytes=ready.optimizer_bytes,
        tokens=work.most_tokens,
        supervised=work.most_labels,
        vocabulary=int(vocabulary),
        width=activation_width(shape, shape.config),
        hidden=int(hidden),
        layers=len(layers),
        layer_parameters=max((sum(p.numel() for p in layer.parameters()) for layer in layers), default=0),
        product_bytes=(precision.autocast or precision.weights).itemsize,
        recompute=bool(recipe.distributed.activation_checkpointing),
        strategy=strategy,
        world_size=world.size,
        lora=recipe.peft is not None,
    )


def _device_memory(world: World) -> int:
    """Return the bytes a process may use: its GPU, or its share of the memory that is free here."""
    import psutil
    import torch

    if world.device.type == "cuda":
        return int(torch.cuda.get_device_properties(world.device).total_memory)
    return int(psutil.virtual_memory().available) // world.size


def _advice(recipe: Recipe, strategy: str, world: World) -> list[str]:
    found = []
    if recipe.step_scheduler.local_batch_size > 1:
        found.append("step_scheduler.local_batch_size: 1 (the same global batch, computed in smaller parts)")
    if not recipe.distributed.activation_checkpointing:
        found.append("distributed.activation_checkpointing: true (activations are computed twice instead of kept)")
    if recipe.peft is None:
        found.append("peft: {dim: 8} (gradients and optimizer state for small adapters only)")
    if recipe.dataset.seq_length is None:
        found.append("dataset.seq_length: a limit for the longest row")
    if strategy != "fsdp2":
        found.append("distributed.strategy: fsdp2 on more devices" if world.size == 1 else "distributed.strategy: fsdp2")
    return found
