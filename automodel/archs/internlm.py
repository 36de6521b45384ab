"""InternLM (version 1): Llama with biases on the four attention projections."""

from __future__ import annotations

from automodel.archs.base import Architecture, ConfigFile
from automodel.archs.common import TINY, attention, llama_like
from automodel.archs.config import Config
from automodel.archs.own import LLAMA_FIELDS, Filled, rotary_buffers
from automodel.spec import DecoderSpec, RopeScaling, RopeSpec, Unsupported

FILE = ConfigFile(model_type="internlm", fields={**LLAMA_FIELDS, "vocab_size": 103168, "bias": True, "rotary": None})


def rope(config: Config) -> RopeSpec:
    """Return the rotary positions; the later remote code has them in a section `rotary {base, type origin|dynamic, scaling_factor}`."""
    section = Config(config.get("rotary", {}))
    kind, plain = section.get("type", "origin"), RopeSpec(dim=config.width_of_head, theta=float(section.get("base", 10000.0)))
    if kind == "origin":
        return plain
    if kind != "dynamic":
        raise Unsupported(f"rotary type {kind!r}")
    scaling = RopeScaling(kind="dynamic", factor=float(section.get("scaling_factor", 1.0)), max_positions=config.max_position_embeddings)
    return RopeSpec(dim=plain.dim, theta=plain.theta, scaling=scaling)


def spec(config: Config) -> DecoderSpec:
    """Return the decoder of an InternLM config."""
    config = Filled(config, FILE)
    bias = bool(config.get("bias"))
    heads = attention(config, kv_heads=config.heads, qkv_bias=bias, out_bias=bias, rope=rope(config))
    return llama_like(config, attention=heads)


ARCHITECTURES = (
    Architecture(
        name="InternLMForCausalLM",
        model_type="internlm",
        config=FILE,
        spec=spec,
        rules=rotary_buffers,
        tiny={**TINY, "num_key_value_heads": 4},
        variants={"unbiased": {"bias": False}, "base": {"rotary": {"base": 1000, "type": "origin"}}},
        goldens=("internlm",),
    ),
)
