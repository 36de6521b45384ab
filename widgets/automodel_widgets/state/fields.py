"""The fields of a recipe form, made from the recipe's JSON schema: what each takes, its unit, range and effect, and where it stands."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from automodel.recipe import Recipe
from automodel.recipe.describe import type_text
from automodel.recipe.places import GROUPS as GROUPS
from automodel.recipe.tree import flow

# A validation set has the same keys as the training set; these are what a beginner sets.
SIMPLE_FOR_VALIDATION = ("path_or_dataset", "split")
VALIDATION = "validation_dataset"
LABELS = {
    "recipe": "Kind of job",
    "model.pretrained_model_name_or_path": "Model",
    "model.config": "Config to start at random",
    "model.torch_dtype": "Weight type",
    "model.use_sdpa_patching": "Choose the SDPA order",
    "model.sdpa_method": "SDPA backends",
    "model.attn_implementation": "Attention kernel",
    "model.use_liger_kernel": "Liger kernels",
    "model.backend": "Kernel choices",
    "model.cache_dir": "Download cache",
    "model.config_overrides": "Changes of the config",
    "model.num_labels": "Classes",
    "model.trust_remote_code": "Allow code of the repository",
    "tokenizer.trust_remote_code": "Allow code of the repository",
    "model.force_hf": "Always the transformers class",
    "tokenizer.pretrained_model_name_or_path": "Tokenizer",
    "tokenizer.force_hf": "Raw transformers tokenizer",
    "tokenizer.force_default": "Skip special tokenizers",
    "tokenizer.add_bos_token": "Add BOS token",
    "tokenizer.add_eos_token": "Add EOS token",
    "processor.trust_remote_code": "Allow code of the repository",
    "processor.pretrained_model_name_or_path": "Processor",
    "processor.min_pixels": "Smallest image",
    "processor.max_pixels": "Largest image",
    "dataset.name": "Kind of rows",
    "dataset.path_or_dataset": "Dataset",
    "dataset.seq_length": "Longest row",
    "dataset.limit_dataset_samples": "Use only the first",
    "dataset.answer_only_loss_mask": "Train on the answer only",
    "dataset.use_hf_chat_template": "Use the chat template",
    "dataset.mask_history": "Train on the last answer only",
    "dataset.mask_reasoning_content": "Do not train on reasoning",
    "dataset.skip_invalid_samples": "Leave out rows that cannot be read",
    "dataset.num_samples": "Made-up rows",
    "dataset.vocab_size": "Made-up tokens",
    "dataset.seed": "Seed of made-up rows",
    "dataset.column_mapping": "Columns",
    "packed_sequence.packed_sequence_size": "Length of a packed row",
    "packed_sequence.max_packs": "Most packed rows",
    "dataloader.num_workers": "Worker processes",
    "dataloader.batch_size": "Rows a batch",
    "dataloader.drop_last": "Leave out the last batch",
    "dataloader.pin_memory": "Page-locked memory",
    "dataloader.persistent_workers": "Keep the workers",
    "dataloader.prefetch_factor": "Batches ahead",
    "dataloader.shuffle": "Shuffle",
    "validation_dataset.name": "Kind of validation rows",
    "validation_dataset.path_or_dataset": "Validation data",
    "validation_dataset.split": "Validation split",
    "dataloader.group_by_length": "Batch rows of like length",
    "dataloader.pad_seq_len_divisible": "Fill to a multiple of",
    "peft.dim": "Rank (dim)",
    "peft.alpha": "Strength (alpha)",
    "peft.target_modules": "Layers with an adapter",
    "peft.exclude_modules": "Layers without an adapter",
    "peft.match_all_linear": "All linear layers",
    "peft.use_dora": "DoRA",
    "peft.use_rslora": "rsLoRA",
    "peft.init_lora_weights": "Start of the adapters",
    "peft.lora_dtype": "Number type of the adapters",
    "peft.moe_rank_scaling": "Scale the rank of experts",
    "peft.modules_to_save": "Modules trained whole",
    "loss_fn.name": "Loss",
    "loss_fn.fp32_upcast": "Loss in float32",
    "loss_fn.ignore_index": "Label that is ignored",
    "loss_fn.chunk_len": "Rows of a chunk",
    "step_scheduler.global_batch_size": "Global batch",
    "step_scheduler.local_batch_size": "Local batch",
    "step_scheduler.num_epochs": "Epochs",
    "step_scheduler.max_steps": "Most steps",
    "step_scheduler.ckpt_every_steps": "Save every",
    "step_scheduler.save_checkpoint_every_epoch": "Save at the end of each epoch",
    "step_scheduler.val_every_steps": "Validate every",
    "step_scheduler.log_remote_every_steps": "Send metrics every",
    "step_scheduler.gc_every_steps": "Collect garbage every",
    "optimizer.name": "Optimizer",
    "optimizer.lr": "Learning rate",
    "optimizer.betas": "Betas",
    "optimizer.eps": "Epsilon",
    "lr_scheduler.lr_decay_style": "Decay shape",
    "lr_scheduler.lr_warmup_steps": "Warm-up steps",
    "lr_scheduler.warmup_ratio": "Warm-up share",
    "lr_scheduler.lr_decay_steps": "Decay steps",
    "lr_scheduler.min_lr": "Lowest learning rate",
    "lr_scheduler.init_lr": "First learning rate",
    "lr_scheduler.wsd_decay_steps": "WSD decay steps",
    "lr_scheduler.wsd_decay_style": "WSD decay shape",
    "clip_grad_norm.max_norm": "Longest gradient",
    "distributed.strategy": "Strategy",
    "distributed.dp_size": "Data-parallel size",
    "distributed.dp_replicate_size": "Copies of the split model",
    "distributed.tp_size": "Tensor-parallel size",
    "distributed.cp_size": "Context-parallel size",
    "distributed.pp_size": "Pipeline stages",
    "distributed.ep_size": "Expert-parallel size",
    "distributed.moe": "Expert settings",
    "autocast.enabled": "Mixed precision",
    "autocast.dtype": "Number type of the products",
    "dist_env.timeout_minutes": "Time-out",
    "dist_env.init_method": "Rendezvous address",
    "dist_env.backend": "Collective library",
    "compile.enabled": "Compile the model",
    "compile.fullgraph": "Whole graph only",
    "compile.dynamic": "One graph for all lengths",
    "freeze_config": "Frozen parts",
    "neftune.noise_alpha": "Strength of the noise",
    "guards.early_stopping.min_delta": "Smallest gain",
    "samples.prompts": "Sample prompts",
    "samples.from_validation": "Validation rows to answer",
    "samples.max_new_tokens": "Longest answer",
    "checkpoint.checkpoint_dir": "Own checkpoint folder",
    "checkpoint.restore_from": "Start from a checkpoint",
    "run.name": "Name of the run",
    "run.folder": "Root of the run folders",
    "run.stop_grace_seconds": "Time to save at a stop",
    "checkpoint.enabled": "Save checkpoints",
    "checkpoint.max_recent_checkpoints": "Checkpoints kept",
    "checkpoint.best_metric_key": "Set that decides the best",
    "checkpoint.is_async": "Save in the background",
    "guards.nonfinite": "When the loss is not a number",
    "kd_ratio": "Share of distillation",
    "kd_loss_fn.enabled": "Distillation loss",
    "rng.ranked": "Own random stream for each rank",
}
SECTION_LABELS = {
    "dist_env": "Processes and time-out",
    "autocast": "Mixed precision",
    "peft": "LoRA",
    "fp8": "FP8",
    "compile": "torch.compile",
    "distributed": "Split over processes",
    "loss_fn": "Loss",
    "dataset": "Training data",
    "packed_sequence": "Packing",
    "dataloader": "Batches of training",
    VALIDATION: "Validation data",
    "validation_dataloader": "Batches of validation",
    "step_scheduler": "Steps",
    "lr_scheduler": "Learning rate over the steps",
    "clip_grad_norm": "Gradient clipping",
    "checkpoint": "Checkpoints",
    "freeze_config": "Frozen parts",
    "neftune": "NEFTune",
    "wandb": "Weights & Biases",
    "mlflow": "MLflow",
    "tensorboard": "TensorBoard",
    "trackio": "trackio",
    "teacher_distributed": "Teacher: split over processes",
    "kd_loss_fn": "Distillation loss",
    "slurm": "Slurm",
    "skypilot": "SkyPilot",
    "rng": "Random numbers",
    "guards.early_stopping": "Early stopping",
    "": "Job",
}
# Sections with the same keys.
TWINS = {VALIDATION: "dataset", "validation_dataloader": "dataloader", "teacher_model": "model", "teacher_distributed": "distributed"}
_WORDS = {"lr": "learning rate", "dtype": "number type"}
_SIGNS = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}


@dataclass(frozen=True)
class Field:
    """One field of the form.

    Attributes:
        path: dotted place in a recipe, as a file has it.
        kind: switch, choice, whole, number, text, list, lines (a list, one a line) or data (a map or list as YAML).
        options: value as text -> label, of a choice.
        unit: what it counts, or what a number without a unit is; empty for what is no number.
        range: limits, and what is usual, in words.
        nullable: an empty control takes the value away.
    """

    path: str
    section: str
    label: str
    effect: str
    kind: str
    takes: str
    default: Any
    group: str
    unit: str = ""
    range: str = ""
    options: tuple[tuple[str, str], ...] = ()
    nullable: bool = False
    simple: bool = False
    scientific: bool = False

    @property
    def id(self) -> str:
        """Return the id of its control."""
        return "recipe-" + re.sub(r"[^A-Za-z0-9]+", "-", self.path)

    def text(self, value: Any) -> str:
        """Return a value as its control shows it."""
        if value is None:
            return ""
        if isinstance(value, bool):
            return "true" if value else "false"
        if self.kind == "lines" and isinstance(value, list):
            return "\n".join(map(str, value))
        if isinstance(value, (list, tuple)) and self.kind in ("list", "text"):
            return ", ".join(map(str, value))
        if isinstance(value, (dict, list, tuple)):
            return json.dumps(value, ensure_ascii=False) if value else ""
        if isinstance(value, float):
            return scientific(value) if self.scientific else f"{value:.10g}"
        return str(value)

    def value(self, shown: Any) -> Any:
        """Return what a control's text means; None when it is empty."""
        if self.kind == "switch":
            return bool(shown)
        given = str(shown)
        if not given.strip():
            return None
        if self.kind == "lines":
            return [line for line in given.splitlines() if line.strip()]
        if self.kind == "list":
            parts = [part.strip() for part in given.split(",") if part.strip()]
            return parts[0] if self.path.endswith("path_or_dataset") and len(parts) == 1 else parts
        return given if self.kind == "text" else flow(given.strip(), name=self.path)


def scientific(value: float) -> str:
    """Return a number as people write learning rates: 2e-4, 1.5e-5, and 0."""
    if not value:
        return "0"
    digits, _, power = f"{value:.9e}".partition("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(power)}"


@cache
def fields() -> tuple[Field, ...]:
    """Return every field of the form, in the order of the schema; keys without effect here are left out."""
    schema = Recipe.model_json_schema()
    found: list[Field] = []
    for name, node in schema["properties"].items():
        found += _of(VALIDATION if name == "validation_datasets" else name, name, node, schema)
    return tuple(found)


@cache
def by_path() -> dict[str, Field]:
    """Return the fields by path."""
    return {field.path: field for field in fields()}


@cache
def optional_sections() -> frozenset[str]:
    """Return the sections that act only when they are given."""
    schema = Recipe.model_json_schema()
    top = {name for name, node in schema["properties"].items() if node.get("default", "") is None and _section(node, schema)}
    return frozenset(top | {VALIDATION, "guards.early_stopping"})


def _of(path: str, name: str, node: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[Field]:
    group = str(node.get("group", ""))
    inner = _section(node.get("additionalProperties", node) if name == "validation_datasets" else node, schema)
    if inner is None:
        yield _field(path, "", node, group, schema)
        return
    yield from _fields_of(path, inner, group, schema)


def _fields_of(section: str, node: Mapping[str, Any], group: str, schema: Mapping[str, Any]) -> Iterator[Field]:
    for name, one in node["properties"].items():
        if one.get("hidden"):
            continue
        nested = _section(one, schema)
        if nested is not None:
            yield from _fields_of(f"{section}.{name}", nested, one.get("group", group), schema)
        else:
            yield _field(f"{section}.{name}", section, one, group, schema)


def _section(node: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any] | None:
    for one in (node, *node.get("anyOf", ())):
        if "$ref" in one:
            found: Mapping[str, Any] = schema["$defs"][one["$ref"].rpartition("/")[2]]
            return found
    return None


def _field(path: str, section: str, node: Mapping[str, Any], group: str, schema: Mapping[str, Any]) -> Field:
    kinds = [one for one in node.get("anyOf", (node,)) if one.get("type") != "null"]
    nullable = len(kinds) < len(node.get("anyOf", (node,)))
    kind, options = _kind(path, kinds, nullable=nullable)
    name = path.rpartition(".")[2]
    simple = bool(node.get("simple")) and not (section == VALIDATION and name not in SIMPLE_FOR_VALIDATION)
    return Field(
        path=path,
        section=section,
        label=label_of(path),
        effect=str(node.get("description", "")),
        kind=kind,
        takes=type_text(node, schema),
        default=node.get("default"),
        # what a teacher has is no setting of its own place
        group=group if section.startswith("teacher") else str(node.get("group", group)),
        unit=str(node.get("unit") or node.get("measure") or ""),
        range=_range(node, kinds),
        options=options,
        nullable=nullable or kind in ("data", "list", "lines"),
        simple=simple and not section.startswith("teacher"),
        scientific=node.get("measure") == "rate" or name == "eps",
    )


def _kind(path: str, kinds: list[Mapping[str, Any]], *, nullable: bool) -> tuple[str, tuple[tuple[str, str], ...]]:
    types = [str(one.get("type", "")) for one in kinds]
    switch, named = "boolean" in types, [str(value) for one in kinds for value in one.get("enum", ())]
    if path == "recipe":
        return "choice", ()
    if types == ["boolean"] and not nullable:
        return "switch", ()
    if named or types == ["boolean"]:
        words = [("true", "on"), ("false", "off")] if switch else []
        return "choice", tuple(([("", "automatic")] if nullable else []) + words + [(value, value) for value in named])
    if path.endswith(".prompts"):
        return "lines", ()
    if "array" in types and all(one.get("items", {}).get("type") == "string" for one in kinds if one.get("type") == "array"):
        return "list", ()
    return {"integer": "whole", "number": "number", "string": "text"}.get(types[0] if len(types) == 1 else "", "data"), ()


def _range(node: Mapping[str, Any], kinds: list[Mapping[str, Any]]) -> str:
    """Return limits and what is usual: "from 1; usually 4 to 64"."""
    limits = " ".join(f"{word} {one[key]:g}" for one in kinds for key, word in _SIGNS.items() if key in one)
    usual = f"usually {node['typical']}" if "typical" in node else ""
    return "; ".join(part for part in (limits, usual) if part)


def label_of(path: str) -> str:
    """Return the label of a field."""
    if path in LABELS:
        return LABELS[path]
    section, _, name = path.rpartition(".")
    twin = LABELS.get(f"{TWINS[section]}.{name}") if section in TWINS else None
    if twin is not None:
        return twin
    if name == "enabled":
        return "On"
    sentence = " ".join(_WORDS.get(word, word) for word in name.split("_"))
    return sentence[:1].upper() + sentence[1:]


def section_label(section: str) -> str:
    """Return the heading of a section."""
    found = SECTION_LABELS.get(section)
    return found if found is not None else section.rpartition(".")[2].replace("_", " ").capitalize()
