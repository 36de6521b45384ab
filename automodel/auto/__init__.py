"""Auto classes and tokenizer: one call from an id, a folder or a recipe section to a model, with the reasons recorded.

Names are loaded on first use, so that checking weights or a config does not import every model of transformers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from automodel.auto.capabilities import query_capabilities
    from automodel.auto.fit import check_weights
    from automodel.auto.inspection import Inspection, inspect
    from automodel.auto.models import (
        NeMoAutoModelForCausalLM,
        NeMoAutoModelForImageTextToText,
        NeMoAutoModelForMultimodalLM,
        NeMoAutoModelForSeq2SeqLM,
        NeMoAutoModelForSequenceClassification,
        NeMoAutoModelForTextToWaveform,
        NeMoAutoModelForTokenClassification,
    )
    from automodel.auto.processor import build_processor, save_processor
    from automodel.auto.resolution import Resolution
    from automodel.auto.saving import HfFolderReport, save_hf, verify_hf
    from automodel.auto.sections import build_model, build_tokenizer, class_that_writes, resolve_config
    from automodel.auto.tokenizer import NeMoAutoTokenizer
else:
    _PLACES = {
        "automodel.auto.capabilities": ("query_capabilities",),
        "automodel.auto.fit": ("check_weights",),
        "automodel.auto.inspection": ("Inspection", "inspect"),
        "automodel.auto.models": (
            "NeMoAutoModelForCausalLM",
            "NeMoAutoModelForImageTextToText",
            "NeMoAutoModelForMultimodalLM",
            "NeMoAutoModelForSeq2SeqLM",
            "NeMoAutoModelForSequenceClassification",
            "NeMoAutoModelForTextToWaveform",
            "NeMoAutoModelForTokenClassification",
        ),
        "automodel.auto.processor": ("build_processor", "save_processor"),
        "automodel.auto.resolution": ("Resolution",),
        "automodel.auto.saving": ("HfFolderReport", "save_hf", "verify_hf"),
        "automodel.auto.sections": ("build_model", "build_tokenizer", "class_that_writes", "resolve_config"),
        "automodel.auto.tokenizer": ("NeMoAutoTokenizer",),
    }

    def __getattr__(name):
        for place, names in _PLACES.items():
            if name in names:
                from importlib import import_module

                value = getattr(import_module(place), name)
                globals()[name] = value
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "HfFolderReport",
    "Inspection",
    "NeMoAutoModelForCausalLM",
    "NeMoAutoModelForImageTextToText",
    "NeMoAutoModelForMultimodalLM",
    "NeMoAutoModelForSeq2SeqLM",
    "NeMoAutoModelForSequenceClassification",
    "NeMoAutoModelForTextToWaveform",
    "NeMoAutoModelForTokenClassification",
    "NeMoAutoTokenizer",
    "Resolution",
    "build_model",
    "build_processor",
    "build_tokenizer",
    "check_weights",
    "class_that_writes",
    "inspect",
    "query_capabilities",
    "resolve_config",
    "save_hf",
    "save_processor",
    "verify_hf",
]
