"""Jais (Core42, Cerebras): GPT-2 with ALiBi, SwiGLU and the scales of muP."""

from __future__ import annotations

from automodel.archs.base import Architecture, ConfigFile
from automodel.archs.common import TINY_GPT, buffers_of_attention, decoder, layer_norm
from automodel.archs.config import OLD_NAMES, Config
from automodel.archs.own import Filled
from automodel.spec import AlibiSpec, AttentionSpec, DecoderSpec, MLPSpec, Names, Unsupported
from automodel.weights.rules import Rule

# The first matrix, c_fc, is the linear half; the one that is activated is c_fc2.
NAMES = Names(
    base="transformer",
    embed="transformer.wte",
    positions="transformer.wpe",
    layers="transformer.h",
    norm="transformer.ln_f",
    attention="attn",
    pre_attention="ln_1",
    pre_mlp="ln_2",
    qkv="c_attn",
    o="c_proj",
    gate="c_fc2",
    up="c_fc",
    down="c_proj",
)
# The scales have two sets of names: the older ones win, as in vLLM, so none of them may have a default.
BOTH = ("embeddings_scale", "width_scale", "scale_qk_dot_by_d")
SCALES = (*BOTH, *(f"mup_{name}" for name in BOTH), "mup_output_alpha")
FILE = ConfigFile(
    model_type="jais",
    fields={
        "vocab_size": 84992,
        "n_positions": 2048,
        "n_embd": 5120,
        **dict.fromkeys(("n_layer", "n_head"), 40),
        "n_inner": None,
        "activation_function": "swiglu",
        "position_embedding_type": "alibi",
        "layer_norm_epsilon": 1e-5,
        "initializer_range": 0.02,
        "alibi_scaling": None,
        "tie_word_embeddings": True,
        "scale_attn_weights": True,
        "use_cache": True,
        **dict.fromkeys(("scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn"), False),
        **dict.fromkeys(("embd_pdrop", "attn_pdrop", "resid_pdrop"), 0.0),
        **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), 0),
        **dict.fromkeys(SCALES),
    },
    names=OLD_NAMES,
)


def scores(config: Config, index: int) -> float:
    """Return what layer `index` multiplies its scores by."""
    power = -1.0 if config.get("scale_qk_dot_by_d", config.get("mup_scale_qk_dot_by_d")) else -0.5
    scale = float(config.width_of_head**power) if config.scale_attn_weights else 1.0
    return scale / (index + 1) if config.scale_attn_by_inverse_layer_idx else scale


def alibi(config: Config) -> AlibiSpec | None:
    """Return the bias by distance; `alibi_scaling` divides it by a factor, or by how much a row is longer than in training."""
    if config.position_embedding_type != "alibi":
        return None
    section = Config(config.get("alibi_scaling", {}))
    if section.get("type", "linear") != "linear":
        raise Unsupported(f"alibi_scaling of type {section.type!r}")
    factor = section.get("factor")
    return AlibiSpec(factor=1.0 / factor) if factor else AlibiSpec(train_length=section.get("train_seq_len"))


def mlp(config: Config) -> MLPSpec:
    """Return the feed-forward part; without SwiGLU it is that of GPT-2."""
    width = config.get("n_inner") or 4 * config.hidden_size
    activation, gated = config.activation("activation_function"), config.activation_function == "swiglu"
    return MLPSpec(kind="gated" if gated else "plain", width=width, activation=activation, up_bias=True, down_bias=True)


def spec(config: Config) -> DecoderSpec:
    """Return the decoder of a Jais config."""
    config = Filled(config, FILE)
    if config.position_embedding_type not in ("alibi", "learned"):
        raise Unsupported(f"position_embedding_type {config.position_embedding_type!r}")
    learned = config.position_embedding_type == "learned"
    heads = [
        AttentionSpec(
            heads=config.heads,
            kv_heads=config.heads,
            head_dim=config.width_of_head,
            qkv="concat",
            qkv_bias=True,
            out_bias=True,
            scale=scores(config, index),
            alibi=alibi(config),
            dropout=config.attn_pdrop,
        )
        for index in range(config.layers)
    ]
    width_scale = config.get("mup_output_alpha", 1.0) * config.get("mup_width_scale", 1.0)
    return decoder(
        config,
        attention=heads,
        mlp=mlp(config),
        norm=layer_norm(config, "layer_norm_epsilon"),
        layer={"dropout": config.resid_pdrop},
        head={"multiplier": config.get("width_scale", width_scale)},
        names=NAMES,
        embed_multiplier=config.get("embeddings_scale", config.get("mup_embeddings_scale", 1.0)),
        embed_dropout=config.embd_pdrop,
        positions=config.n_positions if learned else None,
        padding_idx=None,
        transposed=True,
    )


def rules(spec: DecoderSpec) -> tuple[Rule, ...]:
    """Return the rules for what is computed here: the slopes of ALiBi and GPT-2's masks."""
    layers = "transformer.h.{i}.attn"
    return buffers_of_attention("transformer.relative_pe.slopes", f"{layers}.bias", f"{layers}.masked_bias")


ARCHITECTURES = (
    Architecture(
        name="JAISLMHeadModel",
        model_type="jais",
        config=FILE,
        spec=spec,
        rules=rules,
        tiny={
            **TINY_GPT,
            "n_inner": 96,
            "mup_embeddings_scale": 14.6,
            "mup_output_alpha": 2.22,
            "mup_width_scale": 0.6,
            "mup_scale_qk_dot_by_d": True,
        },
        variants={
            "plain_scale": {"mup_scale_qk_dot_by_d": False},
            "older_names": {"embeddings_scale": 3.0, "width_scale": 0.5, "scale_qk_dot_by_d": True},
            "learned": {"position_embedding_type": "learned", "mup_embeddings_scale": 1.0},
            "gelu": {"activation_function": "gelu_new"},
            "by_layer": {"scale_attn_by_inverse_layer_idx": True},
            "untied": {"tie_word_embeddings": False},
            "alibi_factor": {"alibi_scaling": {"type": "linear", "factor": 2.0}},
        },
        goldens=("jais_mup", "jais_sqrt_scale"),
    ),
)
