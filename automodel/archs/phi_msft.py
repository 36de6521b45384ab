"""Phi 1.5 and 2 as first released: Phi under the names that its remote code had, q | k | v in one matrix."""

from __future__ import annotations

from typing import Any

from automodel.archs.base import Architecture, ConfigFile
from automodel.archs.config import Config
from automodel.archs.own import Filled
from automodel.archs.phi import spec as phi
from automodel.spec import DecoderSpec
from automodel.weights.rules import Rule, drop, rename

FIELDS: dict[str, Any] = {
    "vocab_size": 51200,
    "n_positions": 2048,
    "n_embd": 1024,
    "n_layer": 20,
    "n_inner": None,
    "n_head": 16,
    "n_head_kv": None,
    "rotary_dim": 32,
}
FIELDS |= {"activation_function": "gelu_new", "embd_pdrop": 0.0, "resid_pdrop": 0.0, "attn_pdrop": 0.0, "layer_norm_epsilon": 1e-5}
FIELDS |= {"initializer_range": 0.02, "tie_word_embeddings": False, "flash_attn": False, "flash_rotary": False, "fused_dense": False}
COMMON = {"hidden_size": "n_embd", "num_hidden_layers": "n_layer", "num_attention_heads": "n_head", "num_key_value_heads": "n_head_kv"}
COMMON |= {"intermediate_size": "n_inner", "max_position_embeddings": "n_positions"}
FILE = ConfigFile(model_type="phi-msft", fields=FIELDS, names=COMMON)
# Of a layer: our part -> the file's.
LAYER = {"input_layernorm": "ln", "self_attn.qkv": "mixer.Wqkv", "self_attn.dense": "mixer.out_proj", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
ENDS = {"model.final_layernorm": "lm_head.ln", "lm_head": "lm_head.linear"}


def spec(config: Config) -> DecoderSpec:
    """Return the decoder: that of Phi."""
    return phi(Filled(config, FILE))


def rules(_spec: DecoderSpec) -> tuple[Rule, ...]:
    """Return the names of the files; those of `microsoft/phi-1_5` and `microsoft/phi-2` at their first revision."""
    pairs = {f"model.layers.{{i}}.{ours}": f"transformer.h.{{i}}.{theirs}" for ours, theirs in LAYER.items()} | ENDS
    named = [rename(f"{ours}.{part}", f"{theirs}.{part}") for ours, theirs in pairs.items() for part in ("weight", "bias")]
    return (rename("model.embed_tokens.weight", "transformer.embd.wte.weight"), *named, drop("*.rotary_emb.inv_freq", why="computed from the config"))


ARCHITECTURES = (
    Architecture(
        name="PhiMsftForCausalLM",
        also=("PhiForCausalLM",),
        model_type="phi-msft",
        config=FILE,
        spec=spec,
        rules=rules,
        tiny={"vocab_size": 128, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64, "rotary_dim": 8},
        variants={"groups": {"n_head_kv": 2}, "width": {"n_inner": 96}},
    ),
)
