"""OLMo 2: norms after the parts, and over all heads of q and of k."""

from __future__ import annotations

from automodel.archs.base import Architecture
from automodel.archs.common import OLD_LINEAR, TINY, attention, llama_like, rms
from automodel.archs.config import Config
from automodel.spec import DecoderSpec, Names


def spec(config: Config) -> DecoderSpec:
    """Return the decoder of an Olmo2Config."""
    norm = rms(config, 1e-5, float_weight=True)
    return llama_like(
        config,
        attention=attention(config, qk_norm="all", qk_norm_spec=norm),
        norm=norm,
        layer={"pre_attention": None, "pre_mlp": None, "post_attention": norm, "post_mlp": norm},
        names=Names(post_attention="post_attention_layernorm", post_mlp="post_feedforward_layernorm"),
    )


ARCHITECTURES = (
    Architecture(
        name="Olmo2ForCausalLM",
        also=("OLMo2ForCausalLM",),
        spec=spec,
        model_type="olmo2",
        tiny=TINY,
        variants={
            "attention_bias": {"attention_bias": True},
            "tied": {"tie_word_embeddings": True},
            "no_groups": {"num_key_value_heads": 4},
            "linear": OLD_LINEAR,
        },
    ),
)
