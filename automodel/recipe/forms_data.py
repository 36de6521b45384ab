"""Normal form of the dataset, dataloader and packing sections."""

from __future__ import annotations

from typing import Any

from automodel.recipe.aliases import COLLATERS_DROPPED, DATASET_IGNORED, DATASET_SPELLINGS, DATASETS, PACKING_OPTIONS, SQUAD_HUB
from automodel.recipe.context import KNOWN_ROOTS, NEMO, Context, leaf_of, own_callable, root_of, take_target
from automodel.recipe.problems import Path
from automodel.recipe.sections import DatasetSection

_KINDS = ("squad", "column_mapped", "text", "mock", "chat", "hellaswag", "seq_cls")
_LATER = ("hellaswag", "seq_cls")  # kinds whose other arguments are kept whole


def dataset(section: dict[str, Any], ctx: Context, path: Path) -> dict[str, Any]:
    """Return a dataset section without dotted paths: `name` says which kind of data it is."""
    target = take_target(section)
    kind = None
    if target is not None and ctx.overridden((*path, "name")) and section.get("name") in _KINDS:
        target = None  # the command line chose another kind
    if target is not None:
        kind = DATASETS.get(leaf_of(target)[0]) if root_of(target) in NEMO else None
        if kind is None:
            return _own(section, ctx, path, target)
        ctx.rename(section, path, "name", "subset")
        section["name"] = kind
    for old, new in DATASET_SPELLINGS.items():
        ctx.rename(section, path, old, new)
    for key, reason in DATASET_IGNORED.items():
        if key in section:
            ctx.warn((*path, key), f"has no effect: {reason}")
            section.pop(key)
    _words(section, ctx, path)
    if kind == "squad":
        section["path_or_dataset"] = SQUAD_HUB if section.get("path_or_dataset") in (None, "squad") else section["path_or_dataset"]
    if kind in _LATER:
        rest = {key: ctx.plain(section.pop(key), (*path, key)) for key in list(section) if key not in DatasetSection.model_fields}
        section["kwargs"] = {**rest, **(section.get("kwargs") or {})}
    return section


def _own(section: dict[str, Any], ctx: Context, path: Path, target: str) -> dict[str, Any]:
    """Keep a callable of the user's own, or one of NeMo's that is not built here, with all its arguments."""
    if root_of(target) not in NEMO and not ctx.allowed(target):
        ctx.refuse((*path, "_target_"), target)
    return own_callable(ctx.plain(section, path), target, DatasetSection)


def _words(section: dict[str, Any], ctx: Context, path: Path) -> None:
    """Read the tokenizers' own words for padding and truncation."""
    if "pad_to_max_length" in section:
        section["padding"] = "max_length" if section.pop("pad_to_max_length") in (True, "true") else False
        ctx.moved[(*path, "padding")] = (*path, "pad_to_max_length")
    if section.get("padding") in ("do_not_pad", "longest", True):
        section["padding"] = False
    if section.get("truncation") == "do_not_truncate":
        section["truncation"] = False
    elif section.get("truncation") in ("longest_first", "only_first", "only_second"):
        section["truncation"] = True


def lift_tokenizer(data: dict[str, Any], section: dict[str, Any], ctx: Context, path: Path) -> None:
    """Move a tokenizer given inside a dataset to the top level, where it also serves generation and saving."""
    inner = section.pop("tokenizer", None)
    if not isinstance(inner, dict | str) or str(inner).lower() in ("none", "null", ""):
        return
    given = {"pretrained_model_name_or_path": inner} if isinstance(inner, str) else inner
    top = data.get("tokenizer")
    if top is None:
        data["tokenizer"] = dict(given)
        ctx.moved[("tokenizer",)] = (*path, "tokenizer")
        return
    same = top if isinstance(top, str) else top.get("pretrained_model_name_or_path")
    if given.get("pretrained_model_name_or_path") != same:
        ctx.problem(
            (*path, "tokenizer"),
            "The recipe names two tokenizers.",
            found=f"{given.get('pretrained_model_name_or_path')} and {same}",
            expected="one tokenizer for training, validation and saving",
            fix="name it once, in the section `tokenizer`",
        )


def dataloader(section: dict[str, Any], ctx: Context, path: Path) -> dict[str, Any]:
    """Return a dataloader section: the loader's class and the default collate functions are always our own."""
    target = take_target(section)
    if target is not None and root_of(target) not in KNOWN_ROOTS:
        ctx.refuse((*path, "_target_"), target)
    section.pop("dataset", None)
    for key in ("dataloader_type", "shuffle_buffer_size"):
        if section.pop(key, None) is not None:
            ctx.warn((*path, key), "has no effect: order and buffering are decided by shuffle and seed")
    collate = section.pop("collate_fn", None)
    if isinstance(collate, dict):
        collate = dict(collate)
        name = take_target(collate) or ""
        if collate.get("pad_seq_len_divisible") is not None:
            section.setdefault("pad_seq_len_divisible", collate["pad_seq_len_divisible"])
        collate = name
    if collate is None or str(collate).lower() in ("none", "null", ""):
        return section
    kind = leaf_of(str(collate))[0]
    if root_of(collate) not in KNOWN_ROOTS and kind not in COLLATERS_DROPPED:
        ctx.problem(
            (*path, "collate_fn"),
            "A collate function of your own cannot be named in a recipe.",
            found=str(collate),
            expected="no collate_fn: rows are filled and stacked by this library",
            fix="remove it, and do the work in a dataset of your own (`dataset._target_`)",
        )
    elif kind not in COLLATERS_DROPPED:
        ctx.warn((*path, "collate_fn"), f"{kind} is not used: rows are filled and stacked by this library, and packing by packed_sequence")
    return section


def packed_sequence(section: dict[str, Any], ctx: Context, path: Path) -> dict[str, Any]:
    """Return a packing section; settings that only other packers have are kept in `options`."""
    if section.pop("split_across_pack", None) is not None:
        ctx.warn((*path, "split_across_pack"), "has no effect: rows are never split")
    if section.get("packed_sequence_size") is None and section.get("pack_size") is not None:
        ctx.rename(section, path, "pack_size", "packed_sequence_size")
    return keep_options(section, ctx, path, PACKING_OPTIONS)


def keep_options(section: dict[str, Any], ctx: Context, path: Path, known: set[str]) -> dict[str, Any]:
    """Move known settings that have no effect here to `options`, with a warning for each that is set to something."""
    options = dict(section.get("options") or {})
    for key in [key for key in section if key in known]:
        value = section.pop(key)
        if value is None or str(value).lower() in ("none", "null"):
            continue
        if value is not False:
            ctx.warn((*path, key), "is kept in `options` but has no effect here")
        options[key] = ctx.plain(value, (*path, key))
        ctx.moved[(*path, "options", key)] = (*path, key)
    if options:
        section["options"] = options
    return section
