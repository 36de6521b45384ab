"""Which number types a job computes with, and the sentence that says why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from automodel.recipe.schema import AutocastSection


@dataclass(frozen=True)
class Precision:
    """Number type of the weights, of autocast matrix products (None: no autocast), and the reason."""

    weights: torch.dtype
    autocast: torch.dtype | None
    reason: str

    def context(self, device: torch.device) -> torch.autocast:
        """Return the autocast context of one forward pass."""
        return torch.autocast(device.type, dtype=self.autocast or torch.bfloat16, enabled=self.autocast is not None)


def fast_bfloat16(device: torch.device) -> tuple[bool, str]:
    """Return whether the device multiplies bfloat16 in hardware, and the evidence."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(), f"GPU {torch.cuda.get_device_name(device)}"
    if device.type != "cpu":
        return False, f"{device.type} was not examined"
    flags = _cpu_flags()
    hits = sorted(flags & {"amx_bf16", "avx512_bf16", "bf16", "svebf16"})
    return bool(hits), f"CPU has {', '.join(hits)}" if hits else "CPU has no bfloat16 instructions"


def _cpu_flags() -> set[str]:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            rows = [row for row in file if row.lower().startswith(("flags", "features"))]
    except OSError:
        return set()
    return set(rows[0].split(":", 1)[1].split()) if rows else set()


def choose_precision(asked: str, autocast: AutocastSection, *, device: torch.device, lora: bool) -> Precision:
    """Return the number types for a recipe: what is asked for is taken, `auto` picks what the hardware is fast with.

    Full fine-tuning keeps float32 weights, because small updates vanish in bfloat16; frozen weights below LoRA may be bfloat16.
    """
    fast, evidence = fast_bfloat16(device)
    if asked == "auto":
        weights = torch.bfloat16 if fast and lora else torch.float32
        why = f"{evidence}: {'bfloat16' if weights == torch.bfloat16 else 'float32'} weights"
    else:
        weights, why = getattr(torch, asked), f"model.torch_dtype asks for {asked} weights"
    if autocast.enabled is None:
        wanted = fast and weights == torch.float32 and asked == "auto"
        why += ", bfloat16 autocast" if wanted else ", no autocast"
    else:
        wanted = autocast.enabled
        why += f", autocast {autocast.dtype if wanted else 'off'} by the recipe"
    product = torch.bfloat16 if autocast.dtype == "auto" else getattr(torch, autocast.dtype)
    return Precision(weights, product if wanted else None, why)
