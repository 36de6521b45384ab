"""Aquila and Aquila 2 (BAAI): Llama, its scores cut to +-1024 before the mask."""

from __future__ import annotations

from automodel.archs.base import Architecture, ConfigFile
from automodel.archs.common import TINY, attention, llama_like, rms
from automodel.archs.config import Config
from automodel.archs.own import LLAMA_FIELDS, Filled, rotary_buffers
from automodel.spec import DecoderSpec

CLAMP = 1024.0
FILE = ConfigFile(
    model_type="aquila",
    fields={
        **LLAMA_FIELDS,
        "vocab_size": 100008,
        "bos_token_id": 100006,
        "eos_token_id": 100007,
    },
)


def spec(config: Config) -> DecoderSpec:
    """Return the decoder of an Aquila config."""
    config = Filled(config, FILE)
    # The reference multiplies by the norm's weight before it goes back to half precision.
    return llama_like(config, norm=rms(config, float_weight=True), attention=attention(config, clamp=CLAMP))


ARCHITECTURES = (
    Architecture(
        name="AquilaForCausalLM",
        also=("AquilaModel",),
        model_type="aquila",
        config=FILE,
        spec=spec,
        rules=rotary_buffers,
        tiny=TINY,
        variants={
            "mha_linear": {"num_key_value_heads": 4, "rope_scaling": {"type": "linear", "factor": 4.0}},
        },
        goldens=("aquila", "aquila2_gqa"),
    ),
)
