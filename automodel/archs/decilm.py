"""DeciLM: Nemotron-NAS (Llama-3_3-Nemotron-Super-49B), a Llama whose layers were searched one by one; and the older DeciLM-7B."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from automodel.archs.base import Architecture, ConfigFile
from automodel.archs.common import TINY, attention, rms
from automodel.archs.config import Config
from automodel.archs.own import LLAMA_FIELDS, Filled, rotary_buffers
from automodel.spec import AttentionSpec, DecoderSpec, HeadSpec, LayerSpec, MLPSpec, Unsupported, round_up

COMMON: Mapping[str, Any] = {**LLAMA_FIELDS, "attention_bias": False, "mlp_bias": False, "pad_token_id": None}
FILE = ConfigFile(model_type="nemotron-nas", fields={**COMMON, "intermediate_size": None, "block_configs": None})
OLD_FILE = ConfigFile(model_type="deci", fields={**COMMON, "num_key_value_heads_per_layer": None})


def spec(config: Config) -> DecoderSpec:
    """Return the decoder of a Nemotron-NAS config, or of an older DeciLM one, which has no blocks."""
    if config.get("block_configs") is None:
        return old_spec(config)
    config = Filled(config, FILE)
    blocks = [(Config(block["attention"]), Config(block["ffn"])) for block in config.block_configs]
    return _decoder(config, [(_attention(config, one), _mlp(config, two)) for one, two in blocks])


def old_spec(config: Config) -> DecoderSpec:
    """Return the decoder of a DeciLM-7B config: Llama with its own number of key-value heads in each layer."""
    config = Filled(config, OLD_FILE)
    mlp = _gated(config, config.intermediate_size)
    counts = config.get("num_key_value_heads_per_layer", (config.kv_heads,) * config.layers)
    return _decoder(config, [(attention(config, kv_heads=count), mlp) for count in counts])


def _decoder(config: Config, parts: list[tuple[AttentionSpec | None, MLPSpec | None]]) -> DecoderSpec:
    if len(parts) != config.layers:
        raise Unsupported(f"the config describes {len(parts)} layers and says {config.layers}")
    norm = rms(config)
    layers = tuple(LayerSpec(attention=one, mlp=two, pre_attention=norm, pre_mlp=norm) for one, two in parts)
    return DecoderSpec(
        vocab=config.vocab_size,
        hidden=config.hidden_size,
        layers=layers,
        final_norm=norm,
        head=HeadSpec(tied=bool(config.tie_word_embeddings)),
        padding_idx=config.padding_idx,
        init_std=config.initializer_range,
    )


def _gated(config: Config, width: int) -> MLPSpec:
    bias = bool(config.mlp_bias)
    return MLPSpec(width=width, activation=config.activation(), up_bias=bias, down_bias=bias)


def _attention(config: Config, block: Config) -> AttentionSpec | None:
    if block.get("no_op"):
        return None
    block.refuse("sparsify", "sparsified layers are not computed")
    if block.get("replace_with_linear"):
        return AttentionSpec(kind="linear", heads=config.heads, kv_heads=config.heads, head_dim=config.width_of_head)
    if config.heads % block.n_heads_in_group:
        raise Unsupported(f"{config.heads} heads do not divide into groups of {block.n_heads_in_group}")
    plain = attention(config, kv_heads=config.heads // block.n_heads_in_group, window=block.get("window_length"))
    sinks = block.get("num_sink_tokens")
    if plain.window is None or sinks is None:
        return plain
    if not block.get("unshifted_sink") or block.get("use_prefill_window_in_sink_attention"):
        raise Unsupported("attention sinks whose positions shift with the window (unshifted_sink false)")
    return replace(plain, sink_tokens=sinks)


def _mlp(config: Config, block: Config) -> MLPSpec | None:
    if block.get("no_op"):
        return None
    block.refuse("sparsify", "sparsified layers are not computed")
    if block.get("replace_with_linear"):
        return MLPSpec(kind="linear", width=config.hidden_size)
    return _gated(config, int(block.get("intermediate_size") or _width(config.hidden_size, block.ffn_mult)))


def _width(hidden: int, multiplier: float) -> int:
    """Return the width of a feed-forward part: 2/3 of the multiple (there are two matrices before it), up to a multiple of 256."""
    return round_up(int(2 * round(multiplier, 6) * hidden / 3), 256)


def _block(group: int | None, mult: float | None, **attention: Any) -> dict[str, Any]:
    return {"attention": {"no_op": group is None, "n_heads_in_group": group, **attention}, "ffn": {"no_op": mult is None, "ffn_mult": mult}}


LINEAR = {"attention": {"no_op": False, "replace_with_linear": True}, "ffn": {"no_op": False, "replace_with_linear": True}}
OWN_TINY = {**TINY, "intermediate_size": None, "num_key_value_heads": None, "num_hidden_layers": 4, "pad_token_id": None}
ARCHITECTURES = (
    Architecture(
        name="DeciLMForCausalLM",
        model_type="nemotron-nas",
        config=FILE,
        spec=spec,
        rules=rotary_buffers,
        tiny={**OWN_TINY, "block_configs": [_block(2, 2.625), _block(None, 1.3125), _block(4, None), _block(1, 7.0)]},
        variants={
            "linear_and_empty": {"block_configs": [_block(2, 1.0), LINEAR, _block(None, None), _block(2, 1.0)]},
            "windows": {"block_configs": [_block(2, 1.0, window_length=4), _block(2, 1.0)] * 2},
            "sinks": {"block_configs": [_block(2, 1.0, window_length=4, num_sink_tokens=1, unshifted_sink=True), _block(2, 1.0)] * 2},
            "biased": {"attention_bias": True, "mlp_bias": True},
            "widths": {"block_configs": [{"attention": {"n_heads_in_group": 2}, "ffn": {"intermediate_size": 96 + 16 * i}} for i in range(4)]},
        },
        goldens=("decilm",),
    ),
    Architecture(
        name="DeciForCausalLM",
        also=("DeciLMForCausalLM",),
        model_type="deci",
        config=OLD_FILE,
        spec=spec,
        rules=rotary_buffers,
        tiny={**TINY, "num_key_value_heads": None, "pad_token_id": None, "num_key_value_heads_per_layer": [4, 2]},
    ),
)
