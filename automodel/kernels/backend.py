"""Wishes for kernels, under the names that NeMo AutoModel gave them; `None` lets the build pick."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from automodel.errors import ModelError

CHOICES: dict[str, tuple[str, ...]] = {
    "attn": ("te", "sdpa", "flex", "eager", "tilelang", "cudnn"),
    "linear": ("torch", "te", "quack"),
    "rms_norm": ("torch", "torch_fp32", "te", "quack"),
    "rope": ("torch", "quack"),
    "experts": ("torch", "te", "gmm", "torch_mm", "torch_mm_mxfp8"),
    "dispatcher": ("torch", "deepep", "hybridep", "uccl_ep", "mok"),
}
# Kept from older files; has no effect any more, also upstream.
DROPPED = ("enable_deepep",)


@dataclass(frozen=True, kw_only=True)
class BackendConfig:
    """Which implementation of each op to use; an unknown field or value is refused with the nearest known one."""

    attn: str | None = None
    linear: str | None = None
    rms_norm: str | None = None
    rope: str | None = None
    rope_fusion: bool = False
    experts: str | None = None
    dispatcher: str | None = None
    dispatcher_num_sms: int = 20
    dispatcher_share_token_dispatcher: bool = True
    dispatcher_async_dispatch: bool = False
    fake_balanced_gate: bool = False
    fake_gate_noise: float = 0.0
    enable_hf_state_dict_adapter: bool = True
    enable_fsdp_optimizations: bool = False
    te_fp8: Any = None
    gate_precision: Any = None
    compile_attn: bool = False
    cuda_graph: Any = None

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            value = getattr(self, name)
            if value is not None and value not in allowed:
                raise ModelError(
                    f"backend.{name} has an unknown value", found=repr(value), expected=", ".join(allowed), fix=_nearest(str(value), allowed)
                )

    @classmethod
    def of(cls, value: BackendConfig | Mapping[str, Any] | None) -> BackendConfig:
        """Read a mapping, None, or a BackendConfig.

        Raises:
            ModelError: a key is not a field, or a value is not one of the choices.
        """
        if isinstance(value, BackendConfig):
            return value
        given = {key: item for key, item in (value or {}).items() if key not in (*DROPPED, "_target_")}
        known = [field.name for field in fields(cls)]
        for key in given:
            if key not in known:
                raise ModelError(f"backend has no field {key}", found=key, expected=", ".join(known), fix=_nearest(key, known))
        return cls(**given)

    def asked(self) -> dict[str, str]:
        """Return the ops for which an implementation was asked."""
        return {name: getattr(self, name) for name in CHOICES if getattr(self, name) is not None}


def _nearest(name: str, known: tuple[str, ...] | list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else "take one of those, or leave it out"
