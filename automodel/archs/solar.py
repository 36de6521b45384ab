"""Solar Pro preview (Upstage): Llama whose stream is blended, before some layers, with what it was before earlier ones."""

from __future__ import annotations

from automodel.archs.base import Architecture, ConfigFile
from automodel.archs.common import TINY, gated, llama_like
from automodel.archs.config import Config
from automodel.archs.own import LLAMA_FIELDS, Filled, rotary_buffers
from automodel.spec import DecoderSpec, SkipSpec, Unsupported

# sliding_window is not applied: of the public ports only one does, and it changes nothing below 2,047 tokens.
FILE = ConfigFile(
    model_type="solar",
    fields={
        **LLAMA_FIELDS,
        **dict.fromkeys(("attention_bias", "mlp_bias"), False),
        "pad_token_id": None,
        "sliding_window": 2047,
        "bskcn_1": [12, 20, 32, 44],
        "bskcn_2": [20, 32],
        "bskcn_3": [16, 24, 36, 48],
        "bskcn_4": [28, 40],
        "bskcn_tv": [0.9, 0.8],
    },
)


def skip(config: Config, keep: str, blend: str) -> SkipSpec:
    """Return one of the two connections; indices past the last layer are those of a larger model."""
    kept, blended = (tuple(index for index in config.get(name, ()) if index < config.layers) for name in (keep, blend))
    if blended and (not kept or min(blended) < min(kept)):
        raise Unsupported(f"{blend} {blended} blends a stream that {keep} {kept} has not kept yet")
    train, evaluate = config.bskcn_tv
    return SkipSpec(keep=kept, blend=blended, train=train, evaluate=evaluate)


def spec(config: Config) -> DecoderSpec:
    """Return the decoder of a Solar Pro config."""
    config = Filled(config, FILE)
    bias = bool(config.mlp_bias)
    skips = (skip(config, "bskcn_1", "bskcn_3"), skip(config, "bskcn_2", "bskcn_4"))
    return llama_like(config, mlp=gated(config, up_bias=bias, down_bias=bias), skips=skips)


ARCHITECTURES = (
    Architecture(
        name="SolarForCausalLM",
        model_type="solar",
        config=FILE,
        spec=spec,
        rules=rotary_buffers,
        tiny={**TINY, "num_hidden_layers": 4, "bskcn_1": [0, 1], "bskcn_2": [1], "bskcn_3": [2, 3], "bskcn_4": [3]},
        variants={"biased": {"attention_bias": True, "mlp_bias": True}, "no_skips": {"bskcn_1": [], "bskcn_2": [], "bskcn_3": [], "bskcn_4": []}},
        goldens=("solar",),
    ),
)
