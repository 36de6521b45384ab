"""Phi 1, 1.5 and 2: parallel parts, partial RoPE, biases everywhere, on the head too."""

from __future__ import annotations

from automodel.archs.base import Architecture
from automodel.archs.common import TINY, attention, decoder, layer_norm
from automodel.archs.config import Config
from automodel.spec import DecoderSpec, MLPSpec, Names

NAMES = Names(norm="model.final_layernorm", o="dense", q_norm="q_layernorm", k_norm="k_layernorm", up="fc1", down="fc2")


def spec(config: Config) -> DecoderSpec:
    """Return the decoder of a PhiConfig; files of the first release say `n_embd`, `rotary_dim`, `layer_norm_epsilon`."""
    eps = "layer_norm_eps" if config.get("layer_norm_eps") else "layer_norm_epsilon"
    norm, normed = layer_norm(config, eps), bool(config.get("qk_layernorm", False))
    return decoder(
        config,
        attention=attention(
            config,
            qkv_bias=True,
            out_bias=True,
            rope=config.rope(dim=config.get("rotary_dim"), share=0.5),
            qk_norm="head" if normed else None,
            qk_norm_spec=norm if normed else None,
            dropout=float(config.get("attention_dropout", config.get("attn_pdrop", 0.0))),
        ),
        mlp=MLPSpec(
            kind="plain",
            width=int(config.get("intermediate_size", 4 * config.hidden_size)),
            activation=config.activation("hidden_act" if config.get("hidden_act") else "activation_function", "gelu_new"),
            up_bias=True,
            down_bias=True,
        ),
        norm=norm,
        layer={"block": "parallel", "pre_mlp": None, "dropout": float(config.get("resid_pdrop", 0.0))},
        head={"bias": True},
        names=NAMES,
        embed_dropout=float(config.get("embd_pdrop", 0.0)),
    )


ARCHITECTURES = (
    Architecture(
        name="PhiForCausalLM",
        spec=spec,
        model_type="phi",
        tiny=TINY,
        variants={
            "qk_norm": {"qk_layernorm": True},
            "whole_rope": {"partial_rotary_factor": 1.0},
            "tied": {"tie_word_embeddings": True},
            "no_groups": {"num_key_value_heads": 4},
        },
    ),
)
