"""Phi 3, 3.5 and 4: Llama with q | k | v and gate | up in one matrix each, and RoPE stretched by LongRoPE."""

from __future__ import annotations

from automodel.archs.base import Architecture
from automodel.archs.common import TINY, attention, gated, llama_like, rms
from automodel.archs.config import Config
from automodel.spec import DecoderSpec, Names


def spec(config: Config) -> DecoderSpec:
    """Return the decoder of a Phi3Config; like transformers, it leaves `embd_pdrop` and `attention_bias` out of account."""
    part = attention(config, qkv="concat", qkv_bias=False, out_bias=False, rope=config.rope(), window=config.get("sliding_window"))
    return llama_like(
        config,
        attention=part,
        mlp=gated(config, gate_up="concat"),
        norm=rms(config, 1e-5),
        layer={"dropout": float(config.get("resid_pdrop", 0.0))},
        names=Names(qkv="qkv_proj", gate_up="gate_up_proj"),
    )


def _longrope(frequencies: int, longest: int) -> dict[str, object]:
    short, long = [1.0 + 0.1 * index for index in range(frequencies)], [2.0 + index for index in range(frequencies)]
    section = {"type": "longrope", "short_factor": short, "long_factor": long}
    return {"rope_scaling": section, "original_max_position_embeddings": 16, "max_position_embeddings": longest}


ARCHITECTURES = (
    Architecture(
        name="Phi3ForCausalLM",
        spec=spec,
        model_type="phi3",
        tiny=TINY,
        variants={
            "window": {"sliding_window": 5},
            "partial": {"partial_rotary_factor": 0.5},
            "longrope": _longrope(8, 64),
            "longrope_partial": {**_longrope(6, 64), "partial_rotary_factor": 0.75},
            "tied": {"tie_word_embeddings": True},
        },
    ),
)
