"""Command R7B and A: Cohere with windows, and RoPE on the windowed layers alone."""

from __future__ import annotations

from automodel.archs.base import Architecture
from automodel.archs.cohere import cohere_like
from automodel.archs.common import TINY, attention
from automodel.archs.config import Config
from automodel.archs.gemma2 import windows
from automodel.spec import DecoderSpec


def spec(config: Config) -> DecoderSpec:
    """Return the decoder of a Cohere2Config; a full layer sees no positions."""
    width = config.hidden_size // config.heads
    rope = config.rope(dim=width, style="interleaved")
    sliding = windows(config, int(config.get("sliding_window_pattern", 4)))
    parts = (attention(config, head_dim=width, rope=None if window is None else rope, window=window) for window in sliding)
    return cohere_like(config, tuple(parts))


ARCHITECTURES = (
    Architecture(
        name="Cohere2ForCausalLM",
        spec=spec,
        model_type="cohere2",
        tiny={**TINY, "sliding_window": 5, "layer_types": ["sliding_attention", "full_attention"]},
        variants={
            "pattern": {"layer_types": None, "sliding_window_pattern": 3, "num_hidden_layers": 3},
            "attention_bias": {"attention_bias": True},
            "untied": {"tie_word_embeddings": False},
        },
    ),
)
