"""GLM 4 (9B, the release in transformers' form): interleaved RoPE on half a head, gate | up in one matrix."""

from __future__ import annotations

from automodel.archs.base import Architecture
from automodel.archs.common import TINY, attention, gated, llama_like, rms
from automodel.archs.config import Config
from automodel.spec import DecoderSpec, Names


def glm_like(config: Config, *, sandwich: bool) -> DecoderSpec:
    """Return the decoder of a GLM; with `sandwich` the outputs of both parts are normed too."""
    width = int(config.get("head_dim", 128))
    part = attention(
        config,
        head_dim=width,
        qkv_bias=bool(config.get("attention_bias", True)),
        out_bias=False,
        rope=config.rope(dim=int(width * config.rotary_share(0.5)), style="interleaved"),
    )
    norm = rms(config, 1.5625e-07)
    layer = {"post_attention": norm, "post_mlp": norm} if sandwich else {}
    return llama_like(config, attention=part, mlp=gated(config, gate_up="concat"), norm=norm, layer=layer, names=Names(gate_up="gate_up_proj"))


def spec(config: Config) -> DecoderSpec:
    """Return the decoder of a GlmConfig."""
    return glm_like(config, sandwich=False)


ARCHITECTURES = (
    Architecture(
        name="GlmForCausalLM",
        spec=spec,
        model_type="glm",
        tiny={**TINY, "head_dim": 24},
        variants={
            "no_bias": {"attention_bias": False},
            "whole_rope": {"partial_rotary_factor": 1.0},
            "tied": {"tie_word_embeddings": True},
        },
    ),
)
