"""Native decoders with the face of transformers: one class for each architecture of the registry that is described by a spec.

`from automodel.auto.native import LlamaForCausalLM` gives the class; it is made when it is first asked for, which is how pickles find it.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    from automodel.registry import ModelRegistry

    entry = ModelRegistry.find(name=name) if name[:1].isupper() else None
    if entry is None or entry.spec is None or entry.name != name:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from automodel.auto.native.classes import native_class

    return native_class(entry)
