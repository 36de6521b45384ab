"""OLMo 1: Llama with norms that have no weights, and projections cut to a range."""

from __future__ import annotations

from automodel.archs.base import Architecture
from automodel.archs.common import OLD_LINEAR, TINY, attention, llama_like
from automodel.archs.config import Config
from automodel.spec import DecoderSpec, NormSpec


def spec(config: Config) -> DecoderSpec:
    """Return the decoder of an OlmoConfig; the epsilon of its norms is no field of the config."""
    norm = NormSpec(kind="layer", eps=1e-5, affine=False)
    return llama_like(config, attention=attention(config, clip_qkv=config.get("clip_qkv")), norm=norm)


ARCHITECTURES = (
    Architecture(
        name="OlmoForCausalLM",
        also=("OLMoForCausalLM",),
        spec=spec,
        model_type="olmo",
        tiny=TINY,
        variants={
            "clip": {"clip_qkv": 0.05},
            "attention_bias": {"attention_bias": True},
            "tied": {"tie_word_embeddings": True},
            "linear": OLD_LINEAR,
        },
    ),
)
