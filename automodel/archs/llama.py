"""Llama 1 to 3.3, Yi, DeepSeek LLM and all that share its class."""

from __future__ import annotations

from automodel.archs.base import Architecture
from automodel.archs.common import DYNAMIC, LINEAR, LLAMA3, TINY, YARN, attention, gated, llama_like
from automodel.archs.config import Config
from automodel.spec import DecoderSpec


def spec(config: Config) -> DecoderSpec:
    """Return the decoder of a LlamaConfig; `attention_bias` covers q, k, v and o, `mlp_bias` all of the MLP."""
    bias = bool(config.get("mlp_bias", False))
    return llama_like(config, attention=attention(config), mlp=gated(config, up_bias=bias, down_bias=bias))


ARCHITECTURES = (
    Architecture(
        name="LlamaForCausalLM",
        also=("LLaMAForCausalLM",),
        spec=spec,
        model_type="llama",
        tiny=TINY,
        variants={
            "attention_bias": {"attention_bias": True},
            "mlp_bias": {"mlp_bias": True},
            "tied": {"tie_word_embeddings": True},
            "head_dim": {"head_dim": 24},
            "no_groups": {"num_key_value_heads": 4},
            "theta": {"rope_theta": 500000.0},
            "linear": LINEAR,
            "dynamic": DYNAMIC,
            "yarn": YARN,
            "llama3": LLAMA3,
            "gelu": {"hidden_act": "gelu"},
        },
    ),
)
