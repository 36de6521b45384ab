"""One optimizer step over one global batch."""

from __future__ import annotations

import contextlib
import math
import resource
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from automodel.parallel import accumulate_locally
from automodel.train.head import IGNORE

if TYPE_CHECKING:
    from automodel.train.state import Job

Batch = dict[str, torch.Tensor]
TEXT_ONLY = {"input_ids", "attention_mask", "labels", "rows"}
TOKENS_AT_ONCE = 1024


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Return the batch on the device; what the model does not read (row numbers) stays behind."""
    return {name: value.to(device, non_blocking=True) for name, value in batch.items() if name != "rows"}


def counts(batches: Sequence[Batch]) -> tuple[int, int]:
    """Return how many tokens are real and how many are trained, over some micro-batches of this process (dummies count nothing)."""
    real = sum(int(batch["attention_mask"][: len(batch["rows"])].sum()) for batch in batches)
    trained = sum(int((batch["labels"][:, 1:] != IGNORE).sum()) for batch in batches)
    return real, trained


def parts_of(batch: Batch, limit: int) -> list[Batch]:
    """Cut a batch [B, T], longest rows first, into parts of at most `limit` tokens (at least one row), each filled only to its own longest row.

    Sums of losses and of gradients stay the same; the memory for activations is that of one part.
    """
    rows, width = batch["input_ids"].shape
    if rows * width <= limit:
        return [batch]
    lengths = batch["attention_mask"].flip(1).argmax(1).neg().add(width).tolist()  # up to the last real token
    parts, start = [], 0
    while start < rows:
        count, longest = 1, int(lengths[start])
        while start + count < rows and (count + 1) * max(longest, int(lengths[start + count])) <= limit:
            longest = max(longest, int(lengths[start + count]))
            count += 1
        parts.append(
            {name: value[start : start + count, :longest] if value.ndim == 2 else value[start : start + count] for name, value in batch.items()}
        )
        start += count
    return parts


def cut_for_memory(job: Job, batches: Sequence[Batch]) -> list[Batch]:
    """On a CPU, where small products are as fast as large ones, cut micro-batches into parts; FSDP2 needs the same number on every process.

    A batch with images stays whole: only the model knows which pixels belong to which row.
    """
    if job.world.device.type != "cpu" or job.strategy == "fsdp2":
        return list(batches)
    return [part for batch in batches for part in (parts_of(batch, TOKENS_AT_ONCE) if batch.keys() <= TEXT_ONLY else [batch])]


def training_step(job: Job, batches: Sequence[Batch]) -> dict[str, Any]:
    """Compute gradients of a global batch and, unless they are not numbers, move the weights; return the metrics record.

    The loss is the sum over supervised tokens divided by their number in the whole global batch, so it does not depend on how rows are
    spread over processes and micro-batches.
    """
    began = time.perf_counter()
    tokens, label_tokens = (int(value) for value in job.world.sum(*counts(batches)))
    summed = 0.0
    batches = cut_for_memory(job, batches)
    for number, batch in enumerate(batches):
        with accumulate_locally(job.model, last=number == len(batches) - 1):
            with job.precision.context(job.world.device):
                loss = job.loss(to_device(batch, job.world.device))
            # gradients are averaged over processes: undo that, the division by label_tokens is already global
            scaled: Any = loss * (job.world.size / max(label_tokens, 1))
            scaled.backward()
        summed += float(loss.detach())
    loss_mean = job.world.sum(summed)[0] / max(label_tokens, 1)
    norm = gradient_norm(job.model, job.recipe.clip_grad_norm.max_norm)
    rate = job.schedule.apply(job.optimizer, job.progress.step)
    bad = job.guards.nonfinite(loss_mean, norm)
    if bad is None:
        job.optimizer.step()
    job.optimizer.zero_grad(set_to_none=True)
    seconds = time.perf_counter() - began
    return {
        "loss": loss_mean,
        "grad_norm": norm,
        "lr": rate,
        "tokens": tokens,
        "label_tokens": label_tokens,
        "step_seconds": seconds,
        "tokens_per_second": tokens / seconds,
        "memory_bytes": memory_bytes(job.world.device),
        "mfu": None,
    }


def gradient_norm(model: nn.Module, max_norm: float | None) -> float:
    """Return the 2-norm of all gradients; scale them down to `max_norm` where that is smaller."""
    parameters = [p for p in model.parameters() if p.grad is not None]
    norm = torch.nn.utils.clip_grad_norm_(parameters, math.inf if max_norm is None else max_norm)
    full = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
    return float(full)


def memory_bytes(device: torch.device) -> int:
    """Return the highest memory use so far: of the GPU's allocator, or of this process on the CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Any:
    """Switch dropout off and gradients away, and back."""
    was = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was)
