"""Qwen 3 (dense): Llama with norms on q and k, and a head width of its own."""

from __future__ import annotations

from automodel.archs.base import Architecture
from automodel.archs.common import TINY, YARN, attention, by_window, llama_like, rms
from automodel.archs.config import Config
from automodel.archs.qwen2 import windows
from automodel.spec import DecoderSpec


def spec(config: Config) -> DecoderSpec:
    """Return the decoder of a Qwen3Config."""
    width = int(config.get("head_dim", 128))
    one = attention(config, head_dim=width, rope=config.rope(dim=width), qk_norm="head", qk_norm_spec=rms(config))
    return llama_like(config, attention=by_window(one, windows(config)))


ARCHITECTURES = (
    Architecture(
        name="Qwen3ForCausalLM",
        spec=spec,
        model_type="qwen3",
        tiny={**TINY, "head_dim": 24},
        variants={
            "window": {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
            "attention_bias": {"attention_bias": True},
            "tied": {"tie_word_embeddings": True},
            "yarn": YARN,
        },
    ),
)
