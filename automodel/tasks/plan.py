"""What a job will be before it runs: its length, its batches, what is trained, and what it takes of memory and disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from automodel.run.remedy import Remedy, Settings, adapters, chunked_loss, recompute, shorter_rows, split_weights
from automodel.tables import facts_html, facts_text, size_text
from automodel.tasks.memory import Load, estimate, runtime_bytes
from automodel.tasks.vlm import frozen_note, memory_note

if TYPE_CHECKING:
    from automodel.data import GlobalBatchSampler
    from automodel.mesh import World
    from automodel.recipe.schema import Recipe
    from automodel.tasks.preflight import Prepared

_ELSEWHERE = "or more memory: another device, or more of them with distributed.strategy: fsdp2"


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change of the recipe that takes less memory: what it is, the overrides that make it, and what the job would take then (bytes)."""

    text: str
    overrides: tuple[str, ...]
    memory_total: int
    fits: bool

    def __str__(self) -> str:
        verdict = "fits" if self.fits else "still too much"
        return f"{' '.join(self.overrides)} ({self.text}): about {size_text(self.memory_total)}, {verdict}"


@dataclass(frozen=True, kw_only=True)
class JobPlan:
    """What a job will do and take; prints as text and HTML.

    Attributes:
        mesh: axis -> processes; together `world_size`.
        steps: optimizer steps of the job; an epoch has `steps_per_epoch`.
        global_batch: rows a step = `local_batch` x `accumulation` x `world_size`.
        tokens_per_step: mean of real tokens; `padded_tokens_per_step` counts the filling too, `label_tokens_per_step` the trained ones.
        memory: item -> bytes on one device, an estimate; `memory_total` is its sum and `device_memory` what there is (bytes).
        changes: what would make it fit, each with what the job would take then; those that suffice first, empty when it fits.
        advice: the same as text, and what no setting can do.
        notes: what should be known of the estimate.
        checkpoint_bytes: one checkpoint; `disk_free` is what the disk of `root` has left.
    """

    recipe: str
    world_size: int
    mesh: dict[str, int]
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
    changes: list[Change] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

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
            ("mesh", ", ".join(f"{axis} {size}" for axis, size in self.mesh.items())),
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
        rows += [("note", text) for text in self.notes]
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
    work = _work(ready, world, strategy=strategy)
    length = Plan.of(recipe, work.steps)
    memory = estimate(_load(ready, world, strategy, work))
    room = device_memory or _device_memory(world)
    changes = less_memory(ready, world, strategy, room) if sum(memory.values()) > room else []
    root = Path(recipe.checkpoint.checkpoint_dir or runs_root(recipe.run.folder)).expanduser()
    return JobPlan(
        recipe=recipe.recipe,
        world_size=world.size,
        mesh=world.axes,
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
        changes=changes,
        advice=[str(one) for one in changes] + ([_ELSEWHERE] if sum(memory.values()) > room else []),
        notes=[note for note in (frozen_note(recipe), memory_note(ready.training)) if note],
    )


@dataclass
class _Work:
    """The first epoch, counted over all processes; `most_tokens` and `most_labels` are the largest that is computed at once."""

    steps: int
    accumulation: int
    tokens: int = 0
    padded: int = 0
    labels: int = 0
    most_tokens: int = 0
    most_labels: int = 0
    shapes: set[tuple[int, int]] = field(default_factory=set)


def _work(ready: Prepared, world: World, *, strategy: str = "single") -> _Work:
    """Walk over the very micro-batches of the first epoch, in the parts in which they are computed."""
    from automodel.data import build_sampler
    from automodel.train.step import TOKENS_AT_ONCE

    recipe, data = ready.recipe, ready.training
    limit = recipe.dataset.seq_length or 0  # of a change that is being tried; the data themselves keep to their own already
    lengths = np.minimum(data.lengths, limit) if limit else data.lengths
    cut = TOKENS_AT_ONCE if world.device.type == "cpu" and strategy != "fsdp2" and data.media is None else 0

    def sampler(rank: int) -> GlobalBatchSampler:
        return build_sampler(
            data, recipe.dataloader, scheduler=recipe.step_scheduler, rank=rank, world_size=world.size, seed=recipe.seed, training=True
        )

    ranks = [sampler(rank) for rank in range(world.size)]
    work = _Work(ranks[0].steps_per_epoch, ranks[0].micro_batches_per_step)
    unit = recipe.dataloader.pad_seq_len_divisible or 1
    for rows in ranks[0].steps(0):
        for micro in (micro for one in ranks for micro in one.deal(rows) if micro):
            longest = min(data.row_length, limit or data.row_length) if data.row_length else int(lengths[micro].max())
            width = -(-longest // unit) * unit
            work.tokens += int(lengths[micro].sum())
            work.padded += len(micro) * width
            work.labels += int(data.supervised[micro].sum())
            for rows_at_once, wide, labels in _parts(micro, lengths, data.supervised, width=width, limit=cut):
                work.most_tokens, work.most_labels = max(work.most_tokens, rows_at_once * wide), max(work.most_labels, labels)
                work.shapes.add((rows_at_once, wide))
    return work


def _parts(micro: Sequence[int], lengths: Any, supervised: Any, *, width: int, limit: int) -> Iterator[tuple[int, int, int]]:
    """Yield rows, width and trained tokens of the parts that a micro-batch is cut into, as `train.step.parts_of` cuts it; 0 is no limit."""
    if not limit or len(micro) * width <= limit:
        yield len(micro), width, int(supervised[micro].sum())
        return
    start = 0
    while start < len(micro):
        longest, count = int(lengths[micro[start]]), 1
        while start + count < len(micro) and (count + 1) * max(longest, int(lengths[micro[start + count]])) <= limit:
            longest = max(longest, int(lengths[micro[start + count]]))
            count += 1
        yield count, longest, int(supervised[micro[start : start + count]].sum())
        start += count


def _load(ready: Prepared, world: World, strategy: str, work: _Work) -> Load:
    from automodel.auto.parts import activation_width
    from automodel.parallel import decoder_layers
    from automodel.tasks.preflight import sizes

    recipe, precision = ready.recipe, ready.precision
    plain = recipe.model_copy(update={"peft": None, "freeze_config": None})
    shape = sizes(plain, precision).model
    layers = decoder_layers(shape)
    vocabulary, hidden = shape.get_input_embeddings().weight.shape
    trained = ready.trained_parameters
    gpu = world.device.type == "cuda"
    return Load(
        frozen=ready.parameters - trained,
        frozen_bytes=precision.weights.itemsize,
        trained=trained,
        trained_bytes=ready.trained_bytes // max(trained, 1),
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
        dora=recipe.peft is not None and recipe.peft.use_dora,
        gpu=gpu,
        one_shape=len(work.shapes) == 1,
        runtime=runtime_bytes(gpu=gpu),
    )


def _device_memory(world: World) -> int:
    """Return the bytes a process may use: its GPU, or its share of the memory that is free here."""
    import psutil
    import torch

    if world.device.type == "cuda":
        return int(torch.cuda.get_device_properties(world.device).total_memory)
    return int(psutil.virtual_memory().available) // world.size


def less_memory(ready: Prepared, world: World, strategy: str, room: int) -> list[Change]:
    """Return the changes of the recipe that save memory, those that suffice first; where none does alone, all together at the end."""
    start = sum(estimate(_load(ready, world, strategy, _work(ready, world, strategy=strategy))).values())
    found: list[Change] = []
    together: list[str] = []
    for remedy in _remedies(ready.recipe, world):
        changed = _tried(ready, world, strategy, remedy.overrides)
        if changed < 0.99 * start:
            found.append(Change(text=remedy.text, overrides=remedy.overrides, memory_total=changed, fits=changed <= room))
            together += remedy.overrides
    found.sort(key=lambda one: not one.fits)
    if len(found) > 1 and not found[0].fits:
        changed = _tried(ready, world, strategy, tuple(together))
        found.append(Change(text="all of these together", overrides=tuple(together), memory_total=changed, fits=changed <= room))
    return found


def _remedies(recipe: Recipe, world: World) -> list[Remedy]:
    """Return what may be tried, the cheapest first: what changes no result, then what changes what is learnt."""
    settings = Settings(recipe.model_dump())
    row = Remedy("compute one row at once; the global batch, and so the result, stay the same", ("--step_scheduler.local_batch_size=1",))
    tried = [
        None if settings.holds(row.overrides[0]) else row,
        recompute(settings),
        chunked_loss(settings),
        split_weights(settings) if world.size > 1 else None,
        shorter_rows(settings),
        adapters(settings),
    ]
    return [one for one in tried if one is not None]


def _tried(ready: Prepared, world: World, strategy: str, overrides: tuple[str, ...]) -> int:
    """Return what the job would take with a change, without reading data or weights again."""
    from automodel.recipe import as_loaded
    from automodel.tasks.preflight import sizes
    from automodel.train.precision import choose_precision

    recipe = as_loaded(ready.recipe, overrides=overrides).recipe
    precision = choose_precision(recipe.model.torch_dtype, recipe.autocast, device=world.device, lora=recipe.peft is not None)
    found = sizes(recipe, precision)
    changed = replace(
        ready,
        recipe=recipe,
        precision=precision,
        parameters=found.parameters,
        trained_parameters=found.trained,
        trained_bytes=found.trained_bytes,
        optimizer_bytes=found.optimizer_bytes,
    )
    held = "fsdp2" if recipe.distributed.strategy == "fsdp2" and world.size > 1 else strategy
    load = _load(changed, world, held, _work(changed, world, strategy=held))
    if recipe.loss_fn.name == "chunked_ce" and recipe.loss_fn.chunk_len:
        load = replace(load, chunk=recipe.loss_fn.chunk_len)
    return sum(estimate(load).values())
