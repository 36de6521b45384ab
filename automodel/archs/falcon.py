"""Falcon: 7B (one key-value head, parallel parts), 40B and 180B (groups, two norms), and the RefinedWeb ones (ALiBi)."""

from __future__ import annotations

from typing import Any

from automodel.archs.base import Architecture
from automodel.archs.common import LINEAR, TINY, attention, buffers_of_attention, decoder, layer_norm
from automodel.archs.config import Config
from automodel.spec import AlibiSpec, AttentionSpec, DecoderSpec, MLPSpec, Names, Unsupported

COMMON: dict[str, Any] = {
    "base": "transformer",
    "embed": "transformer.word_embeddings",
    "layers": "transformer.h",
    "norm": "transformer.ln_f",
    "attention": "self_attention",
    "qkv": "query_key_value",
    "o": "dense",
    "up": "dense_h_to_4h",
    "down": "dense_4h_to_h",
}


def _attention(config: Config) -> AttentionSpec:
    grouped, one_head = bool(config.get("new_decoder_architecture", False)), bool(config.get("multi_query", True))
    kv_heads = int(config.get("num_kv_heads", config.heads)) if grouped else (1 if one_head else config.heads)
    bias, width = bool(config.get("bias", False)), config.hidden_size // config.heads
    alibi = bool(config.get("alibi", False))
    return attention(
        config,
        kv_heads=kv_heads,
        head_dim=width,
        qkv="grouped",
        qkv_bias=bias,
        out_bias=bias,
        rope=None if alibi else config.rope(dim=width),
        # The reference adds the bias before it scales, in bfloat16.
        alibi=AlibiSpec(factor=width**-0.5, bfloat16=True) if alibi else None,
        dropout=float(config.get("attention_dropout", 0.0)) if alibi else 0.0,
    )


def _layer(config: Config) -> dict[str, Any]:
    grouped, parallel = bool(config.get("new_decoder_architecture", False)), bool(config.get("parallel_attn", True))
    norms = int(config.get("num_ln_in_parallel_attn", 2 if grouped else 1))
    dropout = float(config.get("hidden_dropout", 0.0))
    if (grouped and not parallel) or (norms == 2 and not grouped):
        raise Unsupported("the norms of this mix of new_decoder_architecture, parallel_attn and num_ln_in_parallel_attn are not defined")
    if not parallel:
        if dropout != float(config.get("attention_dropout", 0.0)):
            raise Unsupported("hidden_dropout and attention_dropout of sequential parts differ")
        return {"dropout": dropout}
    return {"block": "parallel", "dropout": dropout, **({} if norms == 2 else {"pre_mlp": None})}


def spec(config: Config) -> DecoderSpec:
    """Return the decoder of a FalconConfig."""
    bias, layer = bool(config.get("bias", False)), _layer(config)
    width = int(config.get("ffn_hidden_size", 4 * config.hidden_size))
    two = layer.get("block") == "parallel" and "pre_mlp" not in layer
    names = Names(**COMMON, **({"pre_attention": "ln_attn", "pre_mlp": "ln_mlp"} if two else {}))
    return decoder(
        config,
        attention=_attention(config),
        mlp=MLPSpec(kind="plain", width=width, activation=config.activation("activation", "gelu"), up_bias=bias, down_bias=bias),
        norm=layer_norm(config, "layer_norm_epsilon"),
        layer=layer,
        names=names,
        tied=True,
        padding_idx=None,
    )


NEW = {"new_decoder_architecture": True, "num_kv_heads": 2}
ALIBI = {"alibi": True, "bias": True, "multi_query": False, "parallel_attn": False, "num_kv_heads": 4}
ARCHITECTURES = (
    Architecture(
        name="FalconForCausalLM",
        spec=spec,
        model_type="falcon",
        tiny={key: value for key, value in TINY.items() if key not in ("num_key_value_heads", "intermediate_size")},
        variants={
            "new": NEW,
            "new_one_norm": {**NEW, "num_ln_in_parallel_attn": 1},
            "alibi": ALIBI,
            "many_heads": {"multi_query": False, "bias": True},
            "alibi_uneven": {**ALIBI, "num_attention_heads": 6, "num_kv_heads": 6, "hidden_size": 48, "parallel_attn": True},
            "alibi_groups": {**NEW, "alibi": True},
            "inner": {"ffn_hidden_size": 96, "bias": True, "activation": "gelu_new"},
            "untied": {"tie_word_embeddings": False},
            "linear": LINEAR,
        },
        rules=lambda _: buffers_of_attention("*.rotary.inv_freq", "*.maybe_rotary.inv_freq"),
    ),
)
