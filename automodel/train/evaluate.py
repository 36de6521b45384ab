"""Validation: the mean loss over supervised tokens of each validation set, and sampled answers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch

from automodel.parallel import unwrap
from automodel.train.step import counts, evaluating, to_device

if TYPE_CHECKING:
    from automodel.data import Loader
    from automodel.train.state import Job


def validate(job: Job) -> dict[str, float]:
    """Return the loss of every validation set by name, and write one metrics record for each."""
    losses: dict[str, float] = {}
    job.phase("validating")
    for name, loader in job.validation.items():
        record = _one_set(job, loader)
        losses[name] = record["loss"]
        if job.world.main:
            split = "validation" if name == "validation" else f"validation/{name}"
            row = {"step": job.progress.step, "epoch": job.progress.step / job.plan.steps_per_epoch, "split": split, **record}
            job.folder.metric(**row)
            job.reporter.validation(row)
    answer_samples(job)
    return losses


def _one_set(job: Job, loader: Loader) -> dict[str, Any]:
    began = time.perf_counter()
    loss, tokens, trained = 0.0, 0, 0
    with evaluating(job.model):
        for batch in loader:
            real, labels = counts([batch])
            with job.precision.context(job.world.device):
                loss += float(job.loss(to_device(batch, job.world.device)))
            tokens, trained = tokens + real, trained + labels
    total, real_tokens, label_tokens = job.world.sum(loss, tokens, trained)
    seconds = time.perf_counter() - began
    return {
        "loss": total / max(label_tokens, 1),
        "tokens": int(real_tokens),
        "label_tokens": int(label_tokens),
        "step_seconds": seconds,
        "tokens_per_second": real_tokens / seconds,
    }


def answer_samples(job: Job) -> None:
    """Generate greedily for the recipe's `samples` and write each as an event.

    Split models (FSDP2) need every process in each forward pass; copies do not.
    """
    section = job.recipe.samples
    if section is None or not job.samples or not (job.world.main or job.strategy == "fsdp2"):
        return
    model: Any = job.model if job.strategy == "fsdp2" else unwrap(job.model)
    with evaluating(model), job.precision.context(job.world.device):
        for sample in job.samples:
            ids = torch.tensor([sample.ids], device=job.world.device)
            out = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                **to_device(sample.inputs, job.world.device),
                max_new_tokens=section.max_new_tokens,
                do_sample=False,
                pad_token_id=job.tokenizer.pad_token_id,
                eos_token_id=job.stop_tokens or None,
            )
            answer = str(job.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)).strip()
            text = f"…{sample.prompt[-60:]!r} -> {answer!r}" + (f" (wanted {sample.wanted!r})" if sample.wanted else "")
            job.event("sample", text, prompt=sample.prompt, answer=answer, wanted=sample.wanted)
