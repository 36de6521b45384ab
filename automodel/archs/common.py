"""What most families share: a decoder from one attention, one MLP and one norm, with the field names that Llama's config has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from automodel.archs.config import Config
from automodel.spec import AttentionSpec, DecoderSpec, HeadSpec, LayerSpec, MLPSpec, NormSpec, Unsupported
from automodel.weights.rules import Rule, drop

# What each tiny config starts from; `pad_token_id` because the defaults of the families lie outside a small vocabulary.
TINY: Mapping[str, Any] = {
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
TINY_GPT: Mapping[str, Any] = {
    "vocab_size": 128,
    "n_embd": 64,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
}
# Scalings of RoPE to try, each active within 64 positions.
LINEAR: Mapping[str, Any] = {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}
# The same as older releases want it for some families.
OLD_LINEAR: Mapping[str, Any] = {"rope_scaling": {"type": "linear", "factor": 2.0}}
DYNAMIC: Mapping[str, Any] = {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}, "max_position_embeddings": 16}
YARN: Mapping[str, Any] = {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}}
LLAMA3: Mapping[str, Any] = {
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 4.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    }
}


def buffers_of_attention(*patterns: str) -> tuple[Rule, ...]:
    """Return the rules of mask and frequency buffers that older files hold; a decoder computes them."""
    return tuple(drop(pattern, "a buffer of older releases that is computed") for pattern in patterns)


def rms(config: Config, default: float = 1e-6, **changes: Any) -> NormSpec:
    """Return the RMS norm of a config; `default` is the epsilon of one that is silent."""
    return NormSpec(eps=float(config.get("rms_norm_eps", default)), **changes)


def layer_norm(config: Config, name: str = "layer_norm_eps", **changes: Any) -> NormSpec:
    """Return the layer norm of a config, with a bias unless told otherwise."""
    return NormSpec(**{"kind": "layer", "eps": float(config.get(name, 1e-5)), "bias": True, **changes})


def attention(config: Config, **changes: Any) -> AttentionSpec:
    """Return grouped-query attention by the fields of Llama; `attention_bias` is for all four projections."""
    bias = bool(config.get("attention_bias", False))
    values: dict[str, Any] = {
        "heads": config.heads,
        "kv_heads": config.kv_heads,
        "head_dim": config.width_of_head,
        "qkv_bias": bias,
        "out_bias": bias,
        "dropout": float(config.get("attention_dropout", 0.0)),
    }
    if "rope" not in changes:
        values["rope"] = config.rope(dim=config.width_of_head)
    return AttentionSpec(**{**values, **changes})


def by_window(one: AttentionSpec, windows: Sequence[int | None]) -> tuple[AttentionSpec, ...]:
    """Return the attention of each layer, alike but for the window."""
    return tuple(replace(one, window=window) for window in windows)


def gated(config: Config, **changes: Any) -> MLPSpec:
    """Return a gated MLP by the fields of Llama, without biases unless told otherwise."""
    if "activation" not in changes:
        changes["activation"] = config.activation(default="silu")
    return MLPSpec(**{"width": int(config.intermediate_size), **changes})


def decoder(
    config: Config,
    *,
    attention: AttentionSpec | Sequence[AttentionSpec],
    mlp: MLPSpec,
    norm: NormSpec,
    layer: Mapping[str, Any] | None = None,
    head: Mapping[str, Any] | None = None,
    tied: bool = False,
    init_std: float = 0.02,
    **changes: Any,
) -> DecoderSpec:
    """Return a decoder of equal layers.

    Args:
        config: its fields by their common names.
        attention: of every layer, or one for each.
        mlp: of every layer.
        norm: before attention, before the MLP, and at the end.
        layer: changes to the `LayerSpec`.
        head: changes to the `HeadSpec`.
        tied: whether the head is tied in a config that is silent about it.
        init_std: `initializer_range` of a config that is silent about it.
        changes: fields of the `DecoderSpec`.
    """
    parts = (attention,) * config.layers if isinstance(attention, AttentionSpec) else tuple(attention)
    if len(parts) != config.layers:
        raise Unsupported(f"layer_types names {len(parts)} layers, num_hidden_layers says {config.layers}")
    if not config.get("is_causal", True):
        raise Unsupported("is_causal is False: attention to later tokens is not native here")
    common = {"pre_attention": norm, "pre_mlp": norm, **(layer or {})}
    values: dict[str, Any] = {
        "vocab": int(config.vocab_size),
        "hidden": int(config.hidden_size),
        "layers": tuple(LayerSpec(attention=part, mlp=mlp, **common) for part in parts),
        "final_norm": norm,
        "head": HeadSpec(**{"tied": bool(config.get("tie_word_embeddings", tied)), **(head or {})}),
        "padding_idx": config.padding_idx,
        "init_std": float(config.get("initializer_range", init_std)),
    }
    return DecoderSpec(**{**values, **changes})


def llama_like(config: Config, **changes: Any) -> DecoderSpec:
    """Return a decoder as Llama's, with what differs: the arguments of `decoder`."""
    parts = {"norm": rms(config), "attention": None, "mlp": None, **changes}
    parts["attention"] = parts["attention"] or attention(config)
    parts["mlp"] = parts["mlp"] or gated(config)
    return decoder(config, **parts)
