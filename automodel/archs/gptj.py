"""GPT-J: parallel parts, interleaved RoPE on the first dimensions of a head, a head with a bias."""

from __future__ import annotations

from automodel.archs.base import Architecture
from automodel.archs.common import TINY_GPT, attention, buffers_of_attention, decoder, layer_norm
from automodel.archs.config import Config
from automodel.spec import DecoderSpec, MLPSpec, Names

NAMES = Names(
    base="transformer",
    embed="transformer.wte",
    layers="transformer.h",
    norm="transformer.ln_f",
    attention="attn",
    pre_attention="ln_1",
    o="out_proj",
    up="fc_in",
    down="fc_out",
)


def spec(config: Config) -> DecoderSpec:
    """Return the decoder of a GPTJConfig; the base of its RoPE is always 10000."""
    rope = config.rope(dim=int(config.rotary_dim), style="interleaved", theta=10_000.0, scaled=False)
    dropout = float(config.get("attn_pdrop", 0.0))
    width = int(config.get("n_inner", 4 * config.hidden_size))
    return decoder(
        config,
        attention=attention(config, kv_heads=config.heads, qkv_bias=False, out_bias=False, rope=rope, dropout=dropout),
        mlp=MLPSpec(kind="plain", width=width, activation=config.activation("activation_function", "gelu_new"), up_bias=True, down_bias=True),
        norm=layer_norm(config, "layer_norm_epsilon"),
        layer={"block": "parallel", "pre_mlp": None, "dropout": float(config.get("resid_pdrop", 0.0))},
        head={"bias": True},
        names=NAMES,
        embed_dropout=float(config.get("embd_pdrop", 0.0)),
        padding_idx=None,
    )


ARCHITECTURES = (
    Architecture(
        name="GPTJForCausalLM",
        spec=spec,
        model_type="gptj",
        tiny={**TINY_GPT, "rotary_dim": 8},
        variants={
            "whole_rope": {"rotary_dim": 16},
            "inner": {"n_inner": 96, "activation_function": "gelu"},
            "tied": {"tie_word_embeddings": True},
        },
        rules=lambda _: buffers_of_attention("*.attn.bias", "*.attn.masked_bias"),
    ),
)
