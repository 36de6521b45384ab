"""The class of each spec-based architecture: made once, importable from `automodel.auto.native` by its name."""

from __future__ import annotations

from automodel.archs.base import Architecture
from automodel.auto.native.configs import config_class
from automodel.auto.native.model import NativeForCausalLM

_made: dict[str, tuple[Architecture, type[NativeForCausalLM]]] = {}


def native_class(entry: Architecture) -> type[NativeForCausalLM]:
    """Return the model class of an architecture; the same object each time, unless the name was registered anew."""
    known = _made.get(entry.name)
    if known is None or known[0] is not entry:
        doc = f"{entry.name} as a native decoder; built from a config, or by `from_pretrained`."
        body = {"entry": entry, "config_class": config_class(entry), "__module__": "automodel.auto.native", "__doc__": doc}
        known = (entry, type(entry.name, (NativeForCausalLM,), body))
        _made[entry.name] = known
    return known[1]
