"""Command R: parallel parts, layer norms without bias, interleaved RoPE, scaled logits, a tied head."""

from __future__ import annotations

from typing import Any

from automodel.archs.base import Architecture
from automodel.archs.common import LINEAR, TINY, attention, layer_norm, llama_like
from automodel.archs.config import Config
from automodel.spec import AttentionSpec, DecoderSpec, NormSpec


def cohere_norm(config: Config) -> NormSpec:
    """Return Cohere's norm: mean and variance removed in float32, a weight, no bias."""
    return layer_norm(config, bias=False, float_weight=True)


def cohere_like(config: Config, parts: AttentionSpec | tuple[AttentionSpec, ...]) -> DecoderSpec:
    """Return a decoder with one norm for both parts of a layer and logits times `logit_scale`."""
    return llama_like(
        config,
        attention=parts,
        norm=cohere_norm(config),
        layer={"block": "parallel", "pre_mlp": None},
        head={"multiplier": float(config.get("logit_scale", 0.0625))},
        tied=True,
    )


def spec(config: Config) -> DecoderSpec:
    """Return the decoder of a CohereConfig; with `use_qk_norm` every head has a norm of its own."""
    rope = config.rope(dim=config.width_of_head, style="interleaved", default_theta=500_000.0)
    norms: dict[str, Any] = {"qk_norm": "heads", "qk_norm_spec": cohere_norm(config)} if config.get("use_qk_norm", False) else {}
    return cohere_like(config, attention(config, rope=rope, **norms))


ARCHITECTURES = (
    Architecture(
        name="CohereForCausalLM",
        spec=spec,
        model_type="cohere",
        tiny={**TINY, "rope_theta": 10_000.0},
        variants={
            "qk_norm": {"use_qk_norm": True},
            "logit_scale": {"logit_scale": 0.8},
            "attention_bias": {"attention_bias": True},
            "untied": {"tie_word_embeddings": False},
            "linear": LINEAR,
        },
    ),
)
