"""GLM 4-0414: GLM with norms after both parts of a layer too."""

from __future__ import annotations

from automodel.archs.base import Architecture
from automodel.archs.common import TINY
from automodel.archs.config import Config
from automodel.archs.glm import glm_like
from automodel.spec import DecoderSpec


def spec(config: Config) -> DecoderSpec:
    """Return the decoder of a Glm4Config."""
    return glm_like(config, sandwich=True)


ARCHITECTURES = (
    Architecture(
        name="Glm4ForCausalLM",
        spec=spec,
        model_type="glm4",
        tiny={**TINY, "head_dim": 24},
        variants={
            "no_bias": {"attention_bias": False},
            "whole_rope": {"partial_rotary_factor": 1.0},
            "tied": {"tie_word_embeddings": True},
        },
    ),
)
