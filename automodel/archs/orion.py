"""Orion-14B: Llama with LayerNorms that have a bias."""

from __future__ import annotations

from automodel.archs.base import Architecture, ConfigFile
from automodel.archs.common import TINY, layer_norm, llama_like
from automodel.archs.config import Config
from automodel.archs.own import LLAMA_FIELDS, Filled, rotary_buffers
from automodel.spec import DecoderSpec

FILE = ConfigFile(
    model_type="orion",
    fields={
        **LLAMA_FIELDS,
        "vocab_size": 84608,
        "hidden_size": 5120,
        "intermediate_size": 15360,
        **dict.fromkeys(("num_hidden_layers", "num_attention_heads"), 40),
        **dict.fromkeys(("max_position_embeddings", "max_sequence_length"), 4096),
        "rms_norm_eps": 1e-5,
    },
)


def spec(config: Config) -> DecoderSpec:
    """Return the decoder of an Orion config."""
    config = Filled(config, FILE)
    return llama_like(config, norm=layer_norm(config, "rms_norm_eps"))


ARCHITECTURES = (
    Architecture(
        name="OrionForCausalLM",
        model_type="orion",
        config=FILE,
        spec=spec,
        rules=rotary_buffers,
        tiny=TINY,
        variants={"mha_linear": {"num_key_value_heads": 4, "rope_scaling": {"type": "linear", "factor": 2.0}}},
        goldens=("orion",),
    ),
)
