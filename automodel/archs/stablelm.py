"""StableLM 3B, 2 and 2-12B: layer norms, RoPE on a quarter of a head, and in the 12B parallel parts and a norm for each head."""

from __future__ import annotations

from typing import Any

from automodel.archs.base import Architecture
from automodel.archs.common import LINEAR, TINY, attention, gated, layer_norm, llama_like
from automodel.archs.config import Config
from automodel.spec import DecoderSpec, Names
from automodel.weights.rules import Rule, stack


def spec(config: Config) -> DecoderSpec:
    """Return the decoder of a StableLmConfig; `hidden_dropout` follows the MLP alone."""
    width = config.hidden_size // config.heads
    norms: dict[str, Any] = {}
    if config.get("qk_layernorm", False):
        norms = {"qk_norm": "heads", "qk_norm_spec": layer_norm(config, bias=False)}
    return llama_like(
        config,
        attention=attention(
            config,
            head_dim=width,
            qkv_bias=bool(config.get("use_qkv_bias", False)),
            out_bias=False,
            rope=config.rope(dim=int(width * config.rotary_share(0.25))),
            **norms,
        ),
        mlp=gated(config, dropout=float(config.get("hidden_dropout", 0.0))),
        norm=layer_norm(config),
        layer={"block": "parallel", "pre_mlp": None} if config.get("use_parallel_residual", False) else None,
        names=Names(q_norm="q_layernorm", k_norm="k_layernorm"),
    )


def rules(spec: DecoderSpec) -> tuple[Rule, ...]:
    """Return the rules of the norms of q and k, which lie in one tensor for each head on disk."""
    part = spec.layers[0].attention
    if part is None or part.qk_norm is None:
        return ()
    names = (f"{spec.names.layers}.{{i}}.{spec.names.attention}.{name}" for name in (spec.names.q_norm, spec.names.k_norm))
    return tuple(stack(f"{name}.weight", f"{name}.norms.{{j}}.weight") for name in names)


ARCHITECTURES = (
    Architecture(
        name="StableLmForCausalLM",
        also=("StableLMEpochForCausalLM",),
        spec=spec,
        model_type="stablelm",
        tiny=TINY,
        variants={
            "qkv_bias": {"use_qkv_bias": True},
            "parallel": {"use_parallel_residual": True},
            "qk_norm": {"qk_layernorm": True, "use_parallel_residual": True},
            "partial": {"partial_rotary_factor": 0.5},
            "tied": {"tie_word_embeddings": True},
            "linear": LINEAR,
        },
        rules=rules,
    ),
)
