"""A user's own `nn.Module` with the face of transformers: built from the config, loaded and saved by its weight map."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from automodel.archs.base import Architecture
from automodel.auto.native import files
from automodel.auto.native.configs import config_class
from automodel.auto.native.naming import rename_in_place
from automodel.registry import ModelRegistry, load_target
from automodel.weights.rules import Rule, same

_made: dict[str, tuple[Architecture, type[OwnModel]]] = {}


class OwnModel(PreTrainedModel, GenerationMixin):
    """A module of a user's class, made by `Class(config)`, at `own`.

    Its forward takes `input_ids` [B, T] and whatever else of transformers' arguments it names, and returns logits [B, T, V] or an object with
    `logits`. The loss, generation (without a cache unless forward names `past_key_values`), loading and saving are added here.
    """

    entry: ClassVar[Architecture]
    target: ClassVar[type[nn.Module]]
    own: nn.Module
    weight_prefix = "own."
    weight_base = ""
    base_model_prefix = "own"
    supports_gradient_checkpointing = False
    accepts_loss_kwargs = True
    _supports_sdpa = True

    def __init__(self, config: Any, *_: Any, **__: Any) -> None:
        super().__init__(config)
        self.own = self.target(config)
        self._takes = _parameters(self.target)
        self._tied_weights_keys = {}
        self.post_init()  # type: ignore[no-untyped-call]  # transformers does not type it

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return "past_key_values" in _parameters(cls.target)

    def _init_weights(self, module: nn.Module) -> None:
        """Leave the weights as the user's own class drew them."""

    def tie_weights(self, *_: Any, **__: Any) -> None:
        """Leave ties to the user's own class."""

    def _inner(self, name: str) -> Any:
        found = getattr(self.own, name, None)
        return found() if callable(found) else None

    def get_input_embeddings(self) -> Any:
        """Return the token embedding: what the own class says, else its first embedding."""
        return self._inner("get_input_embeddings") or next((part for part in self.own.modules() if isinstance(part, nn.Embedding)), None)

    def get_output_embeddings(self) -> Any:
        """Return the head, if the own class names it."""
        return self._inner("get_output_embeddings") or getattr(self.own, "lm_head", None)

    def forward(
        self, input_ids: Tensor | None = None, attention_mask: Tensor | None = None, labels: Tensor | None = None, **kwargs: Any
    ) -> CausalLMOutputWithPast:
        """Return logits [B, T, V], and with labels [B, T] the loss of the next token."""
        given = {"input_ids": input_ids, "attention_mask": attention_mask, **kwargs}
        out = self.own(**{name: value for name, value in given.items() if value is not None and (name in self._takes or "**" in self._takes)})
        logits = out if isinstance(out, Tensor) else out[0] if isinstance(out, tuple) else out["logits"] if isinstance(out, Mapping) else out.logits
        loss = None
        if labels is not None:
            items = kwargs.get("num_items_in_batch")
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=logits.shape[-1], num_items_in_batch=items)
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=getattr(out, "past_key_values", None))

    def weight_root(self) -> nn.Module:
        """Return the module that the weight map speaks of: the user's own."""
        return self.own

    def weight_rules(self) -> tuple[Rule, ...]:
        """Return the weight map: the registered one, called with the config, else every tensor under its own name."""
        mapped: Any = self.entry.rules
        if mapped is not None:
            return tuple(mapped(self.config))
        return tuple(same(name) for name in self.own.state_dict())

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        rename_in_place(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str] | None, *args: Any, config: Any = None, **kwargs: Any) -> Any:
        """Load a model from a folder or hub id; arguments of transformers' method that concern one device."""
        return files.from_pretrained(cls, pretrained_model_name_or_path, *args, config=config, **kwargs)

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, state_dict: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        """Save as transformers does, with the names of the weight map; same arguments."""
        files.save_pretrained(self, save_directory, *args, state_dict=state_dict, **kwargs)


def wrapped_class(entry: Architecture) -> type[OwnModel]:
    """Return the face of a registered plain module class; the same object each time, unless the name was registered anew."""
    known = _made.get(entry.name)
    if known is None or known[0] is not entry:
        body = {
            "entry": entry,
            "target": load_target(entry),
            "config_class": config_class(entry),
            "__module__": __name__,
            "__doc__": OwnModel.__doc__,
        }
        known = (entry, type(entry.name, (OwnModel,), body))
        _made[entry.name] = known
    return known[1]


def _parameters(target: type[nn.Module]) -> frozenset[str]:
    """Return the arguments that forward names, and ** if it takes any."""
    found = inspect.signature(target.forward).parameters.values()
    return frozenset("**" if item.kind is inspect.Parameter.VAR_KEYWORD else item.name for item in found)


def __getattr__(name: str) -> Any:
    """Find a wrapped class by name, for pickles."""
    entry = ModelRegistry.find(name=name) if name[:1].isupper() else None
    if entry is None or entry.target is None or entry.name != name:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return wrapped_class(entry)
