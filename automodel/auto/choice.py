"""Which class serves a config: a registered one of this package or a user's, else that of transformers; every refusal has its reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from automodel.archs.base import Architecture
from automodel.auto.options import Options
from automodel.auto.resolution import Resolution
from automodel.errors import ModelError
from automodel.registry import ModelRegistry, load_target, refusal


def choose(auto: Any, config: Any, options: Options, *, rest: Mapping[str, Any]) -> tuple[Resolution, type | None]:
    """Choose between a registered class and that of transformers.

    Args:
        auto: the auto class of transformers that was asked for.
        config: the config.
        options: own keyword arguments.
        rest: those of transformers.

    Returns:
        The record of the choice, and the registered class, or None for transformers' own.

    Raises:
        ModelError: the registered class refuses the config and transformers has none either.
    """
    entry = find(config)
    reasons: list[str] = []
    refused = _refused(entry, auto, config, options, rest)
    if entry is not None and refused is None:
        cls = _class_of(entry)
        if entry.spec is not None:
            reasons.append(f"{entry.name} is a native decoder ({entry.source})")
        else:
            reasons.append(f"{entry.name} is registered ({entry.source})")
        return Resolution(implementation="native", class_name=cls.__name__, reasons=reasons), cls
    why = refused or f"no own class is registered for {_name(config) or getattr(config, 'model_type', 'this model')}"
    if entry is not None and not in_transformers(auto, config, trust_remote_code=bool(rest.get("trust_remote_code"))):
        raise _nobody(entry, why, auto)
    return Resolution(implementation="hf", class_name="", reasons=[why]), None


def find(config: Any) -> Architecture | None:
    """Return the registered architecture of a config: by its name where that belongs to the model_type, else by the model_type."""
    kind, name = getattr(config, "model_type", None) or None, _name(config)
    found = ModelRegistry.find(name=name, model_type=kind)
    if found is None or (name in (found.name, *found.also) and found.model_type in (None, kind)):
        return found  # an entry without a type serves every config that names it
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    # Several architectures may share a type, and transformers may build a type with the class of another and write down that class's name.
    usual = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(kind or "")
    by_type = ModelRegistry.find(model_type=kind)
    if usual is not None and by_type is not None and by_type.name != usual and usual in ModelRegistry and ModelRegistry.get(usual).model_type == kind:
        return ModelRegistry.get(usual)
    return by_type


def in_transformers(auto: Any, config: Any, *, trust_remote_code: bool) -> bool:
    """Say whether transformers could build this config for the task: with a class of its own, or with allowed code of the repository."""
    return _own_code(auto, config, allowed=trust_remote_code) or type(config) in auto._model_mapping


def _own_code(auto: Any, config: Any, *, allowed: bool) -> bool:
    return allowed and auto.__name__ in (getattr(config, "auto_map", None) or {})


def _name(config: Any) -> str | None:
    names = getattr(config, "architectures", None) or []
    return names[0] if names else None


def _refused(entry: Architecture | None, auto: Any, config: Any, options: Options, rest: Mapping[str, Any]) -> str | None:
    """Say why the registered class is not taken, or return None; also None when there is no registered class."""
    if options.force_hf:
        return "force_hf asks for transformers' own class"
    if options.quantization_config is not None:
        return "a quantized load always takes transformers' own class"
    if entry is None:
        return None
    task = auto.__name__.removeprefix("AutoModel")
    own_task = "ForCausalLM" if entry.spec is not None else entry.name if "For" in entry.name else task
    if not own_task.endswith(task):
        return f"the registered {entry.name} is for another task than {task}"
    if (
        rest.get("trust_remote_code")
        and auto.__name__ in (getattr(config, "auto_map", None) or {})
        and _name(config) not in (entry.name, *entry.also)
    ):
        return f"trust_remote_code is set and {_name(config)} has code of its own"
    if entry.unverified is not None and not options.allow_unverified:
        return f"{entry.name} has not been compared with its reference ({entry.unverified}); allow_unverified=True takes it all the same"
    reason = refusal(entry, config)
    if reason is not None:
        return f"the registered {entry.name} refuses this config: {reason}"
    return _loader_reason(entry, rest) or _quantized(config)


def _loader_reason(entry: Architecture, rest: Mapping[str, Any]) -> str | None:
    from transformers import PreTrainedModel

    if entry.spec is None and issubclass(load_target(entry), PreTrainedModel):
        return None
    from automodel.auto.native.files import needs_transformers

    return needs_transformers(rest)


def _quantized(config: Any) -> str | None:
    return None if getattr(config, "quantization_config", None) is None else "the weights are stored quantized, which transformers' own class reads"


def _class_of(entry: Architecture) -> type:
    from transformers import PreTrainedModel

    cls = load_target(entry)
    if issubclass(cls, PreTrainedModel):
        return cls
    from automodel.auto.native.wrap import wrapped_class

    return wrapped_class(entry)


def _nobody(entry: Architecture, why: str, auto: Any) -> ModelError:
    import transformers

    found = f"{why}; transformers {transformers.__version__} has no {auto.__name__.removeprefix('Auto')} for model_type {entry.model_type}"
    fixes = {
        "allow_unverified": "pass allow_unverified=True",
        "force_hf": "leave force_hf out",
        "quantized": "take a checkpoint in float",
    }
    fix = next((text for word, text in fixes.items() if word in why), "change that value of the config, or leave that argument out")
    return ModelError(f"{entry.name} cannot be built so", found=found, expected="what an implementation computes", fix=fix)
