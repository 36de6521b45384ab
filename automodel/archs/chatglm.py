"""ChatGLM 2 and 3, and GLM-4 as its remote code has it (THUDM): half of each head rotated in adjacent pairs."""

from __future__ import annotations

from dataclasses import replace

from automodel.archs.base import Architecture, ConfigFile
from automodel.archs.common import TINY, buffers_of_attention, decoder
from automodel.archs.config import Config
from automodel.archs.own import Filled, renamed
from automodel.spec import AttentionSpec, DecoderSpec, MLPSpec, Names, NormSpec, RopeSpec
from automodel.weights.rules import Rule

NAMES = Names(
    base="transformer",
    embed="transformer.embedding.word_embeddings",
    layers="transformer.encoder.layers",
    norm="transformer.encoder.final_layernorm",
    head="transformer.output_layer",
    attention="self_attention",
    qkv="query_key_value",
    o="dense",
    gate_up="dense_h_to_4h",
    down="dense_4h_to_h",
)
FILE = ConfigFile(
    model_type="chatglm",
    fields={
        "num_layers": 28,
        "padded_vocab_size": 65024,
        "hidden_size": 4096,
        "ffn_hidden_size": 13696,
        "kv_channels": 128,
        "num_attention_heads": 32,
        "seq_length": 2048,
        "layernorm_epsilon": 1e-5,
        "multi_query_group_num": 1,
        "quantization_bit": 0,
        "rope_ratio": 1.0,
        "eos_token_id": 2,
        "pad_token_id": 0,
        **dict.fromkeys(("hidden_dropout", "attention_dropout"), 0.0),
        **dict.fromkeys(("pre_seq_len", "rope_ratio_divides_positions")),
        **dict.fromkeys(("rmsnorm", "post_layer_norm", "original_rope", "use_cache", "bias_dropout_fusion"), True),
        **dict.fromkeys(("apply_query_key_layer_scaling", "attention_softmax_in_fp32"), True),
        **dict.fromkeys(("add_bias_linear", "add_qkv_bias", "multi_query_attention", "apply_residual_connection_post_layernorm"), False),
        **dict.fromkeys(("fp32_residual_connection", "prefix_projection", "tie_word_embeddings"), False),
    },
    names={
        "num_hidden_layers": "num_layers",
        "vocab_size": "padded_vocab_size",
        "intermediate_size": "ffn_hidden_size",
        "head_dim": "kv_channels",
        "max_position_embeddings": "seq_length",
    },
)

REFUSED = {
    **dict.fromkeys(("position_encoding_2d", "inner_hidden_size"), "the first ChatGLM is another architecture"),
    "quantization_bit": "its weights are quantized",
    "pre_seq_len": "a P-tuning prefix is not computed",
    "vision_config": "images are not computed",
}


def divides_positions(config: Config) -> bool:
    """Say whether rope_ratio divides positions (ChatGLM2-6B-32K) rather than multiplying the base (ChatGLM 3, GLM-4).

    Only their remote code differs, not a field: a ChatGLM 2 is known by its name, or by the release that wrote its file (4.27; ChatGLM 3 has 4.30).
    A file that has lost both says `rope_ratio_divides_positions`.
    """
    told = config.get("rope_ratio_divides_positions")
    if told is not None:
        return bool(told)
    return "chatglm2" in str(config.get("_name_or_path", "")).lower() or str(config.get("transformers_version", "")).startswith("4.27.")


def settled(config: Config) -> dict[str, bool]:
    """Return what a rope_ratio means, said once and for all; a saved file has another name and another release."""
    return {"rope_ratio_divides_positions": divides_positions(config)} if config.get("rope_ratio", 1.0) != 1.0 else {}


def rope(config: Config) -> RopeSpec:
    """Return the rotary positions, on the first half of a head."""
    plain = RopeSpec(dim=config.kv_channels // 2, style="interleaved")
    ratio = float(config.rope_ratio)
    return replace(plain, position_scale=1.0 / ratio) if divides_positions(config) else replace(plain, theta=plain.theta * ratio)


def spec(config: Config) -> DecoderSpec:
    """Return the decoder of a ChatGLM config."""
    for name, why in REFUSED.items():
        config.refuse(name, why)
    config = Filled(config, FILE)
    grouped, linear_bias = not config.multi_query_attention, bool(config.add_bias_linear)
    # The reference multiplies by the norm's weight before it goes back to half precision.
    eps = config.layernorm_epsilon
    norm = NormSpec(eps=eps, float_weight=True) if config.rmsnorm else NormSpec(kind="layer", eps=eps, bias=True)
    attention = AttentionSpec(
        heads=config.heads,
        kv_heads=config.heads if grouped else int(config.multi_query_group_num),
        head_dim=int(config.kv_channels),
        qkv="grouped" if grouped else "concat",
        qkv_bias=linear_bias or bool(config.add_qkv_bias),
        out_bias=linear_bias,
        rope=rope(config),
        dropout=config.attention_dropout,
    )
    return decoder(
        config,
        attention=attention,
        mlp=MLPSpec(width=config.ffn_hidden_size, gate_up="concat", up_bias=linear_bias, down_bias=linear_bias),
        norm=norm,
        layer={"normed_residual": bool(config.apply_residual_connection_post_layernorm), "dropout": config.hidden_dropout},
        final_norm=norm if config.post_layer_norm else None,
        names=NAMES,
        padding_idx=None,
    )


def rules(spec: DecoderSpec) -> tuple[Rule, ...]:
    """Return the rule for the table that checkpoints carry."""
    return buffers_of_attention("transformer.rotary_pos_emb.inv_freq")


ARCHITECTURES = (
    Architecture(
        name="ChatGLMForCausalLM",
        also=("ChatGLMModel", "ChatGLMForConditionalGeneration"),
        model_type="chatglm",
        config=FILE,
        spec=spec,
        rules=rules,
        settled=settled,
        tiny={
            **renamed(TINY, FILE.names),
            "kv_channels": 16,
            "add_qkv_bias": True,
            "multi_query_attention": True,
            "multi_query_group_num": 2,
        },
        variants={
            "layernorm": {"rmsnorm": False},
            "biased": {"add_bias_linear": True},
            "mha": {"multi_query_attention": False},
            "wide_heads": {"kv_channels": 24},
            "normed_residual": {"apply_residual_connection_post_layernorm": True},
            "no_final_norm": {"post_layer_norm": False},
            "rope_base": {"rope_ratio": 50},
            "rope_positions": {"rope_ratio": 16, "rope_ratio_divides_positions": True},
        },
        goldens=("chatglm2", "chatglm3", "chatglm3_layernorm"),
    ),
)
