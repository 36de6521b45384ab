"""What can be done with a model, asked by id, folder, config, class or model."""

from __future__ import annotations

from typing import Any

from automodel.archs.abilities import NOT_BUILT, Capabilities, capabilities_of
from automodel.archs.config import Config
from automodel.spec import DecoderSpec


def query_capabilities(target: Any) -> Capabilities:
    """Return the capability flags of a model.

    Args:
        target: hub id, folder, config (object, mapping or file), model class, or a built model.

    Raises:
        ModelError: the target is neither found nor known.
    """
    spec = getattr(target, "spec", None)
    if isinstance(spec, DecoderSpec):
        return capabilities_of(spec)
    if isinstance(target, type) or hasattr(target, "forward"):
        return _of_class(target if isinstance(target, type) else type(target))
    return _of_config(target)


def _of_config(target: Any) -> Capabilities:
    from transformers import AutoModelForCausalLM
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    from automodel.auto import choice
    from automodel.auto.configs import load_config
    from automodel.auto.options import read_options

    config, _ = load_config(target if not hasattr(target, "__fspath__") else str(target), overrides={}, hub={}, trust_remote_code=False)
    resolution, _ = choice.choose(AutoModelForCausalLM, config, read_options({"allow_unverified": True}), rest={})
    entry = choice.find(config)
    if resolution.implementation == "native" and entry is not None and entry.spec is not None:
        return capabilities_of(entry.spec(Config(config)))
    found: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    return _of_class(found[0] if isinstance(found, tuple) else found)


def _of_class(cls: type | None) -> Capabilities:
    """Return the flags of a class of transformers, or of a native one without a config (the flags of a plain decoder)."""
    entry = getattr(cls, "entry", None)
    if entry is not None and entry.spec is not None:
        return capabilities_of(entry.spec(Config({**(entry.config.fields if entry.config else {}), **entry.tiny})))
    why = dict.fromkeys(("tp", "sp", "cp", "pp", "ep"), NOT_BUILT)
    why |= {"packing": "the class of transformers builds a mask over the whole row", "qlora": "bitsandbytes is looked for when it is used"}
    generate = cls is not None and bool(getattr(cls, "can_generate", lambda: False)())
    checkpointing = bool(getattr(cls, "supports_gradient_checkpointing", False))
    if not generate:
        why["generate"] = "the class does not generate"
    if not checkpointing:
        why["gradient_checkpointing"] = "the class does not support it"
    return Capabilities(packing=False, generate=generate, gradient_checkpointing=checkpointing, why=tuple(why.items()))
