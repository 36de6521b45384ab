"""Qwen 1.5, 2 and 2.5 (dense): Llama with biases on q, k and v, and a window on the upper layers if asked for."""

from __future__ import annotations

from automodel.archs.base import Architecture
from automodel.archs.common import TINY, YARN, attention, by_window, llama_like
from automodel.archs.config import Config
from automodel.spec import DecoderSpec


def windows(config: Config) -> tuple[int | None, ...]:
    """Return each layer's window: by `layer_types`, else `sliding_window` from layer `max_window_layers` on if `use_sliding_window`."""
    if config.get("layer_types"):
        return config.windows()
    window = config.get("sliding_window") if config.get("use_sliding_window", False) else None
    return tuple(window if index >= config.get("max_window_layers", 28) else None for index in range(config.layers))


def spec(config: Config) -> DecoderSpec:
    """Return the decoder of a Qwen2Config."""
    return llama_like(config, attention=by_window(attention(config, qkv_bias=True, out_bias=False), windows(config)))


ARCHITECTURES = (
    Architecture(
        name="Qwen2ForCausalLM",
        spec=spec,
        model_type="qwen2",
        tiny=TINY,
        variants={
            "window": {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
            "layer_types": {"use_sliding_window": True, "sliding_window": 5, "layer_types": ["sliding_attention", "full_attention"]},
            "tied": {"tie_word_embeddings": True},
            "yarn": YARN,
        },
    ),
)
