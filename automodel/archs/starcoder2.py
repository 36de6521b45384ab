"""StarCoder 2: grouped heads, RoPE, layer norms, a plain MLP, a window on every layer if there is one."""

from __future__ import annotations

from automodel.archs.base import Architecture
from automodel.archs.common import LINEAR, TINY, attention, decoder, layer_norm
from automodel.archs.config import Config
from automodel.spec import DecoderSpec, MLPSpec, Names


def spec(config: Config) -> DecoderSpec:
    """Return the decoder of a Starcoder2Config; `use_bias` covers all projections, and the norms always have biases."""
    bias = bool(config.get("use_bias", True))
    return decoder(
        config,
        attention=attention(config, qkv_bias=bias, out_bias=bias, window=config.get("sliding_window")),
        mlp=MLPSpec(
            kind="plain",
            width=int(config.intermediate_size),
            activation=config.activation(default="gelu_pytorch_tanh"),
            up_bias=bias,
            down_bias=bias,
        ),
        norm=layer_norm(config, "norm_epsilon"),
        layer={"dropout": float(config.get("residual_dropout", 0.0))},
        names=Names(up="c_fc", down="c_proj"),
        embed_dropout=float(config.get("embedding_dropout", 0.0)),
        tied=True,
        init_std=0.018042,
    )


ARCHITECTURES = (
    Architecture(
        name="Starcoder2ForCausalLM",
        spec=spec,
        model_type="starcoder2",
        tiny=TINY,
        variants={
            "window": {"sliding_window": 5},
            "no_bias": {"use_bias": False},
            "untied": {"tie_word_embeddings": False},
            "linear": LINEAR,
        },
    ),
)
