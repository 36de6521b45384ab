"""What an architecture file says: its names, config -> spec, extra weight rules, and tiny configs for the tests. No torch, no transformers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from automodel.archs.config import Config
from automodel.spec import DecoderSpec
from automodel.weights.rules import Rule


@dataclass(frozen=True, kw_only=True)
class ConfigFile:
    """A config.json that transformers has no class for: its model_type, every field with its default, and the common names of some fields.

    `names` maps a common name to the file's own ("num_hidden_layers": "num_layers"), as `attribute_map` of transformers.
    """

    model_type: str
    fields: Mapping[str, Any]
    names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One architecture: a spec-based one has `spec`, one of a user's own class has `target`.

    Args:
        name: the class name; it ends with the task, such as `LlamaForCausalLM`.
        spec: config -> DecoderSpec; raises `Unsupported` with the reason for a config that it does not compute.
        target: a model class, or "module:Class", in place of `spec`.
        model_type: the `model_type` of its config.json.
        config_class: config class or "module:Class", for `target`.
        config: the config file, where transformers (of any release in the range) lacks it.
        also: other strings that real files have in `architectures` for it.
        tiny: fields of a tiny config (about 64 wide, 2 to 4 layers, vocabulary 128) for the contract suite.
        variants: name -> fields on top of `tiny`, one for each switch worth a test.
        goldens: names of reference outputs, for architectures that transformers lacks.
        rules: checkpoint rules beyond those that follow from the spec (dropped buffers, stacked norms); for `target`, called with the config,
            all of them.
        settled: config -> fields that a saved config states, where the file left them to be inferred from what saving or resizing changes
            (its name, the release that wrote it, the size of the vocabulary).
        unverified: why it must be asked for by name; None for everything that has been compared with its reference.
        by_type: whether a config that names no architecture, or an unknown one, is served by it because of its model_type.
        source: who registered it.
    """

    name: str
    spec: Callable[[Config], DecoderSpec] | None = None
    target: type | str | None = None
    model_type: str | None = None
    config_class: type | str | None = None
    config: ConfigFile | None = None
    also: tuple[str, ...] = ()
    tiny: Mapping[str, Any] = field(default_factory=dict)
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    goldens: tuple[str, ...] = ()
    rules: Callable[[Any], tuple[Rule, ...]] | None = None
    settled: Callable[[Config], Mapping[str, Any]] | None = None
    unverified: str | None = None
    by_type: bool = True
    source: str = "automodel"

    def __post_init__(self) -> None:
        # Families share parts of their tiny configs, and transformers writes into the dicts that a config is made of.
        object.__setattr__(self, "tiny", copy.deepcopy(dict(self.tiny)))
        object.__setattr__(self, "variants", {name: copy.deepcopy(dict(fields)) for name, fields in self.variants.items()})
