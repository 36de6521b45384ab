"""Fine-tune Hugging Face models: one import, one recipe, one run folder.

Every name below is loaded when it is first used, so that `import automodel` costs nothing and loads no torch.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from automodel.auto import NeMoAutoModelForCausalLM as NeMoAutoModelForCausalLM
    from automodel.auto import NeMoAutoModelForImageTextToText as NeMoAutoModelForImageTextToText
    from automodel.auto import NeMoAutoModelForMultimodalLM as NeMoAutoModelForMultimodalLM
    from automodel.auto import NeMoAutoModelForSeq2SeqLM as NeMoAutoModelForSeq2SeqLM
    from automodel.auto import NeMoAutoModelForSequenceClassification as NeMoAutoModelForSequenceClassification
    from automodel.auto import NeMoAutoModelForTextToWaveform as NeMoAutoModelForTextToWaveform
    from automodel.auto import NeMoAutoModelForTokenClassification as NeMoAutoModelForTokenClassification
    from automodel.auto import NeMoAutoTokenizer as NeMoAutoTokenizer
    from automodel.auto import inspect as inspect
    from automodel.auto import query_capabilities as query_capabilities
    from automodel.checkpoint import export as export
    from automodel.checkpoint import merge_adapter as merge_adapter
    from automodel.errors import AutomodelError as AutomodelError
    from automodel.hub import model_card as model_card
    from automodel.hub import push_to_hub as push_to_hub
    from automodel.kernels import BackendConfig as BackendConfig
    from automodel.launch import finetune as finetune
    from automodel.launch import launch as launch
    from automodel.recipe import Recipe as Recipe
    from automodel.recipe import load_recipe as load_recipe
    from automodel.registry import MODEL_ARCH_MAPPING as MODEL_ARCH_MAPPING
    from automodel.registry import ModelRegistry as ModelRegistry
    from automodel.registry import register_architecture as register_architecture
    from automodel.run import Run as Run
    from automodel.run import attach as attach
    from automodel.run import compare as compare
    from automodel.run import runs as runs
    from automodel.tasks import generate as generate
    from automodel.tasks import load_generator as load_generator
    from automodel.tasks import plan as plan
    from automodel.tasks import preview as preview
    from automodel.version import __version__ as __version__
else:
    _ROOMS = {
        "automodel.auto": (
            "NeMoAutoModelForCausalLM",
            "NeMoAutoModelForImageTextToText",
            "NeMoAutoModelForMultimodalLM",
            "NeMoAutoModelForSeq2SeqLM",
            "NeMoAutoModelForSequenceClassification",
            "NeMoAutoModelForTextToWaveform",
            "NeMoAutoModelForTokenClassification",
            "NeMoAutoTokenizer",
            "inspect",
            "query_capabilities",
        ),
        "automodel.checkpoint": ("export", "merge_adapter"),
        "automodel.errors": ("AutomodelError",),
        "automodel.hub": ("model_card", "push_to_hub"),
        "automodel.kernels": ("BackendConfig",),
        "automodel.launch": ("finetune", "launch"),
        "automodel.recipe": ("Recipe", "load_recipe"),
        "automodel.registry": ("MODEL_ARCH_MAPPING", "ModelRegistry", "register_architecture"),
        "automodel.run": ("Run", "attach", "compare", "runs"),
        "automodel.tasks": ("generate", "load_generator", "plan", "preview"),
        "automodel.version": ("__version__",),
    }
    _HOMES = {name: room for room, names in _ROOMS.items() for name in names}

    def __getattr__(name: str) -> object:
        from importlib import import_module

        if name in _HOMES:
            value = getattr(import_module(_HOMES[name]), name)
            # A room of that name has just been bound by the import; it answers calls itself, see _Door.
            return globals().setdefault(name, value)
        from difflib import get_close_matches

        near = get_close_matches(name, _HOMES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise AttributeError(f"module 'automodel' has no attribute {name!r}{hint}", name=name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *_HOMES})

    class _CallableRoom(ModuleType):
        def __call__(self, *args: object, **kwargs: object) -> object:
            return getattr(self, self.__name__.rpartition(".")[2])(*args, **kwargs)

    class _Door(ModuleType):
        """`automodel.launch` is both a function of the front door and a room: whichever import comes first, both uses work."""

        def __setattr__(self, name: str, value: object) -> None:
            if name in _HOMES and isinstance(value, ModuleType):
                value.__class__ = _CallableRoom
                value.__doc__ = getattr(value, name).__doc__
            super().__setattr__(name, value)

    sys.modules[__name__].__class__ = _Door


__all__ = [
    "MODEL_ARCH_MAPPING",
    "AutomodelError",
    "BackendConfig",
    "ModelRegistry",
    "NeMoAutoModelForCausalLM",
    "NeMoAutoModelForImageTextToText",
    "NeMoAutoModelForMultimodalLM",
    "NeMoAutoModelForSeq2SeqLM",
    "NeMoAutoModelForSequenceClassification",
    "NeMoAutoModelForTextToWaveform",
    "NeMoAutoModelForTokenClassification",
    "NeMoAutoTokenizer",
    "Recipe",
    "Run",
    "__version__",
    "attach",
    "compare",
    "export",
    "finetune",
    "generate",
    "inspect",
    "launch",
    "load_generator",
    "load_recipe",
    "merge_adapter",
    "model_card",
    "plan",
    "preview",
    "push_to_hub",
    "query_capabilities",
    "register_architecture",
    "runs",
]
