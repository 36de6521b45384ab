"""GPT-NeoX and Pythia: q, k and v head by head in one matrix, partial RoPE, parallel parts with a norm each."""

from __future__ import annotations

from automodel.archs.base import Architecture
from automodel.archs.common import LINEAR, TINY, attention, buffers_of_attention, decoder, layer_norm
from automodel.archs.config import Config
from automodel.spec import DecoderSpec, MLPSpec, Names

NAMES = Names(
    base="gpt_neox",
    embed="gpt_neox.embed_in",
    layers="gpt_neox.layers",
    norm="gpt_neox.final_layer_norm",
    head="embed_out",
    attention="attention",
    qkv="query_key_value",
    o="dense",
    up="dense_h_to_4h",
    down="dense_4h_to_h",
)


def spec(config: Config) -> DecoderSpec:
    """Return the decoder of a GPTNeoXConfig; the head has its name on disk, `embed_out`, which release 5 calls lm_head in memory."""
    bias, dropout = bool(config.get("attention_bias", True)), float(config.get("hidden_dropout", 0.0))
    return decoder(
        config,
        attention=attention(config, kv_heads=config.heads, qkv="grouped", qkv_bias=bias, out_bias=bias, rope=config.rope(share=0.25)),
        mlp=MLPSpec(kind="plain", width=int(config.intermediate_size), activation=config.activation(default="gelu"), up_bias=True, down_bias=True),
        norm=layer_norm(config),
        layer={"block": "parallel" if config.get("use_parallel_residual", True) else "sequential", "dropout": dropout},
        names=NAMES,
        embed_dropout=dropout,
        padding_idx=None,
    )


ARCHITECTURES = (
    Architecture(
        name="GPTNeoXForCausalLM",
        spec=spec,
        model_type="gpt_neox",
        tiny={**TINY, "num_key_value_heads": 4},
        variants={
            "sequential": {"use_parallel_residual": False},
            "no_bias": {"attention_bias": False},
            "whole_rope": {"rotary_pct": 1.0},
            "theta": {"rotary_emb_base": 5000},
            "tied": {"tie_word_embeddings": True},
            "linear": LINEAR,
        },
        rules=lambda _: buffers_of_attention("*.attention.bias", "*.attention.masked_bias"),
    ),
)
