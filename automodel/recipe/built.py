"""What the schema can say but no code does yet: one table, so that nothing in a recipe is silently ignored."""

from __future__ import annotations

from collections.abc import Callable

from automodel.errors import NotBuiltError
from automodel.recipe.checks import is_on
from automodel.recipe.sections import DatasetSection, RecipeFields

BUILT_TASKS = ("sft", "pretrain", "vlm")
BUILT_DATASETS = ("squad", "column_mapped", "chat", "text", "mock")
# Kinds whose rows may hold images, for a model that reads them.
IMAGE_DATASETS = ("chat", "column_mapped")
_IMAGE_ROWS = "for images and text: `name: chat` with image parts in messages, or `name: column_mapped` with an image column"


def _degree(name: str) -> Callable[[RecipeFields], bool]:
    return lambda recipe: (getattr(recipe.distributed, name) or 1) > 1


def _sets(recipe: RecipeFields) -> list[DatasetSection]:
    return [recipe.dataset, *recipe.validation_datasets.values()]


def _no_images(recipe: RecipeFields) -> bool:
    return recipe.task == "vlm" and any(s.target is None and s.name not in IMAGE_DATASETS for s in _sets(recipe))


def _option(name: str) -> Callable[[RecipeFields], bool]:
    return lambda recipe: bool(recipe.distributed.options.get(name))


# key in the recipe -> whether the recipe asks for it -> what to do instead
NOT_BUILT: tuple[tuple[str, Callable[[RecipeFields], bool], str], ...] = (
    ("recipe", lambda r: r.task not in BUILT_TASKS, "use TrainFinetuneRecipeForNextTokenPrediction"),
    ("teacher_model", lambda r: bool(r.teacher_model or r.kd_loss_fn or r.kd_ratio), "remove teacher_model, kd_ratio and kd_loss_fn"),
    ("teacher_distributed", lambda r: bool(r.teacher_distributed or r.offload_teacher_model or r.separate_meshes), "remove the teacher's settings"),
    ("benchmark", lambda r: is_on(r.benchmark), "remove benchmark"),
    ("quantization", lambda r: is_on(r.quantization), "remove quantization: LoRA over bfloat16 weights works"),
    ("fp8", lambda r: is_on(r.fp8), "set fp8.enabled to false"),
    ("compile", lambda r: r.compile is not None and r.compile.enabled, "set compile.enabled to false"),
    ("processor", lambda r: r.processor is not None and not r.recipe.endswith("VLM"), "remove processor: it is for recipe: FinetuneRecipeForVLM"),
    ("processor._target_", lambda r: r.processor is not None and r.processor.target is not None, "use transformers.AutoProcessor.from_pretrained"),
    ("distributed.strategy", lambda r: r.distributed.strategy == "megatron_fsdp", "strategy: fsdp2"),
    ("distributed.tp_size", _degree("tp_size"), "tp_size: 1"),
    ("distributed.cp_size", _degree("cp_size"), "cp_size: 1"),
    ("distributed.pp_size", _degree("pp_size"), "pp_size: 1"),
    ("distributed.ep_size", _degree("ep_size"), "ep_size: 1"),
    ("distributed.dp_replicate_size", _degree("dp_replicate_size"), "dp_replicate_size: 1"),
    ("distributed.sequence_parallel", lambda r: r.distributed.sequence_parallel, "sequence_parallel: false"),
    ("distributed.options.offload_policy", _option("offload_policy"), "remove offload_policy"),
    ("distributed.options.enable_compile", _option("enable_compile"), "remove enable_compile"),
    ("packed_sequence", lambda r: r.packed_sequence is not None and r.packed_sequence.packed_sequence_size > 0, "dataloader.group_by_length: true"),
    ("model._target_", lambda r: r.model.target is not None, "name the model by pretrained_model_name_or_path"),
    ("loss_fn._target_", lambda r: r.loss_fn.target is not None, "loss_fn: {name: masked_ce}"),
    ("dataset.name", lambda r: any(s.target is None and s.name not in BUILT_DATASETS for s in _sets(r)), f"one of {', '.join(BUILT_DATASETS)}"),
    ("dataset.name", _no_images, _IMAGE_ROWS),
    ("dataset._target_", lambda r: r.task == "vlm" and any(s.target is not None for s in _sets(r)), _IMAGE_ROWS),
    (
        "dataset._target_",
        lambda r: r.task != "vlm" and any(str(s.target).startswith("nemo_automodel.") for s in _sets(r)),
        f"use one of {', '.join(BUILT_DATASETS)}, or a callable of your own with --allow-target",
    ),
    ("peft.moe_rank_scaling", lambda r: r.peft is not None and r.peft.moe_rank_scaling, "moe_rank_scaling: false"),
    ("checkpoint.is_async", lambda r: r.checkpoint.is_async, "is_async: false"),
    ("wandb", lambda r: is_on(r.wandb), "wandb.enabled: false; metrics are in the run folder"),
    ("mlflow", lambda r: is_on(r.mlflow), "mlflow.enabled: false; metrics are in the run folder"),
    ("tensorboard", lambda r: is_on(r.tensorboard), "tensorboard.enabled: false; metrics are in the run folder"),
    ("trackio", lambda r: is_on(r.trackio), "trackio.enabled: false; metrics are in the run folder"),
    ("slurm", lambda r: is_on(r.slurm), "start the job on the node itself, by `automodel` or torchrun"),
    ("skypilot", lambda r: is_on(r.skypilot), "start the job on the machine itself"),
)  # fmt: skip


def features_not_built(recipe: RecipeFields) -> list[tuple[str, str]]:
    """Return each key whose feature is not built yet, with what to do instead."""
    return [(key, instead) for key, asks, instead in NOT_BUILT if asks(recipe)]


def not_built(recipe: RecipeFields) -> None:
    """Refuse a recipe that asks for a feature which is not built yet.

    Raises:
        NotBuiltError: names the first such section, and lists the others.
    """
    found = features_not_built(recipe)
    if not found:
        return
    key, instead = found[0]
    others = ", ".join(name for name, _ in found[1:])
    raise NotBuiltError(
        f"{key} is valid in a recipe, but this version cannot run it yet.",
        found=key + (f" (also: {others})" if others else ""),
        expected="a recipe without it",
        fix=instead,
    )
