"""InternLM 3: Llama with one switch for the biases of q, k and v and another for all other matrices.

transformers 5 maps its model_type to Llama and refuses configs where the two switches differ; here they may.
"""

from __future__ import annotations

from automodel.archs.base import Architecture, ConfigFile
from automodel.archs.common import TINY, attention, gated, llama_like
from automodel.archs.config import Config
from automodel.archs.own import LLAMA_FIELDS, Filled, rotary_buffers
from automodel.spec import DecoderSpec

FILE = ConfigFile(
    model_type="internlm3",
    fields={
        **LLAMA_FIELDS,
        "vocab_size": 128512,
        "intermediate_size": 10240,
        "num_hidden_layers": 48,
        "num_key_value_heads": 2,
        "head_dim": 128,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-5,
        **dict.fromkeys(("bias", "qkv_bias"), False),
        "pad_token_id": 2,
    },
)


def spec(config: Config) -> DecoderSpec:
    """Return the decoder of an InternLM 3 config."""
    config = Filled(config, FILE)
    bias = bool(config.get("bias"))
    heads = attention(config, qkv_bias=bool(config.get("qkv_bias")), out_bias=bias)
    return llama_like(config, attention=heads, mlp=gated(config, up_bias=bias, down_bias=bias))


ARCHITECTURES = (
    Architecture(
        name="InternLM3ForCausalLM",
        model_type="internlm3",
        config=FILE,
        spec=spec,
        rules=rotary_buffers,
        tiny={**TINY, "head_dim": 24},
        variants={
            "biased": {"bias": True, "qkv_bias": True},
            "qkv_biased": {"qkv_bias": True},
        },
        goldens=("internlm3", "internlm3_qkv_bias_only"),
    ),
)
