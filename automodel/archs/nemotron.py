"""Nemotron 4 and Minitron: layer norms stored as the distance from 1, squared ReLU without a gate, partial RoPE."""

from __future__ import annotations

from automodel.archs.base import Architecture
from automodel.archs.common import TINY, attention, decoder, layer_norm
from automodel.archs.config import Config
from automodel.spec import DecoderSpec, MLPSpec


def spec(config: Config) -> DecoderSpec:
    """Return the decoder of a NemotronConfig."""
    bias = bool(config.get("mlp_bias", False))
    return decoder(
        config,
        attention=attention(config, rope=config.rope(share=0.5)),
        mlp=MLPSpec(kind="plain", width=int(config.intermediate_size), activation=config.activation(default="relu2"), up_bias=bias, down_bias=bias),
        norm=layer_norm(config, "norm_eps", offset=True),
        init_std=0.0134,
    )


ARCHITECTURES = (
    Architecture(
        name="NemotronForCausalLM",
        spec=spec,
        model_type="nemotron",
        tiny=TINY,
        variants={
            "attention_bias": {"attention_bias": True},
            "mlp_bias": {"mlp_bias": True},
            "head_dim": {"head_dim": 24},
            "whole_rope": {"partial_rotary_factor": 1.0},
            "tied": {"tie_word_embeddings": True},
        },
    ),
)
