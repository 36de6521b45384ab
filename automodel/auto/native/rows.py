"""The rows of the kernel table of a native decoder, read from its spec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from automodel.auto import attention
from automodel.kernels import KernelRow
from automodel.kernels.attention import supports
from automodel.kernels.choose import transformer_engine_reason
from automodel.spec import AttentionSpec, DecoderSpec

# Asked for by name, the fused kernel's own plain path is the reference that transformers calls eager.
MATH = ("math",)
OURS = "native decoders have no path to it"


def settle_attention(asked: str | None, row: KernelRow, *, config: Any, device: torch.device, dtype: torch.dtype | None, events: list[str]) -> str:
    """Return the attention of a native decoder, sdpa or eager, with an event for every step down from what was asked.

    Args:
        asked: an implementation by transformers' name, or None.
        row: what the layers can use, as `attention_row` says.
        config, device, dtype: what other implementations look at to refuse.
        events: gets one sentence for each step.
    """
    name = asked or row.chosen
    attention.check_name(name)
    while name not in (row.chosen, "eager"):
        lower = attention.STEP_DOWN.get(name, "sdpa")
        reason = row.others["sdpa"] if name == "sdpa" else _refusal(name, config=config, device=device, dtype=dtype)
        events.append(f"attention: {lower} in place of {name}: {reason}")
        name = lower
    return name


def native_rows(spec: DecoderSpec, *, device: torch.device, liger: str | None, asked: Mapping[str, str]) -> list[KernelRow]:
    """Describe norm, rope, MLP and head of a native decoder.

    Args:
        spec: the decoder.
        device: where it will run.
        liger: why Liger is not applied.
        asked: implementations asked for through BackendConfig.
    """
    norms = sorted({norm.kind for norm in _norms(spec)})
    mlps = [layer.mlp for layer in spec.layers if layer.mlp is not None]
    kinds = sorted({f"{mlp.kind} {mlp.activation}" + (", gate and up in one product" if mlp.kind == "gated" else "") for mlp in mlps})
    found = {
        "norm": ("torch", f"{' and '.join(norms)} norm of torch" if norms else "no norms"),
        "rope": ("torch", "tables made once a pass" if spec.ropes else "no rotary positions"),
        "mlp": ("torch", "; ".join(kinds) or "no feed-forward parts"),
        "head": ("torch", "logits of the rows that the caller keeps (logits_to_keep)"),
    }
    wishes = {"norm": "rms_norm", "rope": "rope", "mlp": "linear"}
    rows = []
    for op, (chosen, why) in found.items():
        others = {} if liger is None else {"liger": liger}
        if op in ("norm", "mlp"):
            others["te"] = _engine(device)
        wish = asked.get(wishes.get(op, ""))
        if wish is not None and not wish.startswith("torch"):
            others[wish] = _engine(device) if wish == "te" else OURS
        rows.append(KernelRow(op=op, chosen=chosen, why=why, others=others))
    return rows


def attention_row(spec: DecoderSpec, *, device: torch.device, config: Any, dtype: torch.dtype | None) -> KernelRow:
    """Describe the attention of a native decoder, with the reason for every other implementation."""
    layers = [layer.attention for layer in spec.layers if layer.attention is not None and layer.attention.kind != "linear"]
    reasons = [reason for layer in layers if (reason := _plain_reason(layer)) is not None]
    chosen, why = ("sdpa" if len(reasons) < len(layers) or not layers else "eager"), ""
    if reasons:
        why = reasons[0] if chosen == "eager" else f"eager in {len(reasons)} of {len(layers)} layers: {reasons[0]}"
    others: dict[str, str] = {}
    for name in ("flash_attention_3", "flash_attention_2", "flex_attention", "sdpa", "eager", "te"):
        if name == chosen:
            continue
        if name == "sdpa":
            others[name] = reasons[0]
        elif name == "eager":
            others[name] = "the plain reference, slower"
        else:
            others[name] = _refusal(name, config=config, device=device, dtype=dtype)
    return KernelRow(op="attention", chosen=chosen, why=why, others=others)


def _refusal(name: str, *, config: Any, device: torch.device, dtype: torch.dtype | None) -> str:
    return _engine(device) if name == "te" else attention.refusal(name, config=config, device=device, dtype=dtype) or OURS


def _plain_reason(layer: AttentionSpec) -> str | None:
    return supports(softcap=layer.softcap, clamp=layer.clamp, sinks=torch.empty(0) if layer.sinks else None)


def _norms(spec: DecoderSpec) -> list[Any]:
    found = [spec.embed_norm, spec.final_norm]
    for layer in spec.layers:
        found += [layer.pre_attention, layer.post_attention, layer.pre_mlp, layer.post_mlp]
    return [norm for norm in found if norm is not None]


def _engine(device: torch.device) -> str:
    reason = transformer_engine_reason(device)
    return OURS if "transformers class" in reason else reason
