"""StableLM-Alpha v2 (stablelm-base-alpha-7b-v2): parallel blocks under one LayerNorm, a quarter of each head rotated."""

from __future__ import annotations

from automodel.archs.base import Architecture, ConfigFile
from automodel.archs.common import attention, decoder, layer_norm
from automodel.archs.config import Config
from automodel.archs.own import Filled, rotary_buffers
from automodel.spec import DecoderSpec, MLPSpec, Names, Unsupported, round_up

NAMES = Names(
    base="transformer",
    embed="transformer.embed",
    layers="transformer.layers",
    norm="transformer.final_norm",
    attention="attention",
    pre_attention="norm",
    qkv="qkv_proj",
    o="out_proj",
    gate_up="gate_proj",
    down="out_proj",
)
RENAMED = {"num_attention_heads": "num_heads"}
FILE = ConfigFile(
    model_type="stablelm_alpha",
    fields={
        "vocab_size": 50432,
        "hidden_size": 4096,
        **dict.fromkeys(("num_hidden_layers", "num_heads"), 32),
        "hidden_act": "silu",
        "rotary_pct": 0.25,
        "rotary_emb_base": 10000,
        "rotary_scaling_factor": 1.0,
        "max_position_embeddings": 4096,
        "norm_eps": 1e-5,
        "initializer_range": 0.02,
        "gate_half": "second",
        "use_cache": True,
        **dict.fromkeys(("bos_token_id", "eos_token_id"), 0),
        "tie_word_embeddings": False,
    },
    names=RENAMED,
)
UNVERIFIED = (
    "no public file shows which half of gate_proj goes through SiLU: the second, after the names (ff, ff_gate) of its authors, unless the config "
    'says gate_half "first", as the one public port has it; compare a known text\'s loss before training'
)


def spec(config: Config) -> DecoderSpec:
    """Return the decoder of a StableLM-Alpha v2 config."""
    config = Filled(config, FILE)
    if config.rotary_scaling_factor != 1.0:
        raise Unsupported(f"rotary_scaling_factor {config.rotary_scaling_factor}: how the reference scales is not known")
    if config.gate_half not in ("first", "second"):
        raise Unsupported(f'gate_half {config.gate_half!r}; "first" or "second"')
    heads = attention(config, qkv="concat", rope=config.rope())
    width = round_up(int(8 * config.hidden_size / 3), 256)
    mlp = MLPSpec(width=width, activation=config.activation(), gate_up="concat" if config.gate_half == "first" else "up_first")
    layer = {"block": "parallel", "pre_mlp": None}
    return decoder(config, attention=heads, mlp=mlp, norm=layer_norm(config, "norm_eps"), layer=layer, names=NAMES)


ARCHITECTURES = (
    Architecture(
        name="StableLMAlphaForCausalLM",
        model_type="stablelm_alpha",
        config=FILE,
        spec=spec,
        rules=rotary_buffers,
        tiny={"vocab_size": 128, "hidden_size": 64, "num_hidden_layers": 2, "num_heads": 4, "max_position_embeddings": 64},
        variants={"gate_first": {"gate_half": "first"}, "half_rotated": {"rotary_pct": 0.5}},
        unverified=UNVERIFIED,
    ),
)
