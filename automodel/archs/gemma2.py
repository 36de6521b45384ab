"""Gemma 2: norms around both parts, windows on every other layer, soft caps on scores and logits."""

from __future__ import annotations

from automodel.archs.base import Architecture
from automodel.archs.common import TINY, attention, by_window
from automodel.archs.config import Config
from automodel.archs.gemma import gemma_like, gemma_norm
from automodel.spec import DecoderSpec, Names

NAMES = Names(post_attention="post_attention_layernorm", pre_mlp="pre_feedforward_layernorm", post_mlp="post_feedforward_layernorm")


def windows(config: Config, pattern: int) -> tuple[int | None, ...]:
    """Return each layer's window: by `layer_types`, else full attention on every `pattern`-th layer."""
    if config.get("layer_types"):
        return config.windows()
    return tuple(config.stated("sliding_window", 4096) if (index + 1) % pattern else None for index in range(config.layers))


def spec(config: Config) -> DecoderSpec:
    """Return the decoder of a Gemma2Config."""
    width, norm = int(config.get("head_dim", 256)), gemma_norm(config)
    part = attention(
        config,
        head_dim=width,
        rope=config.rope(dim=width),
        scale=float(config.get("query_pre_attn_scalar", 256)) ** -0.5,
        softcap=config.stated("attn_logit_softcapping", 50.0),
    )
    return gemma_like(
        config,
        by_window(part, windows(config, 2)),
        config.activation("hidden_activation", "gelu_pytorch_tanh"),
        layer={"post_attention": norm, "post_mlp": norm},
        head={"softcap": config.stated("final_logit_softcapping", 30.0)},
        names=NAMES,
    )


ARCHITECTURES = (
    Architecture(
        name="Gemma2ForCausalLM",
        spec=spec,
        model_type="gemma2",
        tiny={**TINY, "head_dim": 24, "query_pre_attn_scalar": 20, "sliding_window": 5, "num_hidden_layers": 3},
        variants={
            "no_caps": {"attn_logit_softcapping": None, "final_logit_softcapping": None},
            "small_caps": {"attn_logit_softcapping": 0.5, "final_logit_softcapping": 0.5},
            "layer_types": {"layer_types": ["full_attention", "sliding_attention", "sliding_attention"]},
            "untied": {"tie_word_embeddings": False},
            "attention_bias": {"attention_bias": True},
        },
    ),
)
