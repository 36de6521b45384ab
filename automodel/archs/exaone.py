"""EXAONE 3.0 and 3.5 (LG): Llama under other names."""

from __future__ import annotations

from automodel.archs.base import Architecture, ConfigFile
from automodel.archs.common import LLAMA3, TINY, llama_like
from automodel.archs.config import Config
from automodel.archs.own import LLAMA_FIELDS, Filled, renamed, rotary_buffers
from automodel.spec import DecoderSpec, Names

NAMES = Names(
    base="transformer",
    embed="transformer.wte",
    layers="transformer.h",
    norm="transformer.ln_f",
    attention="attn.attention",
    o="out_proj",
    pre_attention="ln_1",
    pre_mlp="ln_2",
    gate="c_fc_0",
    up="c_fc_1",
    down="c_proj",
)
RENAMED = {"num_hidden_layers": "num_layers", "hidden_act": "activation_function", "rms_norm_eps": "layer_norm_epsilon"}
FILE = ConfigFile(
    model_type="exaone",
    fields={
        **renamed(LLAMA_FIELDS, RENAMED),
        "vocab_size": 102400,
        "head_dim": None,
        "layer_norm_epsilon": 1e-5,
        "embed_dropout": 0.0,
        "eos_token_id": 361,
    },
    names=RENAMED,
)


def spec(config: Config) -> DecoderSpec:
    """Return the decoder of an EXAONE 3 config."""
    config = Filled(config, FILE)
    config.refuse("use_logit_cap", "a switch of an older remote code that no released model uses")
    return llama_like(config, names=NAMES, embed_dropout=config.embed_dropout)


ARCHITECTURES = (
    Architecture(
        name="ExaoneForCausalLM",
        model_type="exaone",
        config=FILE,
        spec=spec,
        rules=rotary_buffers,
        tiny=renamed(TINY, RENAMED),
        variants={
            "head_dim": {"head_dim": 24},
            "tied_llama3": {**LLAMA3, "tie_word_embeddings": True},
        },
        goldens=("exaone", "exaone_headdim24"),
    ),
)
