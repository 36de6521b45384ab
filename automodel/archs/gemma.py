"""Gemma 1, and what the later ones share with it: norms stored as the distance from 1, scaled embeddings, a tied head."""

from __future__ import annotations

from typing import Any

from automodel.archs.base import Architecture
from automodel.archs.common import LINEAR, TINY, attention, gated, llama_like, rms
from automodel.archs.config import Config
from automodel.spec import Activation, AttentionSpec, DecoderSpec, NormSpec


def gemma_norm(config: Config) -> NormSpec:
    """Return the norm of all Gemmas: (1 + weight) in float32."""
    return rms(config, offset=True, float_weight=True)


def gemma_like(config: Config, parts: AttentionSpec | tuple[AttentionSpec, ...], activation: Activation, **changes: Any) -> DecoderSpec:
    """Return a decoder with the embedding scale of Gemma, sqrt(hidden_size) in the embedding's dtype."""
    config.refuse("use_bidirectional_attention", "attention to later tokens is not native here")
    return llama_like(
        config,
        attention=parts,
        mlp=gated(config, activation=activation),
        norm=gemma_norm(config),
        tied=True,
        embed_multiplier=float(config.hidden_size**0.5),
        embed_multiplier_rounded=True,
        **changes,
    )


def spec(config: Config) -> DecoderSpec:
    """Return the decoder of a GemmaConfig; its `hidden_act` "gelu" is an old name for the tanh approximation."""
    width = int(config.get("head_dim", 256))
    activation = config.activation(default="gelu_pytorch_tanh")
    part = attention(config, head_dim=width, rope=config.rope(dim=width))
    return gemma_like(config, part, "gelu_tanh" if activation == "gelu" else activation)


ARCHITECTURES = (
    Architecture(
        name="GemmaForCausalLM",
        spec=spec,
        model_type="gemma",
        tiny={**TINY, "head_dim": 24, "hidden_act": "gelu_pytorch_tanh"},
        variants={
            "untied": {"tie_word_embeddings": False},
            "attention_bias": {"attention_bias": True},
            "multi_query": {"num_key_value_heads": 1},
            "linear": LINEAR,
        },
    ),
)
