"""Gemma 3 (text): norms on q and k, five windowed layers with a RoPE of their own for each full one."""

from __future__ import annotations

from automodel.archs.base import Architecture
from automodel.archs.common import TINY, attention
from automodel.archs.config import Config
from automodel.archs.gemma import gemma_like, gemma_norm
from automodel.archs.gemma2 import NAMES, windows
from automodel.spec import AttentionSpec, DecoderSpec


def spec(config: Config) -> DecoderSpec:
    """Return the decoder of a Gemma3TextConfig; like transformers, it leaves `attn_logit_softcapping` out of account."""
    width, norm = int(config.get("head_dim", 256)), gemma_norm(config)
    nested = config.get("rope_parameters") or {}
    whole = config.rope(dim=width, kind="full_attention", default_theta=1_000_000.0)
    local_theta = None if nested.get("sliding_attention") else config.get("rope_local_base_freq", 10_000.0)
    local = config.rope(dim=width, kind="sliding_attention", theta=local_theta, scaled=bool(nested))

    def part(sliding: bool, window: int | None) -> AttentionSpec:
        return attention(
            config,
            head_dim=width,
            rope=local if sliding else whole,
            scale=float(config.get("query_pre_attn_scalar", 256)) ** -0.5,
            qk_norm="head",
            qk_norm_spec=norm,
            window=window,
        )

    return gemma_like(
        config,
        tuple(part(window is not None, window) for window in windows(config, int(config.get("sliding_window_pattern", 6)))),
        config.activation("hidden_activation", "gelu_pytorch_tanh"),
        layer={"post_attention": norm, "post_mlp": norm},
        head={"softcap": config.get("final_logit_softcapping")},
        names=NAMES,
    )


TYPES = {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
ARCHITECTURES = (
    Architecture(
        name="Gemma3ForCausalLM",
        spec=spec,
        model_type="gemma3_text",
        tiny={**TINY, "head_dim": 24, "query_pre_attn_scalar": 20, "sliding_window": 5, "num_hidden_layers": 3, **TYPES},
        variants={
            "pattern": {"layer_types": None, "sliding_window_pattern": 3},
            "scaled": {"rope_theta": 50_000.0, "rope_local_base_freq": 500.0, "rope_scaling": {"rope_type": "linear", "factor": 8.0}},
            "softcap": {"final_logit_softcapping": 0.5},
            "untied": {"tie_word_embeddings": False},
            "attention_bias": {"attention_bias": True},
        },
    ),
)
