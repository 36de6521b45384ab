"""What the architecture files share whose config transformers has no class for: the defaults of absent fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from automodel.archs.base import ConfigFile
from automodel.archs.common import buffers_of_attention
from automodel.archs.config import Config
from automodel.spec import DecoderSpec
from automodel.weights.rules import Rule

# The fields that the config files of Llama's descendants have, with the defaults of most.
LLAMA_FIELDS: Mapping[str, Any] = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": None,
    "hidden_act": "silu",
    "max_position_embeddings": 2048,
    "initializer_range": 0.02,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "attention_dropout": 0.0,
    "pretraining_tp": 1,
    "use_cache": True,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}


class Filled(Config):
    """A config whose absent fields have the defaults of its `ConfigFile`, under its common names too; a field that is null stays null."""

    def __init__(self, config: Config, file: ConfigFile) -> None:
        super().__init__(config._source)
        self._file = file

    def _read(self, name: str) -> Any:
        own = self._file.names.get(name, name)
        for key in (own, name):
            if key in self._source if isinstance(self._source, Mapping) else hasattr(self._source, key):
                return super()._read(key)
        return self._file.fields.get(own)


def renamed(fields: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return fields under the file's own names, given common name -> own name."""
    return {names.get(name, name): value for name, value in fields.items()}


def rotary_buffers(spec: DecoderSpec) -> tuple[Rule, ...]:
    """Return the rule for the rotary tables that older checkpoints carry."""
    return buffers_of_attention(f"{spec.names.layers}.{{i}}.{spec.names.attention}.rotary_emb.inv_freq")
