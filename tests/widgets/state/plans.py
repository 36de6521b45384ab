"""An answer of `plan`, as the helper process gives it."""

from __future__ import annotations

from typing import Any

CHANGES = [
    {"text": "compute one row at once", "overrides": ("--step_scheduler.local_batch_size=1",), "memory_total": 400, "fits": True},
    {"text": "compute activations twice", "overrides": ("--distributed.activation_checkpointing=true",), "memory_total": 900, "fits": False},
]
RECIPE = {"model": {"pretrained_model_name_or_path": "tiny"}, "dataset": {"path_or_dataset": "rows.jsonl"}, "step_scheduler": {"max_steps": 3}}


def plan(**more: Any) -> dict[str, Any]:
    """Return a plan of 1,000 bytes."""
    memory = {"weights": 300, "gradients": 200, "optimizer": 300, "activations": 100, "logits": 60, "runtime": 40}
    return {
        "memory": memory,
        "memory_total": 1000,
        "changes": CHANGES,
        "advice": ["a", "b", "or more memory: another device"],
        "steps": 250,
        "epochs": 1.27,
        "total_tokens": 338_325,
        "parameters": 1000,
        "trained_parameters": 30,
        "lora_modules": (),
        "rows": 3151,
        "label_tokens_per_step": 50.6,
        "checkpoint_bytes": 14_000_000,
    } | more
