"""Turning a built model into a LoRA model, new or from a saved adapter; the work is peft's."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from automodel.errors import ModelError
from automodel.peft.match import check_saved, match_layers

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from transformers import PreTrainedModel

    from automodel.recipe.schema import PeftSection


def apply_lora(model: PreTrainedModel, section: PeftSection) -> PeftModel:
    """Return the model with new adapters; everything else is frozen.

    Raises:
        RecipeError: no layer matches, or a name in `modules_to_save` is no module.
    """
    from peft import get_peft_model

    with _quiet():
        built = get_peft_model(model, lora_config(model, section))
    _cast_adapters(built, section)
    return cast("PeftModel", built)


def lora_config(model: PreTrainedModel, section: PeftSection) -> LoraConfig:
    """Return peft's own config for the section, with portable target names."""
    from peft import LoraConfig

    match = match_layers(model, section)
    check_saved(model, section.modules_to_save or [])
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=section.dim,
        lora_alpha=cast(Any, section.alpha),
        lora_dropout=section.dropout,
        target_modules=list(match.targets),
        use_dora=section.use_dora,
        use_rslora=section.use_rslora,
        modules_to_save=section.modules_to_save,
        init_lora_weights=cast(Any, section.init_lora_weights),
        bias="none",
    )


def load_adapter(model: PreTrainedModel, folder: Path, *, trainable: bool, section: PeftSection | None = None) -> PeftModel:
    """Return the model with the adapter of `folder`; adapter files must be safetensors.

    Raises:
        ModelError: the folder holds no adapter that peft can read safely.
    """
    if not (folder / "adapter_config.json").is_file() or not (folder / "adapter_model.safetensors").is_file():
        raise ModelError(
            "The folder holds no LoRA adapter.",
            found=str(folder),
            expected="adapter_config.json and adapter_model.safetensors",
            fix="name the `model` folder of a LoRA checkpoint",
        )
    from peft import PeftModel

    with _quiet():
        built = PeftModel.from_pretrained(model, str(folder), is_trainable=trainable)
    if section is not None:
        _cast_adapters(built, section)
    return built


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out the deprecation that peft meets inside transformers 5: nobody here can act on it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield


def _cast_adapters(model: Any, section: PeftSection) -> None:
    if section.lora_dtype in (None, "auto"):
        return
    wanted = getattr(torch, str(section.lora_dtype))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(wanted)
