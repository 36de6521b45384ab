"""SantaCoder, StarCoder and WizardCoder: GPT-2 with one key-value head, or as many as query heads."""

from __future__ import annotations

from automodel.archs.base import Architecture
from automodel.archs.common import TINY_GPT, attention, buffers_of_attention
from automodel.archs.config import Config
from automodel.archs.gpt2 import gpt2_like
from automodel.spec import DecoderSpec


def spec(config: Config) -> DecoderSpec:
    """Return the decoder of a GPTBigCodeConfig; without `multi_query` the rows of c_attn go head by head."""
    one_head = bool(config.get("multi_query", True))
    part = attention(
        config,
        kv_heads=1 if one_head else config.heads,
        qkv="concat" if one_head else "grouped",
        qkv_bias=True,
        out_bias=True,
        rope=None,
        scale=None if config.get("scale_attn_weights", True) else 1.0,
        dropout=float(config.get("attn_pdrop", 0.1)),
    )
    return gpt2_like(config, part, "gelu_pytorch_tanh")


ARCHITECTURES = (
    Architecture(
        name="GPTBigCodeForCausalLM",
        also=("GPTBigCodeLMHeadModel",),
        spec=spec,
        model_type="gpt_bigcode",
        tiny=TINY_GPT,
        variants={
            "many_heads": {"multi_query": False},
            "unscaled": {"scale_attn_weights": False},
            "inner": {"n_inner": 96},
            "untied": {"tie_word_embeddings": False},
        },
        rules=lambda _: buffers_of_attention("transformer.bias", "*.attn.bias", "*.attn.masked_bias"),
    ),
)
