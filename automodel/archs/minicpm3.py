"""MiniCPM 3 4B: multi-head latent attention, and three multipliers, on embeddings, parts and the states before the head."""

from __future__ import annotations

import math

from automodel.archs.base import Architecture, ConfigFile
from automodel.archs.common import TINY, attention, gated, llama_like, rms
from automodel.archs.config import Config
from automodel.spec import DecoderSpec, MLASpec, NormSpec

FIELDS = {
    "vocab_size": 73448,
    "hidden_size": 2560,
    "intermediate_size": 6400,
    "num_hidden_layers": 62,
    "num_attention_heads": 40,
    "num_key_value_heads": 40,
    "hidden_act": "silu",
    "max_position_embeddings": 32768,
    "initializer_range": 0.1,
    "rms_norm_eps": 1e-5,
    "use_cache": True,
    "pad_token_id": None,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": True,
    "rope_theta": 10_000.0,
    "rope_scaling": None,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "mlp_bias": False,
    "kv_lora_rank": 256,
    "q_lora_rank": 768,
    "qk_nope_head_dim": 64,
    "qk_rope_head_dim": 32,
    "v_head_dim": None,
    "scale_emb": 12,
    "scale_depth": 1.4,
    "dim_model_base": 256,
}


def _scale(config: Config, width: int) -> float:
    section = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
    stretched = (section.get("rope_type") or section.get("type") or "default") != "default"
    all_dim, factor = section.get("mscale_all_dim") or 0.0, section.get("factor") or 1.0
    more = 0.1 * all_dim * math.log(factor) + 1.0 if stretched and all_dim and factor > 1 else 1.0
    return float(width**-0.5 * more * more)


def spec(config: Config) -> DecoderSpec:
    """Return the decoder of a MiniCPM3Config; the norms of the latents keep their own epsilon, 1e-6."""
    nope, rope = int(config.get("qk_nope_head_dim", 64)), int(config.get("qk_rope_head_dim", 32))
    value = int(config.get("v_head_dim", config.hidden_size // config.heads))
    mla = MLASpec(
        kv_rank=int(config.get("kv_lora_rank", 256)),
        q_rank=config.stated("q_lora_rank", 768),
        nope_dim=nope,
        rope_dim=rope,
        value_dim=value,
        norm=NormSpec(eps=1e-6),
    )
    part = attention(
        config, kind="mla", kv_heads=config.heads, head_dim=nope + rope, rope=config.rope(dim=rope), scale=_scale(config, nope + rope), mla=mla
    )
    bias = bool(config.get("mlp_bias", False))
    depth, base = config.stated("scale_depth", 1.4), config.stated("dim_model_base", 256)
    return llama_like(
        config,
        attention=part,
        mlp=gated(config, up_bias=bias, down_bias=bias),
        norm=rms(config, 1e-5),
        init_std=0.1,
        layer={"multiplier": 1.0 if depth is None else float(depth) / math.sqrt(config.layers)},
        head={"divide_hidden": 1.0 if base is None else config.hidden_size / float(base)},
        embed_multiplier=float(config.get("scale_emb", 12)),
        embed_multiplier_rounded=True,
        tied=True,
    )


LATENT = {"num_key_value_heads": 4, "kv_lora_rank": 24, "q_lora_rank": 40, "qk_nope_head_dim": 12, "qk_rope_head_dim": 8}
LONGROPE = {"type": "longrope", "short_factor": [1.0, 1.1, 1.2, 1.3], "long_factor": [2.0, 3.0, 4.0, 5.0], "original_max_position_embeddings": 16}
ARCHITECTURES = (
    Architecture(
        name="MiniCPM3ForCausalLM",
        spec=spec,
        model_type="minicpm3",
        config=ConfigFile(model_type="minicpm3", fields=FIELDS),
        tiny={**TINY, **LATENT, "dim_model_base": 32},
        variants={
            "no_q_rank": {"q_lora_rank": None},
            "attention_bias": {"attention_bias": True},
            "mlp_bias": {"mlp_bias": True},
            "value_dim": {"v_head_dim": 20},
            "untied": {"tie_word_embeddings": False},
            "longrope": {"rope_scaling": LONGROPE},
        },
        goldens=("minicpm3",),
    ),
)
