"""Which attention runs: what was asked, then one step down at a time, each with its reason."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch

from automodel.auto import compat
from automodel.errors import ModelError
from automodel.kernels import KernelRow
from automodel.kernels.choose import transformer_engine_reason

STEP_DOWN = {
    "flash_attention_4": "flash_attention_3",
    "flash_attention_3": "flash_attention_2",
    "flash_attention_2": "sdpa",
    "flex_attention": "sdpa",
    "te": "sdpa",
    "ffpa": "sdpa",
    "magi": "sdpa",
    "sdpa": "eager",
}
FROM_BACKEND = {"sdpa": "sdpa", "eager": "eager", "flex": "flex_attention", "te": "te", "cudnn": "sdpa"}
# Names of NeMo AutoModel that transformers does not have.
EXTRA = ("te", "ffpa", "magi")
HALF = (torch.float16, torch.bfloat16)
PACKAGES = {"flash_attention_2": "flash_attn", "flash_attention_3": "flash_attn_interface", "flash_attention_4": "flash_attn.cute"}


def check_name(name: str) -> None:
    """Raise ModelError for a name that is no attention implementation; kernels of the hub (with a slash) are left to transformers."""
    valid = (*compat.attention_names(), *EXTRA)
    if name in valid or name in STEP_DOWN or "/" in name or "|" in name:
        return
    raise ModelError("attn_implementation is not known", found=name, expected=", ".join(valid), fix="take one of those, or leave it out")


def refusal(name: str, *, config: Any, device: torch.device, dtype: torch.dtype | None) -> str | None:
    """Say why an attention implementation cannot run, as far as it can be known before the model is built."""
    if name == "te":
        return transformer_engine_reason(device)
    if name in ("ffpa", "magi"):
        return "not built for transformers' classes"
    if name == "sdpa" and compat.ignores_softcap(config):
        return "SDPA cannot compute this model's soft cap on attention scores"
    if name == "flex_attention" and device.type != "cuda":
        return f"flex_attention has no backward pass on {device.type}"
    if name not in PACKAGES:
        return None
    if device.type != "cuda":
        return f"needs a CUDA device, the model is on {device.type}"
    if find_spec(PACKAGES[name].split(".")[0]) is None:
        return f"{PACKAGES[name]} is not installed"
    if dtype is not None and dtype not in HALF:
        return f"needs float16 or bfloat16 weights, these are {str(dtype).removeprefix('torch.')}"
    if name == "flash_attention_3" and torch.cuda.is_available() and torch.cuda.get_device_capability(device)[0] != 9:
        return f"needs a Hopper GPU, this one is sm{torch.cuda.get_device_capability(device)[0]}x"
    return None


def default(*, config: Any, device: torch.device, dtype: torch.dtype | None) -> str:
    """Return what is used when nothing was asked: what the config says, else FlashAttention 2 where it can run, else SDPA."""
    own = getattr(config, "_attn_implementation_internal", None)
    if isinstance(own, str):
        return own
    # A default that cannot run is no fallback, so it is passed over without an event; the kernel table holds its reason.
    for name in ("flash_attention_2", "sdpa"):
        if refusal(name, config=config, device=device, dtype=dtype) is None:
            return name
    return "eager"


def descend(
    name: str, build: Callable[[str], Any], *, config: Any, device: torch.device, dtype: torch.dtype | None, events: list[str], asked: bool
) -> tuple[Any, str, dict[str, str]]:
    """Build with this attention or the first below it that works; return the model, the name and the reasons of those above.

    Args:
        name: where to start.
        build: makes the model with that attention.
        config, device, dtype: what `refusal` looks at.
        events: gets one sentence for each step down.
        asked: whether the caller named it; a default that steps down is recorded too, but worded so.
    """
    refused: dict[str, str] = {}
    while True:
        reason = refusal(name, config=config, device=device, dtype=dtype)
        if reason is None:
            standing = torch.get_default_dtype()
            try:
                return build(name), name, refused
            except (ValueError, ImportError) as error:
                if not _is_about_attention(error) or name not in STEP_DOWN:
                    raise
                reason = _short(str(error))
            finally:
                # transformers 4 leaves its own default behind when a model's __init__ raises.
                torch.set_default_dtype(standing)
        if name not in STEP_DOWN:
            raise ModelError("no attention implementation works", found=name, expected="one that this model supports", fix=reason)
        lower = STEP_DOWN[name]
        refused[name] = reason
        events.append(f"attention: {lower} in place of {name}{'' if asked else ' (default)'}: {reason}")
        name = lower


def row(name: str, refused: dict[str, str], *, config: Any, device: torch.device, dtype: torch.dtype | None) -> KernelRow:
    """Describe the choice, with the reason for every other implementation."""
    others = {}
    for other in ("flash_attention_3", "flash_attention_2", "flex_attention", "sdpa", "eager", "te"):
        if other == name:
            continue
        reason = refused.get(other) or refusal(other, config=config, device=device, dtype=dtype)
        others[other] = reason or ("the plain reference, slower" if other == "eager" else f"not asked for; {name} was")
    return KernelRow(op="attention", chosen=name, others=others)


def _is_about_attention(error: Exception) -> bool:
    text = str(error).lower()
    return "attention" in text or "attn" in text or "flash" in text


def _short(text: str) -> str:
    line = text.split(". ")[0].split(os.linesep)[0].strip()
    return line if len(line) < 200 else line[:197] + "..."
