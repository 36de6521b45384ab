"""The keyword arguments that the auto classes add to those of transformers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from automodel.errors import ModelError, NotBuiltError
from automodel.kernels import BackendConfig
from automodel.kernels.sdpa import backend_names

FORBIDDEN = ("moe_mesh", "distributed_config", "pipeline_config", "moe_config", "activation_checkpointing", "tp_plan")
# Accepted because NeMo AutoModel takes them; they change nothing on this path.
IGNORED = ("has_packed_sequence", "load_base_model")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Own keyword arguments, read and checked."""

    dtype: torch.dtype | str
    attn: Any
    liger: bool
    sdpa_patching: bool
    sdpa: tuple[str, ...] | None
    backend: BackendConfig
    force_hf: bool
    peft_config: Any
    quantization_config: Any
    compile_config: Any
    device: torch.device | None
    allow_unverified: bool


def read_options(kwargs: dict[str, Any]) -> Options:
    """Take the own arguments out of `kwargs`, which keeps those of transformers.

    Raises:
        TypeError: an argument that belongs into distributed_setup.
        ModelError: a value that is not valid.
        NotBuiltError: a feature that is accepted by name but not built yet.
    """
    for name in FORBIDDEN:
        if name in kwargs:
            raise TypeError(f"{name} is not an argument of the auto classes: pass distributed_setup, which holds it")
    for name in IGNORED:
        kwargs.pop(name, None)
    setup, mesh = kwargs.pop("distributed_setup", None), kwargs.pop("device_mesh", None)
    if setup is not None and mesh is not None:
        raise ValueError("distributed_setup and device_mesh exclude each other: the setup holds a mesh of its own")
    for name, value in (("distributed_setup", setup), ("device_mesh", mesh)):
        if value is not None:
            fix = "leave it out and wrap the model that comes back, or run the recipe under torchrun"
            raise NotBuiltError(f"{name} is not built into the auto classes yet", found=type(value).__name__, expected="None", fix=fix)
    for name in ("fp8_config", "freeze_config", "qat_config"):
        if enabled(kwargs.pop(name, None)):
            raise NotBuiltError(f"{name} is not built yet", found=name, expected="None", fix=f"leave {name} out")
    quantization = kwargs.pop("quantization_config", None)
    if quantization is not None and not torch.cuda.is_available():
        fix = "leave quantization_config out, or use a machine with a GPU"
        raise NotBuiltError("quantization_config needs a CUDA device here", found="no CUDA device", expected="a GPU with bitsandbytes", fix=fix)
    device = kwargs.pop("device", None)
    return Options(
        dtype=read_dtype(kwargs),
        attn=kwargs.pop("attn_implementation", None),
        liger=kwargs.pop("use_liger_kernel", True),
        sdpa_patching=kwargs.pop("use_sdpa_patching", True),
        sdpa=backend_names(kwargs.pop("sdpa_method", None)),
        backend=BackendConfig.of(kwargs.pop("backend", None)),
        force_hf=kwargs.pop("force_hf", False),
        peft_config=kwargs.pop("peft_config", None),
        quantization_config=quantization,
        compile_config=kwargs.pop("compile_config", None),
        device=None if device is None else torch.device(device),
        allow_unverified=kwargs.pop("allow_unverified", False),
    )


def read_dtype(kwargs: dict[str, Any]) -> torch.dtype | str:
    """Take `dtype` or `torch_dtype` out of `kwargs`; "auto" when neither is given.

    Raises:
        ModelError: an unknown name, or two values that differ.
    """
    new, old = kwargs.pop("dtype", None), kwargs.pop("torch_dtype", None)
    found = [_dtype(value) for value in (new, old) if value is not None]
    named = [value for value in found if value != "auto"] or found
    if len(set(named)) > 1:
        raise ModelError("dtype and torch_dtype differ", found=f"{new} and {old}", expected="one of them", fix="leave torch_dtype out")
    return named[0] if named else "auto"


def enabled(section: Any) -> bool:
    """Say whether a feature's section switches it on: present, and not `enabled: false`."""
    if section is None or section is False:
        return False
    switch = section.get("enabled", True) if isinstance(section, dict) else getattr(section, "enabled", True)
    return switch is not False


def _dtype(value: Any) -> torch.dtype | str:
    if isinstance(value, torch.dtype) or value == "auto":
        return value  # type: ignore[no-any-return]  # narrowed by the test
    short = {"bf16": "bfloat16", "fp16": "float16", "half": "float16", "fp32": "float32", "float": "float32", "fp64": "float64"}
    name = str(value).removeprefix("torch.")
    found = getattr(torch, short.get(name, name), None)
    if not isinstance(found, torch.dtype):
        raise ModelError(
            "torch_dtype is not a number type", found=repr(value), expected="auto, float32, bfloat16 or float16", fix="correct torch_dtype"
        )
    return found
