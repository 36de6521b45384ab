"""Baichuan and Baichuan 2, 7B (rotary) and 13B (ALiBi); version 2 has a head of L2-normalised rows. Four models share one model_type."""

from __future__ import annotations

from automodel.archs.base import Architecture, ConfigFile
from automodel.archs.common import TINY, attention, llama_like
from automodel.archs.config import Config
from automodel.archs.own import LLAMA_FIELDS, Filled, rotary_buffers
from automodel.spec import AlibiSpec, DecoderSpec, Names

WIDTH_7B, LENGTH_7B, VOCAB_2 = 4096, 4096, 125_696
NAMES = Names(qkv="W_pack")
# Two fields tell the models apart, so both are absent by default: max_position_embeddings (7B has it) and z_loss_weight (version 2 has it).
FILE = ConfigFile(
    model_type="baichuan",
    fields={
        **LLAMA_FIELDS,
        "vocab_size": 64000,
        "max_position_embeddings": None,
        "model_max_length": None,
        "z_loss_weight": None,
    },
)


def is_rotary(config: Config) -> bool:
    """Say whether it is a 7B: by its width, by the older class name, or by a length that ALiBi has no use for."""
    named = "BaiChuanForCausalLM" in config.get("architectures", ())
    return named or config.hidden_size == WIDTH_7B or config.get("max_position_embeddings") is not None


def is_second(config: Config) -> bool:
    """Say whether it is a Baichuan 2: by its vocabulary (the first has 64,000 tokens), or by the weight of its extra loss."""
    return config.vocab_size >= VOCAB_2 or config.get("z_loss_weight") is not None


def settled(config: Config) -> dict[str, float]:
    """Return the two fields that tell the models apart, where a file lacks them; its vocabulary may be resized."""
    second = {"z_loss_weight": config.get("z_loss_weight", 0.0)} if is_second(config) else {}
    length = config.get("max_position_embeddings", config.get("model_max_length", LENGTH_7B))
    return {**second, "max_position_embeddings": length} if is_rotary(config) else second


def spec(config: Config) -> DecoderSpec:
    """Return the decoder of a Baichuan config."""
    config = Filled(config, FILE)
    positions = {} if is_rotary(config) else {"rope": None, "alibi": AlibiSpec()}
    heads = attention(config, qkv="concat", kv_heads=config.heads, **positions)
    head = {"normalized": is_second(config), "z_loss": float(config.get("z_loss_weight", 0.0))}
    return llama_like(config, attention=heads, head=head, names=NAMES)


ARCHITECTURES = (
    Architecture(
        name="BaichuanForCausalLM",
        also=("BaiChuanForCausalLM",),
        model_type="baichuan",
        config=FILE,
        spec=spec,
        rules=rotary_buffers,
        settled=settled,
        tiny={**TINY, "num_key_value_heads": 4},
        variants={
            "13b": {"max_position_embeddings": None, "model_max_length": 64},
            "13b_heads5": {
                "max_position_embeddings": None,
                "model_max_length": 64,
                "hidden_size": 80,
                "num_attention_heads": 5,
                "num_key_value_heads": 5,
            },
            "2_7b": {"z_loss_weight": 0.1},
            "2_13b": {"max_position_embeddings": None, "model_max_length": 64, "z_loss_weight": 0},
        },
        goldens=("baichuan_7b", "baichuan_13b", "baichuan_13b_heads5", "baichuan2_7b", "baichuan2_13b"),
    ),
)
