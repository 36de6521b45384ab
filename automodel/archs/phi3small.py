"""Phi-3-small: block-sparse attention in every layer but each n-th, a clamped GeGLU over interleaved rows, and the scales of muP."""

from __future__ import annotations

from dataclasses import replace

from automodel.archs.base import Architecture, ConfigFile
from automodel.archs.common import TINY, decoder, layer_norm
from automodel.archs.config import Config
from automodel.archs.own import Filled, rotary_buffers
from automodel.spec import AttentionSpec, BlockSparseSpec, DecoderSpec, MLPSpec, Names, RopeSpec, Unsupported, round_up

NAMES = Names(norm="model.final_layernorm", qkv="query_key_value", o="dense", gate_up="up_proj", down="down_proj")
# Ids of the tokenizer that no text gives (tiktoken's gaps and unused specials); the reference forbids them.
DUMMIES = (100256, 100258, 100259, 100260, 100264, 100265, *range(100267, 100352))
FILE = ConfigFile(
    model_type="phi3small",
    fields={
        "vocab_size": 100352,
        "max_position_embeddings": 8192,
        "rope_embedding_base": 1e6,
        "rope_position_scale": 1.0,
        **dict.fromkeys(("rope_scaling", "ff_dim_multiplier")),
        "hidden_size": 4096,
        **dict.fromkeys(("num_hidden_layers", "num_attention_heads"), 32),
        "num_key_value_heads": 8,
        "hidden_act": "gegelu",
        "gegelu_limit": 20.0,
        **dict.fromkeys(("gegelu_pad_to_256", "mup_use_scaling", "pad_sequence_to_multiple_of_64", "use_cache", "tie_word_embeddings"), True),
        "ff_intermediate_size": 14336,
        **dict.fromkeys(("blocksparse_homo_head_pattern", "reorder_and_upcast_attn"), False),
        **dict.fromkeys(("blocksparse_block_size", "blocksparse_triton_kernel_block_size"), 64),
        "blocksparse_num_local_blocks": 16,
        "blocksparse_vert_stride": 8,
        "dense_attention_every_n_layers": 2,
        **dict.fromkeys(("embedding_dropout_prob", "ffn_dropout_prob"), 0.1),
        "attention_dropout_prob": 0.0,
        "layer_norm_epsilon": 1e-5,
        "initializer_range": 0.02,
        "mup_width_multiplier": 8.0,
        "mup_embedding_multiplier": 10.0,
        "mup_attn_multiplier": 1.0,
        **dict.fromkeys(("bos_token_id", "eos_token_id"), 100257),
    },
)


def rope(config: Config) -> RopeSpec:
    """Return the rotary positions; LongRoPE's two factors are always those of this model, which follow from the lengths where they are not given."""
    plain = replace(config.rope(theta=float(config.rope_embedding_base)), position_scale=float(config.rope_position_scale))
    scaling = plain.scaling
    if scaling is None:
        return plain
    if scaling.kind != "longrope":
        raise Unsupported(f"RoPE scaling {scaling.kind!r}; longrope (su) is computed")
    return replace(plain, scaling=replace(scaling, short_mscale=scaling.short_mscale or 0.0, long_mscale=scaling.long_mscale or 0.0))


def attention(config: Config, index: int) -> AttentionSpec:
    """Return the attention of layer `index`, dense in each n-th."""
    every = config.get("dense_attention_every_n_layers")
    sparse = BlockSparseSpec(
        block=config.blocksparse_block_size,
        local=config.blocksparse_num_local_blocks,
        stride=config.blocksparse_vert_stride,
        same_for_heads=bool(config.blocksparse_homo_head_pattern),
    )
    return AttentionSpec(
        heads=config.heads,
        kv_heads=config.kv_heads,
        head_dim=config.width_of_head,
        qkv="grouped",
        qkv_bias=True,
        out_bias=True,
        scale=config.mup_attn_multiplier / config.width_of_head if config.mup_use_scaling else None,
        rope=rope(config),
        block_sparse=None if every and (index + 1) % every == 0 else sparse,
        dropout=config.attention_dropout_prob,
    )


def width(config: Config) -> int:
    """Return the width of the feed-forward part."""
    given = config.get("ff_intermediate_size")
    if given:
        return int(given)
    found = int(config.ff_dim_multiplier * (config.hidden_size // 3) * 2)
    return round_up(found, 256) if config.gegelu_pad_to_256 else found


def spec(config: Config) -> DecoderSpec:
    """Return the decoder of a Phi-3-small config."""
    config = Filled(config, FILE)
    if config.hidden_act != "gegelu":
        raise Unsupported(f"hidden_act {config.hidden_act!r}; the reference has gegelu alone")
    biases = {"up_bias": True, "down_bias": True, "dropout": config.ffn_dropout_prob}
    mlp = MLPSpec(width=width(config), activation="gegelu", gate_up="interleaved", limit=config.get("gegelu_limit"), **biases)
    embed = config.get("mup_embedding_multiplier", 0.0)
    masked = tuple(token for token in DUMMIES if token < config.vocab_size)
    return decoder(
        config,
        attention=[attention(config, index) for index in range(config.layers)],
        mlp=mlp,
        norm=layer_norm(config, "layer_norm_epsilon"),
        head={"multiplier": 1.0 / (config.get("mup_width_multiplier") or 1.0), "masked": masked},
        names=NAMES,
        embed_multiplier=embed if embed > 0 else 1.0,
        embed_dropout=config.embedding_dropout_prob,
        padding_idx=None,
    )


LONG = {
    "type": "su",
    "short_factor": [1.0 + 0.1 * i for i in range(8)],
    "long_factor": [1.0 + 0.5 * i for i in range(8)],
    "original_max_position_embeddings": 8,
}
ARCHITECTURES = (
    Architecture(
        name="Phi3SmallForCausalLM",
        model_type="phi3small",
        config=FILE,
        spec=spec,
        rules=rotary_buffers,
        tiny={
            **TINY,
            "ff_intermediate_size": 96,
            "blocksparse_block_size": 2,
            "blocksparse_num_local_blocks": 2,
            "blocksparse_vert_stride": 4,
            "embedding_dropout_prob": 0.0,
            "ffn_dropout_prob": 0.0,
        },
        variants={
            "dense_small_limit": {"dense_attention_every_n_layers": 1, "gegelu_limit": 0.5},
            "all_sparse": {"dense_attention_every_n_layers": None},
            "same_pattern": {"blocksparse_homo_head_pattern": True},
            "longrope": {"rope_scaling": {**LONG, "short_mscale": 1.05, "long_mscale": 1.2}},
            "longrope_own_mscale": {"rope_scaling": {**LONG, "short_mscale": -1.0, "long_mscale": -1.0}},
            "multiplier_width": {"ff_intermediate_size": None, "ff_dim_multiplier": 4, "mup_use_scaling": False},
            "half_positions": {"rope_position_scale": 0.5, "tie_word_embeddings": False},
        },
        goldens=("phi3small", "phi3small_dense_smalllimit", "phi3small_longrope_short"),
    ),
)
