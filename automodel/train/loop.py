"""The training loop: every job of this library, on one CPU or on a mesh, runs through `train`."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from automodel.checkpoint import Snapshot, save_checkpoint
from automodel.errors import JobFailed
from automodel.train.evaluate import validate
from automodel.train.step import Batch, training_step

if TYPE_CHECKING:
    from automodel.train.state import Job


def train(job: Job) -> str:
    """Run the job to its end and return the state it ended in: `finished` or `stopped`.

    Raises:
        JobFailed: the loss or a gradient is not a number, or a spike is set to stop the run.
    """
    job.model.train()
    while job.progress.step < job.plan.total_steps:
        for batches in global_batches(job):
            record = training_step(job, batches)
            judge(job, record, batches)
            job.progress.step += 1
            log(job, record)
            due = due_now(job)
            reason = validate_and_save(job, due) if due.validate or due.save else None
            if reason or due.stop:
                return finish_early(job, due, reason)
            if job.progress.step >= job.plan.total_steps:
                break
    return "finished"


def global_batches(job: Job) -> Iterator[list[Batch]]:
    """Yield the micro-batches of one optimizer step at a time, from the current position to the end of the epoch."""
    job.loader.set_epoch(job.epoch)
    batches: list[Batch] = []
    for batch in job.loader:
        batches.append(batch)
        if len(batches) == job.loader.micro_batches_per_step:
            yield batches
            batches = []


def judge(job: Job, record: dict[str, Any], batches: list[Batch]) -> None:
    """Apply the guards to a step whose weights have not moved if its values are not numbers."""
    bad = job.guards.nonfinite(record["loss"], record["grad_norm"])
    if bad:
        rows = [int(row) for batch in batches for row in batch["rows"].tolist()]
        where = f"step {job.progress.step + 1}, rows {rows} of the training set on rank {job.world.rank}"
        if job.recipe.guards.nonfinite == "stop":
            record["step"] = job.progress.step + 1
            log_record(job, record)
            raise JobFailed(
                f"The {bad} is not a finite number at step {job.progress.step + 1}; the weights were not changed by it.",
                found=f"loss {record['loss']}, grad_norm {record['grad_norm']} at {where}",
                expected="finite values",
                fix="lower optimizer.lr, set clip_grad_norm.max_norm: 1.0, look at these rows, or set guards.nonfinite: skip",
            )
        job.event("nonfinite", f"the {bad} is not a finite number at {where}: the step is left out", rows=rows)
        return
    spike = job.guards.spike(record["loss"])
    if spike:
        job.event("spike", spike)
        if job.recipe.guards.spike_action == "stop":
            raise JobFailed(
                f"The loss jumped at step {job.progress.step + 1}.",
                found=spike,
                expected=f"below {job.recipe.guards.spike_factor} times the running mean",
                fix="lower optimizer.lr or lengthen the warm-up",
            )


def log(job: Job, record: dict[str, Any]) -> None:
    """Write the record of the step that was just done."""
    job.progress.tokens_seen += record["tokens"]
    record["step"] = job.progress.step
    log_record(job, record)


def log_record(job: Job, record: dict[str, Any]) -> None:
    """Write one training record to the run folder and to the terminal."""
    row = {"epoch": record["step"] / job.plan.steps_per_epoch, "split": "train", "tokens_seen": job.progress.tokens_seen, **record}
    job.folder.rank_status(job.world.rank, phase="training", step=record["step"])
    if job.world.main:
        job.folder.metric(**row)
        job.reporter.step(row, job.plan.total_steps)
    every = job.recipe.step_scheduler.gc_every_steps
    if every and record["step"] % every == 0:
        gc.collect()


@dataclass(frozen=True)
class Due:
    """What happens after a step, agreed by all processes."""

    validate: bool
    save: bool
    stop: bool


def due_now(job: Job) -> Due:
    """Return what is due after the step that was just done; requests and signals are agreed by all processes."""
    section, step = job.recipe.step_scheduler, job.progress.step
    asked = job.folder.requests() if job.world.main else None
    stop, discard, save = job.world.max(
        float(asked is not None and asked.stop),
        float(asked is not None and asked.stop and not asked.save_on_stop),
        float(asked is not None and asked.save),
    )
    if save and job.world.main:
        job.folder.clear_request("save")
    last = step >= job.plan.total_steps
    epoch_end = step % job.plan.steps_per_epoch == 0
    every = section.ckpt_every_steps
    regular = last or (epoch_end and section.save_checkpoint_every_epoch) or (every is not None and step % every == 0)
    saving = job.recipe.checkpoint.enabled and (bool(save) or (bool(stop) and not discard) or (regular and not stop))
    val_every = section.val_every_steps
    seen = last or (step % val_every == 0 if val_every else epoch_end) or (saving and regular)
    return Due(validate=bool(job.validation) and seen and not stop, save=saving, stop=bool(stop) and not last)


def validate_and_save(job: Job, due: Due) -> str | None:
    """Validate, then save; return why early stopping ends the run, or None."""
    reason, better = None, False
    if due.validate:
        losses = validate(job)
        key = job.recipe.checkpoint.best_metric_key
        loss = losses.get(key, next(iter(losses.values())))
        reason = job.guards.exhausted(loss)
        better = math.isfinite(loss) and (job.progress.best_loss is None or loss < job.progress.best_loss)
        if better and due.save:
            job.progress.best_loss = loss
        job.model.train()
    if due.save or (reason and job.recipe.checkpoint.enabled):
        save(job, best=better)
    job.phase("training")
    return reason


def save(job: Job, *, best: bool) -> None:
    """Write a checkpoint of this moment."""
    if job.last_saved is not None and job.last_saved.name.endswith(f"_step_{job.progress.step}"):
        return
    job.phase("saving")
    began = time.perf_counter()
    job.progress.guards = job.guards.state_dict()
    job.progress.loader = job.loader.state_dict()
    name = f"epoch_{(job.progress.step - 1) // job.plan.steps_per_epoch}_step_{job.progress.step}"
    if best:
        job.progress.best_checkpoint = name
    snapshot = Snapshot(job.model, job.tokenizer, job.optimizer, job.world, job.progress.as_dict(), job.processor)
    job.last_saved = save_checkpoint(
        job.folder.checkpoints_dir,
        name,
        snapshot,
        run=job.folder.path,
        best=job.progress.best_checkpoint,
        keep=job.recipe.checkpoint.max_recent_checkpoints,
    )
    job.event("checkpoint", f"saved {name} in {time.perf_counter() - began:.1f} s", checkpoint=name, best=best)


def finish_early(job: Job, due: Due, reason: str | None) -> str:
    """Say why the run ends before its last step and return its state."""
    if due.stop:
        saved = "saved" if due.save else "not saved"
        job.event("stopping", f"stopped on request after step {job.progress.step}, {saved}", saved=due.save)
        return "stopped"
    job.event("early_stopping", str(reason))
    return "finished"
