"""GPT-2: learned positions, layer norms, weights stored as [in, out]."""

from __future__ import annotations

from typing import Any

from automodel.archs.base import Architecture
from automodel.archs.common import TINY_GPT, attention, buffers_of_attention, decoder, layer_norm
from automodel.archs.config import Config
from automodel.spec import AttentionSpec, DecoderSpec, MLPSpec, Names

NAMES = Names(
    base="transformer",
    embed="transformer.wte",
    positions="transformer.wpe",
    layers="transformer.h",
    norm="transformer.ln_f",
    attention="attn",
    pre_attention="ln_1",
    pre_mlp="ln_2",
    qkv="c_attn",
    o="c_proj",
    up="c_fc",
    down="c_proj",
)


def gpt2_like(config: Config, parts: AttentionSpec | tuple[AttentionSpec, ...], activation: str, **changes: Any) -> DecoderSpec:
    """Return a decoder with learned positions, a plain MLP with biases and a tied head."""
    config.refuse("add_cross_attention", "the native decoder has no encoder to look at")
    dropout = float(config.get("resid_pdrop", 0.1))
    width = int(config.get("n_inner", 4 * config.hidden_size))
    return decoder(
        config,
        attention=parts,
        mlp=MLPSpec(kind="plain", width=width, activation=config.activation("activation_function", activation), up_bias=True, down_bias=True),
        norm=layer_norm(config, "layer_norm_epsilon"),
        layer={"dropout": dropout},
        tied=True,
        **{
            "names": NAMES,
            "positions": int(config.max_position_embeddings),
            "embed_dropout": float(config.get("embd_pdrop", 0.1)),
            "padding_idx": None,
            **changes,
        },
    )


def spec(config: Config) -> DecoderSpec:
    """Return the decoder of a GPT2Config; `scale_attn_by_inverse_layer_idx` divides the scores of layer i by i + 1."""
    config.refuse("reorder_and_upcast_attn", "scores in float32 with the scale inside the product are not native")
    scale = config.width_of_head**-0.5 if config.get("scale_attn_weights", True) else 1.0
    by_layer = bool(config.get("scale_attn_by_inverse_layer_idx", False))
    dropout = float(config.get("attn_pdrop", 0.1))
    parts = (
        attention(config, qkv="concat", qkv_bias=True, out_bias=True, rope=None, scale=scale / (index + 1 if by_layer else 1), dropout=dropout)
        for index in range(config.layers)
    )
    return gpt2_like(config, tuple(parts), "gelu_new", transposed=True)


ARCHITECTURES = (
    Architecture(
        name="GPT2LMHeadModel",
        spec=spec,
        model_type="gpt2",
        tiny=TINY_GPT,
        variants={
            "by_layer": {"scale_attn_by_inverse_layer_idx": True},
            "unscaled": {"scale_attn_weights": False},
            "inner": {"n_inner": 96, "activation_function": "relu"},
            "untied": {"tie_word_embeddings": False},
        },
        rules=lambda _: buffers_of_attention("*.attn.bias", "*.attn.masked_bias"),
    ),
)
