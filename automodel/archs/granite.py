"""Granite 3 (dense): Llama with four multipliers, on embeddings, parts, scores and logits."""

from __future__ import annotations

from automodel.archs.base import Architecture
from automodel.archs.common import LINEAR, TINY, attention, gated, llama_like
from automodel.archs.config import Config
from automodel.spec import DecoderSpec


def spec(config: Config) -> DecoderSpec:
    """Return the decoder of a GraniteConfig."""
    bias = bool(config.get("mlp_bias", False))
    return llama_like(
        config,
        attention=attention(config, scale=float(config.get("attention_multiplier", 1.0))),
        mlp=gated(config, up_bias=bias, down_bias=bias),
        layer={"multiplier": float(config.get("residual_multiplier", 1.0))},
        head={"multiplier": 1.0 / float(config.get("logits_scaling", 1.0))},
        embed_multiplier=float(config.get("embedding_multiplier", 1.0)),
    )


MULTIPLIERS = {"embedding_multiplier": 12.0, "residual_multiplier": 0.22, "attention_multiplier": 0.1, "logits_scaling": 8.0}
ARCHITECTURES = (
    Architecture(
        name="GraniteForCausalLM",
        spec=spec,
        model_type="granite",
        tiny={**TINY, **MULTIPLIERS},
        variants={
            "plain": dict.fromkeys(MULTIPLIERS, 1.0),
            "attention_bias": {"attention_bias": True},
            "mlp_bias": {"mlp_bias": True},
            "tied": {"tie_word_embeddings": True},
            "linear": LINEAR,
        },
    ),
)
