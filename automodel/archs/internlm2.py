"""InternLM 2 and 2.5: Llama under other names, its projections in one matrix of groups [queries, key, value]."""

from __future__ import annotations

from automodel.archs.base import Architecture, ConfigFile
from automodel.archs.common import TINY, attention, llama_like
from automodel.archs.config import Config
from automodel.archs.own import LLAMA_FIELDS, Filled, rotary_buffers
from automodel.spec import DecoderSpec, Names, Unsupported

NAMES = Names(
    embed="model.tok_embeddings",
    head="output",
    attention="attention",
    mlp="feed_forward",
    pre_attention="attention_norm",
    pre_mlp="ffn_norm",
    qkv="wqkv",
    o="wo",
    gate="w1",
    up="w3",
    down="w2",
)
FILE = ConfigFile(
    model_type="internlm2",
    fields={
        **LLAMA_FIELDS,
        "vocab_size": 103168,
        "bias": True,
        "attn_implementation": "eager",
    },
)


def spec(config: Config) -> DecoderSpec:
    """Return the decoder of an InternLM 2 config."""
    config = Filled(config, FILE)
    if "InternLM2ForRewardModel" in config.get("architectures", ()):
        raise Unsupported("a reward model has a head of one score (v_head), not of tokens")
    bias = bool(config.get("bias"))
    return llama_like(config, attention=attention(config, qkv="grouped", qkv_bias=bias, out_bias=bias), names=NAMES)


ARCHITECTURES = (
    Architecture(
        name="InternLM2ForCausalLM",
        model_type="internlm2",
        config=FILE,
        spec=spec,
        rules=rotary_buffers,
        tiny={**TINY, "bias": False},
        variants={
            "biased": {"bias": True},
            "mha_linear": {"num_key_value_heads": 4, "rope_scaling": {"type": "linear", "factor": 2.0}},
        },
        goldens=("internlm2", "internlm2_linear_rope"),
    ),
)
