"""Mistral 7B and its successors: Llama with a sliding window on every layer, if there is one."""

from __future__ import annotations

from automodel.archs.base import Architecture
from automodel.archs.common import TINY, YARN, attention, llama_like
from automodel.archs.config import Config
from automodel.spec import DecoderSpec


def spec(config: Config) -> DecoderSpec:
    """Return the decoder of a MistralConfig; it has no biases."""
    return llama_like(config, attention=attention(config, qkv_bias=False, out_bias=False, window=config.stated("sliding_window", 4096)))


ARCHITECTURES = (
    Architecture(
        name="MistralForCausalLM",
        spec=spec,
        model_type="mistral",
        tiny={**TINY, "sliding_window": None},
        variants={
            "window": {"sliding_window": 5},
            "head_dim": {"head_dim": 24},
            "tied": {"tie_word_embeddings": True},
            "yarn": {**YARN, "head_dim": 16},
        },
    ),
)
