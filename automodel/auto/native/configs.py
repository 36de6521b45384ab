"""Config classes for files that the installed transformers has no class for, registered with AutoConfig: no remote code is needed to read them."""

from __future__ import annotations

import re
from copy import deepcopy
from typing import Any

from transformers import AutoConfig, PretrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from automodel.archs.base import Architecture, ConfigFile
from automodel.registry import ModelRegistry, load_config_class

# What code of transformers reads from any config, and its newer base class no longer sets.
COMMON: dict[str, Any] = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None, "use_cache": True}
_made: dict[str, tuple[ConfigFile, type[PretrainedConfig]]] = {}
_registered: set[str] = set()


def config_class(entry: Architecture) -> type[PretrainedConfig]:
    """Return the config class of an architecture: the one that came with it, that of transformers, else one made from its `ConfigFile`."""
    own = load_config_class(entry)
    if own is not None:
        return own
    kind = entry.model_type or (entry.config.model_type if entry.config is not None else "")
    if kind in CONFIG_MAPPING and kind not in _registered:
        return CONFIG_MAPPING[kind]
    return file_class(_file(entry)) if kind else PretrainedConfig


def _file(entry: Architecture) -> ConfigFile:
    """Return the config file of an architecture; one without a description may hold anything."""
    return entry.config or ConfigFile(model_type=entry.model_type or "", fields={})


def file_class(file: ConfigFile) -> type[PretrainedConfig]:
    """Return the class made from a config file; the same one each time, unless its model_type was registered anew."""
    name = class_name(file.model_type)
    known = _made.get(name)
    if known is None or known[0] != file:
        known = _made[name] = (file, _make(name, file))
    return known[1]


def class_name(model_type: str) -> str:
    """Return the name of the class for a model_type: "nemotron-nas" is NemotronNasConfig."""
    return "".join(word[:1].upper() + word[1:] for word in re.split(r"[^0-9A-Za-z]+", model_type)) + "Config"


def register_configs() -> None:
    """Tell AutoConfig about every registered config file whose model_type it does not know; its own classes stay as they are."""
    for name in ModelRegistry:
        file = ModelRegistry.get(name).config
        if file is not None and file.model_type not in CONFIG_MAPPING:
            AutoConfig.register(file.model_type, file_class(file))
            _registered.add(file.model_type)


class _FullAttention:
    """`layer_types` of a file without them: caches keep every key, and what a layer sees is decided by its mask alone.

    Without it a cache takes `sliding_window`, which such files may hold without using it, for the window of every layer.
    """

    def __get__(self, config: Any, _owner: Any = None) -> list[str]:
        if config is None:
            raise AttributeError("layer_types")
        return ["full_attention"] * config.num_hidden_layers


def _make(name: str, file: ConfigFile) -> type[PretrainedConfig]:
    fields = {**COMMON, **file.fields}

    def __init__(self: Any, **kwargs: Any) -> None:
        theirs = {own: common for common, own in file.names.items()}
        for field, default in fields.items():
            value = kwargs.pop(field, kwargs.pop(theirs[field], default) if field in theirs else default)
            setattr(self, field, deepcopy(value))
        tied = self.tie_word_embeddings if "tie_word_embeddings" in fields else kwargs.pop("tie_word_embeddings", None)
        tokens = {field: getattr(self, field) for field in ("pad_token_id", "bos_token_id", "eos_token_id")}
        PretrainedConfig.__init__(self, **tokens, **kwargs)
        # The older base class says True where the file says nothing.
        self.tie_word_embeddings = tied

    body = {
        "__init__": __init__,
        "__module__": __name__,
        "__qualname__": name,
        "__doc__": f"config.json of model_type {file.model_type}.",
        "model_type": file.model_type,
        "attribute_map": dict(file.names),
        "keys_to_ignore_at_inference": ["past_key_values"],
        # Plain fields, as the file has them; the newer base class would move both into a third.
        "rope_scaling": None,
        "layer_types": _FullAttention(),
    }
    return type(name, (PretrainedConfig,), body)


def __getattr__(name: str) -> Any:
    """Find a made class by name, for pickles."""
    if name.endswith("Config"):
        for entry in map(ModelRegistry.get, ModelRegistry):
            if class_name(_file(entry).model_type) == name:
                return file_class(_file(entry))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
