"""MiniCPM (version 1) and MiniCPM 4, which has its class name: Llama with the three scales of muP."""

from __future__ import annotations

import math

from automodel.archs.base import Architecture, ConfigFile
from automodel.archs.common import TINY, llama_like
from automodel.archs.config import Config
from automodel.archs.own import LLAMA_FIELDS, Filled, rotary_buffers
from automodel.spec import DecoderSpec

# mup_denominator belongs to the drafting heads of MiniCPM 4; the decoder itself divides by its number of layers.
FILE = ConfigFile(
    model_type="minicpm",
    fields={
        **LLAMA_FIELDS,
        "attention_bias": False,
        "pad_token_id": None,
        "tie_word_embeddings": True,
        **dict.fromkeys(("scale_emb", "scale_depth", "dim_model_base"), 1),
        "mup_denominator": None,
    },
)


def spec(config: Config) -> DecoderSpec:
    """Return the decoder of a MiniCPM config."""
    config = Filled(config, FILE)
    config.refuse("num_experts", "experts (MiniCPM-MoE) are not computed")
    config.refuse("sparse_config", "InfLLM-v2 sparse attention is not computed")
    # The reference, when it computes in slices, forgets to divide.
    divide = config.hidden_size / config.dim_model_base if config.pretraining_tp == 1 else 1.0
    return llama_like(
        config,
        layer={"multiplier": config.scale_depth / math.sqrt(config.layers)},
        head={"divide_hidden": divide},
        embed_multiplier=float(config.scale_emb),
    )


LONG = {"rope_type": "longrope", "short_factor": [1.0 + 0.1 * i for i in range(8)], "long_factor": [1.0 + 0.5 * i for i in range(8)]}
ARCHITECTURES = (
    Architecture(
        name="MiniCPMForCausalLM",
        model_type="minicpm",
        config=FILE,
        spec=spec,
        rules=rotary_buffers,
        tiny={**TINY, "pad_token_id": None, "scale_emb": 12, "scale_depth": 1.4, "dim_model_base": 32},
        variants={
            "untied": {"tie_word_embeddings": False},
            "biased": {"attention_bias": True},
            "longrope": {"rope_scaling": {**LONG, "original_max_position_embeddings": 8}, "mup_denominator": 2},
        },
        goldens=("minicpm", "minicpm_untied"),
    ),
)
