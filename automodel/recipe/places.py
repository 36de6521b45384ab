"""Where each key stands in a form, and its unit and usual range: what the schema says beside types, limits and effects.

`unit` is what a number counts; `measure` what a number without a unit is; `typical` its usual range; `group` the place in a form, of a section or of
one of its keys; `simple` keys are shown first; `hidden` ones have no effect here, or need a command line. A range, and a unit, that a key
already has in `recipe.sections` is not said again.
"""

from __future__ import annotations

from typing import Any

GROUPS = ("Model", "Data", "Method", "Schedule", "Memory", "Output")
SIMPLE: dict[str, Any] = {"simple": True}
HIDDEN: dict[str, Any] = {"hidden": True}
PLACES: dict[str, dict[str, dict[str, Any]]] = {
    "TargetSection": {
        "_target_": HIDDEN,
        "kwargs": HIDDEN,
    },
    "RngSection": {
        "seed": HIDDEN,
    },
    "DistEnvSection": {
        "timeout_minutes": {"typical": "10 to 60"},
    },
    "ModelSection": {
        "pretrained_model_name_or_path": SIMPLE,
        "torch_dtype": {"group": "Memory", "simple": True},
        "num_labels": {"unit": "classes"},
        "attn_implementation": {"group": "Memory"},
        "use_liger_kernel": {"group": "Memory"},
        "use_sdpa_patching": {"group": "Memory"},
        "sdpa_method": {"group": "Memory"},
        "backend": {"group": "Memory"},
    },
    "ProcessorSection": {
        "min_pixels": {"typical": "200704"},
        "max_pixels": {"typical": "200704 to 1003520"},
        "padding_side": HIDDEN,
    },
    "PeftSection": {
        "dim": {"measure": "rank", "simple": True},
        "alpha": {"measure": "factor", "simple": True},
        "dropout": {"measure": "share", "typical": "0 to 0.1"},
        "target_modules": SIMPLE,
        "use_triton": HIDDEN,
        "use_memory_efficient_lora": HIDDEN,
    },
    "DistributedSection": {
        "strategy": SIMPLE,
        "dp_size": {"unit": "processes"},
        "dp_replicate_size": {"unit": "processes"},
        "tp_size": {"unit": "processes"},
        "cp_size": {"unit": "processes"},
        "pp_size": {"unit": "stages"},
        "ep_size": {"unit": "processes"},
        "activation_checkpointing": SIMPLE,
        "options": HIDDEN,
    },
    "LossSection": {
        "ignore_index": {"measure": "label", "typical": "-100"},
        "chunk_len": {"unit": "rows of logits", "typical": "128 to 4096"},
        "logit_softcapping": HIDDEN,
        "reduction": HIDDEN,
    },
    "DatasetSection": {
        "name": SIMPLE,
        "path_or_dataset": SIMPLE,
        "split": SIMPLE,
        "seq_length": SIMPLE,
        "shuffle_seed": {"measure": "seed", "typical": "42"},
        "num_samples": {"unit": "rows"},
        "vocab_size": {"unit": "tokens"},
        "seed": {"measure": "seed", "typical": "0 or 1"},
    },
    "PackedSequenceSection": {
        "packed_sequence_size": {"typical": "2048 to 8192"},
        "max_packs": {"unit": "rows"},
        "split_across_pack": HIDDEN,
        "options": HIDDEN,
    },
    "DataloaderSection": {
        "batch_size": {"unit": "rows"},
        "num_workers": {"unit": "processes", "typical": "0 to 8"},
        "prefetch_factor": {"unit": "batches", "typical": "2 to 4"},
        "pad_seq_len_divisible": {"typical": "8 to 128"},
    },
    "StepSchedulerSection": {
        "global_batch_size": {"typical": "8 to 128", "simple": True},
        "local_batch_size": {"typical": "1 to 16", "simple": True},
        "num_epochs": {"unit": "epochs", "typical": "1 to 5", "simple": True},
        "max_steps": {"unit": "steps", "typical": "60 for a first try", "simple": True},
        "ckpt_every_steps": {"unit": "steps", "typical": "100 to 1000", "group": "Output", "simple": True},
        "save_checkpoint_every_epoch": {"group": "Output"},
        "val_every_steps": {"unit": "steps", "typical": "50 to 500", "simple": True},
        "log_remote_every_steps": {"unit": "steps"},
        "gc_every_steps": {"unit": "steps"},
    },
    "OptimizerSection": {
        "lr": {"measure": "rate", "simple": True},
        "weight_decay": {"measure": "factor"},
        "betas": {"measure": "shares", "typical": "0.9 and 0.95 to 0.999"},
        "eps": {"measure": "number", "typical": "1e-8"},
        "momentum": {"measure": "share", "typical": "0.9 for sgd"},
    },
    "LrSchedulerSection": {
        "lr_decay_style": SIMPLE,
        "lr_warmup_steps": {"typical": "5 to 10 % of the run"},
        "warmup_ratio": {"measure": "share", "typical": "0.03 to 0.1", "simple": True},
        "min_lr": {"measure": "rate", "typical": "0 to a tenth of lr"},
        "init_lr": {"measure": "rate", "typical": "0"},
    },
    "ClipSection": {
        "max_norm": {"measure": "norm", "typical": "0.5 to 1"},
    },
    "CheckpointSection": {
        "model_save_format": HIDDEN,
        "save_consolidated": HIDDEN,
        "max_recent_checkpoints": {"unit": "checkpoints", "typical": "1 to 5", "simple": True},
        "v4_compatible": HIDDEN,
        "options": HIDDEN,
    },
    "NeftuneSection": {
        "noise_alpha": {"measure": "factor", "typical": "5 to 15"},
    },
    "RunSection": {
        "name": SIMPLE,
        "stop_grace_seconds": {"typical": "30 to 300"},
    },
    "EarlyStoppingSection": {
        "patience": {"unit": "validations", "typical": "2 to 5"},
        "min_delta": {"measure": "loss", "typical": "0 to 0.01"},
    },
    "GuardsSection": {
        "spike_factor": {"measure": "factor", "typical": "2 to 10"},
    },
    "SamplesSection": {
        "prompts": SIMPLE,
    },
    "RecipeFields": {
        "recipe": {"group": "Method"},
        "seed": {"measure": "seed", "group": "Output", "simple": True},
        "rng": {"group": "Output"},
        "dist_env": {"group": "Memory"},
        "model": {"group": "Model"},
        "autocast": {"group": "Memory"},
        "tokenizer": {"group": "Model"},
        "processor": {"group": "Model"},
        "peft": {"group": "Method"},
        "quantization": {"group": "Method"},
        "fp8": {"group": "Memory"},
        "compile": {"group": "Memory"},
        "distributed": {"group": "Memory"},
        "loss_fn": {"group": "Method"},
        "dataset": {"group": "Data"},
        "packed_sequence": {"group": "Data"},
        "dataloader": {"group": "Data"},
        "validation_datasets": {"group": "Data"},
        "validation_dataloader": {"group": "Data"},
        "step_scheduler": {"group": "Schedule"},
        "optimizer": {"group": "Schedule"},
        "lr_scheduler": {"group": "Schedule"},
        "clip_grad_norm": {"group": "Schedule"},
        "checkpoint": {"group": "Output"},
        "freeze_config": {"group": "Method"},
        "neftune": {"group": "Method"},
        "wandb": {"group": "Output"},
        "mlflow": {"group": "Output"},
        "tensorboard": {"group": "Output"},
        "trackio": {"group": "Output"},
        "benchmark": {"group": "Method"},
        "teacher_model": {"group": "Method"},
        "kd_ratio": {"measure": "share", "typical": "0.3 to 0.7", "group": "Method"},
        "teacher_distributed": {"group": "Method"},
        "offload_teacher_model": {"group": "Method"},
        "separate_meshes": {"group": "Method"},
        "kd_loss_fn": {"group": "Method"},
        "slurm": {"group": "Output"},
        "skypilot": {"group": "Output"},
        "run": {"group": "Output"},
        "guards": {"group": "Schedule"},
        "samples": {"group": "Output"},
    },
}


def add_places(schema: dict[str, Any], model: type[Any]) -> None:
    """Add place, unit and usual range to the JSON schema of a section (pydantic calls this)."""
    for kind in reversed(model.__mro__):
        for name, facts in PLACES.get(kind.__name__, {}).items():
            if name in schema["properties"]:
                schema["properties"][name].update(facts)
