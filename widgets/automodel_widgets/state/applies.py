"""Which fields of a recipe cannot apply now, and why: what is not built, what another choice leaves without effect, what this machine lacks."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

from automodel.recipe import RECIPES
from automodel.recipe.built import BUILT_DATASETS, BUILT_TASKS, IMAGE_DATASETS, NOT_BUILT
from automodel.recipe.checks import is_on
from automodel.recipe.sections import RecipeFields

# How a recipe trains: the method is not a key, it follows from which sections are there.
METHODS = {"full": "Full fine-tuning: all weights", "lora": "LoRA: small adapters", "qlora": "QLoRA: adapters on 4-bit weights"}
TASKS = {
    "sft": "Fine-tune on examples",
    "pretrain": "Pre-train on text",
    "seq_cls": "Classify texts",
    "vlm": "Fine-tune on images and text",
    "kd": "Distil from a teacher",
    "benchmark": "Measure the speed",
}
_LATER = "Not in this version yet"
_MOMENTUM = ("sgd", "rmsprop")
_ADAM = ("adamw", "adam")
# (path or section with a final dot, condition under which it has no effect, why)
_RULES: tuple[tuple[str, Callable[[RecipeFields], bool], str], ...] = (
    ("model.pretrained_model_name_or_path", lambda r: r.model.config is not None, "The model starts at random from a config: clear that field first"),
    ("model.config", lambda r: bool(r.model.pretrained_model_name_or_path), "The model starts from trained weights: clear the field Model first"),
    ("model.num_labels", lambda r: r.task != "seq_cls", "Only when texts are classified"),
    ("processor.", lambda r: r.task != "vlm", "Only for images and text: choose that as the job"),
    ("peft.", lambda r: r.peft is None, "Only for LoRA: choose it as the method above"),
    ("quantization.", lambda r: r.quantization is None, "Only for QLoRA"),
    ("peft.exclude_modules", lambda r: r.peft is not None and bool(r.peft.target_modules), "The layers are named by 'Layers with an adapter'"),
    (
        "peft.target_modules",
        lambda r: r.peft is not None and (r.peft.match_all_linear or bool(r.peft.exclude_modules)),
        "The layers are chosen by another field of LoRA",
    ),
    (
        "peft.match_all_linear",
        lambda r: r.peft is not None and not r.peft.match_all_linear and bool(r.peft.target_modules or r.peft.exclude_modules),
        "The layers are named one by one",
    ),
    ("dataset.path_or_dataset", lambda r: r.dataset.name == "mock", "Made-up rows need no dataset"),
    ("dataset.split", lambda r: r.dataset.name == "mock", "Made-up rows have no split"),
    ("dataset.column_mapping", lambda r: r.dataset.name != "column_mapped", "Only for rows of the kind column_mapped"),
    ("dataset.text_column", lambda r: r.dataset.name != "text", "Only for plain text"),
    *((f"dataset.{name}", lambda r: r.dataset.name != "mock", "Only for made-up rows") for name in ("num_samples", "vocab_size", "seed")),
    *(
        (f"dataset.{name}", lambda r: r.dataset.name in ("text", "mock"), "Only for rows with a prompt and an answer")
        for name in ("prompt_template", "system_prompt", "answer_only_loss_mask", "use_hf_chat_template", "chat_template")
    ),
    ("dataset.prompt_template", lambda r: r.dataset.name == "chat", "Conversations are written by the chat template"),
    ("dataset.use_hf_chat_template", lambda r: r.dataset.name == "chat" or r.task == "vlm", "Conversations always use it"),
    ("dataset.truncation", lambda r: r.task == "vlm", "Half an image cannot be read: too long rows are left out"),
    *((f"dataset.{name}", lambda r: r.dataset.name != "chat", "Only for conversations") for name in ("mask_history", "mask_reasoning_content")),
    ("dataset.skip_invalid_samples", lambda r: r.dataset.name != "chat" and r.task != "vlm", "Only for conversations"),
    ("dataloader.batch_size", lambda _r: True, "Set by 'Local batch' for training"),
    *(
        (f"dataloader.{name}", lambda r: not r.dataloader.num_workers, "Only with worker processes")
        for name in ("persistent_workers", "prefetch_factor")
    ),
    ("validation_dataloader.", lambda r: not r.validation_datasets, "Choose validation data first"),
    ("step_scheduler.val_every_steps", lambda r: not r.validation_datasets, "Choose validation data first (under Data)"),
    ("guards.early_stopping.", lambda r: not r.validation_datasets, "Choose validation data first (under Data)"),
    ("samples.from_validation", lambda r: not r.validation_datasets, "Choose validation data first (under Data)"),
    ("checkpoint.best_metric_key", lambda r: not r.validation_datasets, "Choose validation data first (under Data)"),
    ("guards.spike_action", lambda r: r.guards.spike_factor is None, "Set the spike factor first"),
    ("loss_fn.chunk_len", lambda r: r.loss_fn.name != "chunked_ce", "Only for the loss chunked_ce"),
    ("optimizer.betas", lambda r: r.optimizer.name not in _ADAM, "Only for adamw and adam"),
    ("optimizer.momentum", lambda r: r.optimizer.name not in _MOMENTUM, "Only for sgd and rmsprop"),
    ("lr_scheduler.wsd_decay_steps", lambda r: r.lr_scheduler is None or r.lr_scheduler.lr_decay_style != "WSD", "Only for the shape WSD"),
    ("lr_scheduler.wsd_decay_style", lambda r: r.lr_scheduler is None or r.lr_scheduler.lr_decay_style != "WSD", "Only for the shape WSD"),
    (
        "lr_scheduler.lr_warmup_steps",
        lambda r: r.lr_scheduler is not None and r.lr_scheduler.warmup_ratio is not None,
        "The warm-up is given as a share: clear that first",
    ),
    (
        "lr_scheduler.warmup_ratio",
        lambda r: r.lr_scheduler is not None and r.lr_scheduler.lr_warmup_steps is not None,
        "The warm-up is given in steps: clear that first",
    ),
    ("distributed.find_unused_parameters", lambda r: r.distributed.strategy == "fsdp2", "Only for the strategy ddp"),
    ("autocast.dtype", lambda r: r.autocast.enabled is False, "Mixed precision is switched off"),
    ("step_scheduler.ckpt_every_steps", lambda r: not r.checkpoint.enabled, "Checkpoints are switched off"),
    ("step_scheduler.save_checkpoint_every_epoch", lambda r: not r.checkpoint.enabled, "Checkpoints are switched off"),
    ("checkpoint.max_recent_checkpoints", lambda r: not r.checkpoint.enabled, "Checkpoints are switched off"),
    ("checkpoint.checkpoint_dir", lambda r: not r.checkpoint.enabled, "Checkpoints are switched off"),
    ("checkpoint.best_metric_key", lambda r: not r.checkpoint.enabled, "Checkpoints are switched off"),
    ("samples.max_new_tokens", lambda r: r.samples is None, "Give prompts first"),
)
# A feature that is not built stands in the table by one key; these are the sections and keys that serve only it.
_WITH = {
    "teacher_model": ("teacher_model.", "kd_ratio", "kd_loss_fn."),
    "teacher_distributed": ("teacher_distributed.", "offload_teacher_model", "separate_meshes"),
}
# Keys of which only some values are not built: their options say so.
_PARTLY = ("recipe", "dataset.name", "distributed.strategy", "processor")


def why_not(path: str, recipe: RecipeFields) -> str | None:
    """Return why a field has no effect in a recipe, or None."""
    later = _later(path)
    if later is not None:
        return later
    return next((why for place, off, why in _RULES if _covers(place, path) and off(recipe)), None)


def section_why_not(section: str) -> str | None:
    """Return why a whole section is not to be had in this version, or None."""
    return _later(f"{section}.") or _later(section)


def option_why_not(path: str, option: str, recipe: RecipeFields) -> str | None:
    """Return why one value of a choice cannot be taken, or None."""
    if path == "recipe" and RECIPES.get(option) not in BUILT_TASKS:
        return "not in this version yet"
    if path.rpartition(".")[2] == "name" and path.split(".")[0] in ("dataset", "validation_dataset") and option not in BUILT_DATASETS:
        return "not in this version yet"
    if path.rpartition(".")[2] == "name" and path.split(".")[0] in ("dataset", "validation_dataset") and recipe.task == "vlm":
        return None if option in IMAGE_DATASETS else "its rows hold no images"
    if path == "distributed.strategy" and option == "megatron_fsdp":
        return "not in this version yet"
    return None


def method_of(recipe: RecipeFields) -> str:
    """Return the method of a recipe: full, lora or qlora."""
    if recipe.peft is None:
        return "full"
    return "qlora" if is_on(recipe.quantization) else "lora"


def method_why_not(method: str) -> str | None:
    """Return why a method cannot be taken here, or None."""
    if method != "qlora":
        return None
    if any(key == "quantization" for key, _, _ in NOT_BUILT):
        return "not in this version yet"
    return None if find_spec("bitsandbytes") else "needs the package bitsandbytes"


def _later(path: str) -> str | None:
    for key, _, instead in NOT_BUILT:
        places = _WITH.get(key, (f"{key}.", key))
        if key not in _PARTLY and any(_covers(place, path) for place in places):
            # "x: false" and "remove x" say nothing new about a field that cannot be set
            return _LATER + (f"; instead: {instead}" if key.rpartition(".")[2] not in instead else "")
    return None


def _covers(place: str, path: str) -> bool:
    return path == place or (place.endswith(".") and path.startswith(place))
