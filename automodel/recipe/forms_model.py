"""Normal form of the model, tokenizer, PEFT and quantisation sections."""

from __future__ import annotations

from typing import Any

from automodel.recipe.aliases import CONFIG_FIELDS, MODEL_CLASSES, MODEL_NOT_HERE, PEFT_IGNORED, PEFT_SPELLINGS
from automodel.recipe.context import KNOWN_ROOTS, NEMO, Context, leaf_of, own_callable, root_of, take_target
from automodel.recipe.problems import Path, nearest
from automodel.recipe.sections import ModelSection, ProcessorSection, TokenizerSection

_MODEL_KEYS = {*ModelSection.model_fields, "dtype", "load_base_model"} - {"target"}


def model(section: dict[str, Any], ctx: Context, path: Path) -> dict[str, Any]:
    """Return a model section (or a teacher's) without dotted paths."""
    target = take_target(section)
    ctx.rename(section, path, "dtype", "torch_dtype")
    if target is None:
        _config(section, ctx, path)
        _backend(section, ctx, path)
        return section
    kind, method = leaf_of(target)
    if root_of(target) not in KNOWN_ROOTS or (kind not in MODEL_CLASSES and root_of(target) not in NEMO):
        if not ctx.allowed(target):
            ctx.refuse((*path, "_target_"), target)
        return own_callable(section, target, ModelSection)
    if kind not in MODEL_CLASSES:
        return own_callable(ctx.plain(section, path), target, ModelSection)
    if method == "from_config" and "config" not in section:
        ctx.rename(section, path, "pretrained_model_name_or_path", "config")
    if section.pop("load_base_model", False) and isinstance(section.get("config"), str):
        ctx.rename(section, path, "config", "pretrained_model_name_or_path")
    _config(section, ctx, path)
    _backend(section, ctx, path)
    _loose_keys(section, ctx, path)
    return section


def _config(section: dict[str, Any], ctx: Context, path: Path) -> None:
    """Unfold `config: {_target_: ...from_pretrained, pretrained_model_name_or_path: X, **changes}`."""
    config = section.get("config")
    if not isinstance(config, dict):
        return
    here = (*path, "config")
    config = dict(config)
    target = take_target(config)
    if target is not None:
        kind, method = leaf_of(target)
        if root_of(target) not in KNOWN_ROOTS:
            ctx.refuse((*here, "_target_"), target)
        elif method != "from_pretrained" and "model_type" not in config:
            ctx.problem(
                (*here, "_target_"),
                "A config class cannot be used by its name alone.",
                found=target,
                expected="transformers.AutoConfig.from_pretrained, or a map with model_type",
                fix=f"write model_type in place of {kind}",
            )
    source = config.pop("pretrained_model_name_or_path", None) or config.pop("name_or_path", None)
    for key in ("trust_remote_code", "revision", "cache_dir", "attn_implementation"):
        if source is not None and key in config:
            section.setdefault(key, config.pop(key))
    changes = ctx.plain(config, here)
    if source is not None:
        section["config"] = source
        ctx.moved[here] = (*here, "pretrained_model_name_or_path")
    elif "model_type" in changes or not section.get("pretrained_model_name_or_path"):
        section["config"] = changes
        return
    else:
        del section["config"]  # beside a model id, a bare map holds changes to that model's config
    if changes:
        section["config_overrides"] = {**changes, **section.get("config_overrides", {})}
        ctx.moved[(*path, "config_overrides")] = here


def _backend(section: dict[str, Any], ctx: Context, path: Path) -> None:
    for key in ("backend", "config_overrides", "kwargs"):
        if isinstance(section.get(key), dict):
            section[key] = ctx.plain(section[key], (*path, key))


def _loose_keys(section: dict[str, Any], ctx: Context, path: Path) -> None:
    """Send config fields written beside a model's `_target_` to config_overrides; a typo stays and is refused later."""
    overrides = dict(section.get("config_overrides") or {})
    for key in [key for key in section if key not in _MODEL_KEYS]:
        if key in MODEL_NOT_HERE:
            ctx.problem(
                (*path, key),
                f"{key} is not set inside model.",
                found=key,
                expected="a section of its own",
                fix="use quantization, fp8, compile or peft",
            )
            section.pop(key)
            continue
        if key not in CONFIG_FIELDS:
            best = nearest(key, _MODEL_KEYS)
            if best and _like(key, best):
                continue
            ctx.warn((*path, key), "not a setting of this library: it is set on the model's config")
        overrides[key] = ctx.plain(section.pop(key), (*path, key))
        ctx.moved[(*path, "config_overrides", key)] = (*path, key)
    if overrides:
        section["config_overrides"] = overrides


def _like(key: str, known: str) -> bool:
    import difflib

    return difflib.SequenceMatcher(None, key.lower(), known.lower()).ratio() > 0.8


def tokenizer(section: dict[str, Any], ctx: Context, path: Path) -> dict[str, Any]:
    """Return a tokenizer section without dotted paths."""
    target = take_target(section)
    if target is None:
        return section
    if root_of(target) not in KNOWN_ROOTS:
        ctx.refuse((*path, "_target_"), target)
    for key in [key for key in section if key not in TokenizerSection.model_fields and not nearest(key, TokenizerSection.model_fields)]:
        ctx.warn((*path, key), "not a setting of the tokenizer here; it has no effect")
        section.pop(key)
    return section


def processor(section: dict[str, Any], ctx: Context, path: Path) -> dict[str, Any]:
    """Return a processor section without dotted paths; further arguments are kept in `kwargs` and passed on."""
    target = take_target(section)
    if target is not None and root_of(target) in NEMO:
        return own_callable(ctx.plain(section, path), target, ProcessorSection)
    if target is not None and root_of(target) not in KNOWN_ROOTS:
        ctx.refuse((*path, "_target_"), target)
    rest = {key: section.pop(key) for key in list(section) if key not in ProcessorSection.model_fields} if target is not None else {}
    if rest or section.get("kwargs"):
        section["kwargs"] = ctx.plain({**rest, **(section.get("kwargs") or {})}, (*path, "kwargs"))
    return section


def peft(section: dict[str, Any], ctx: Context, path: Path) -> dict[str, Any]:
    """Return a PEFT section without dotted paths, in NeMo's names (dim, alpha, dropout)."""
    target = take_target(section)
    if target is not None and not (root_of(target) in KNOWN_ROOTS and leaf_of(target)[0] in ("PeftConfig", "LoraConfig")):
        ctx.refuse((*path, "_target_"), target)
    for old, new in PEFT_SPELLINGS.items():
        ctx.rename(section, path, old, new)
    for key, reason in PEFT_IGNORED.items():
        if section.get(key) is not None:
            ctx.warn((*path, key), f"has no effect: {reason}")
        section.pop(key, None)
    if section.get("target_modules") == "all-linear":
        section.pop("target_modules")
        section["match_all_linear"] = True
    for key in ("target_modules", "exclude_modules"):
        if section.get(key) == []:
            section.pop(key)
    return section


def open_section(section: dict[str, Any], ctx: Context, path: Path) -> dict[str, Any]:
    """Return a section that is kept whole: only its `_target_` names go, and `enable` is read as `enabled`."""
    ctx.rename(section, path, "enable", "enabled")
    kept: dict[str, Any] = ctx.plain(section, path)
    return kept
