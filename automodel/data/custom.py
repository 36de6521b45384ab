"""Own data sets: a callable named by `_target_` gives rows of `input_ids` and `labels`.

Whether the target may be imported is decided where the recipe is read (the allow-list); here it is called.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from automodel.data.dataset import Builder, Ints, TokenizedDataset
from automodel.data.encode import IGNORED, Encoded
from automodel.data.lengths import row_length, truncates
from automodel.errors import DataError
from automodel.recipe.schema import DatasetSection

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Settings that are applied here when the target does not take them.
_OURS = {"target", "kwargs", "name", "limit_dataset_samples", "seq_length", "truncation", "padding"}


def build_custom(section: DatasetSection, tokenizer: PreTrainedTokenizerBase, *, role: str, keep_text: bool) -> TokenizedDataset:
    """Call the target and gather its rows; labels are aligned with the tokens (not shifted), -100 where not trained."""
    assert section.target is not None
    rows = _call(section.target, _arguments(section, _load(section.target), tokenizer))
    builder = Builder(limit=section.seq_length, keep_text=keep_text, template="plain")
    cut = truncates(section)
    for number, row in enumerate(islice(rows, section.limit_dataset_samples), start=1):
        builder.rows_read += 1
        ids, labels = _row(section.target, number, row)
        size = len(ids)
        if section.seq_length is not None and cut:
            ids, labels = ids[: section.seq_length], labels[: section.seq_length]
        trained = np.flatnonzero(labels != IGNORED)
        start = int(trained[0]) if len(trained) else len(ids)
        texts = (str(tokenizer.decode(ids[:start].tolist())), str(tokenizer.decode(ids[trained].tolist()))) if keep_text else ("", "")
        builder.add(Encoded(ids, labels, start, len(ids) < size), prompt=texts[0], answers=texts[1:])
    return builder.finish(role=role, row_length=row_length(section))


def _load(target: str) -> Callable[..., Any]:
    module, _, name = target.replace(":", ".").rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, ValueError, AttributeError) as error:
        raise DataError(
            f"The data set target cannot be imported: {target}.",
            found=f"{type(error).__name__}: {error}",
            expected="the dotted path of a function or class, in a module that Python finds",
            fix="check the path; a module in the current folder needs PYTHONPATH=.",
        ) from error
    if not callable(found):
        raise DataError(
            f"The data set target cannot be called: {target}.", found=type(found).__name__, expected="a function or class", fix="name a callable"
        )
    called: Callable[..., Any] = found
    return called


def _arguments(section: DatasetSection, target: Callable[..., Any], tokenizer: PreTrainedTokenizerBase) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Collect keyword arguments: `kwargs`, the tokenizer where it is asked for, and the settings that were written in the section."""
    parameters = inspect.signature(target).parameters
    takes_all = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    arguments = dict(section.kwargs)
    for key in sorted(section.model_fields_set - set(arguments)):
        if key in parameters or (takes_all and key not in _OURS):
            arguments[key] = getattr(section, key)
        elif key not in _OURS:
            raise DataError(
                f"The data set target does not take '{key}'.",
                found=f"{section.target}{inspect.signature(target)}",
                expected="settings that the target has as arguments",
                fix=f"remove `{key}` from the dataset section, or add the argument",
            )
    if "tokenizer" in parameters and "tokenizer" not in arguments:
        arguments["tokenizer"] = tokenizer
    return target, arguments


def _call(name: str, call: tuple[Callable[..., Any], dict[str, Any]]) -> Iterable[Any]:
    target, arguments = call
    try:
        inspect.signature(target).bind(**arguments)
    except TypeError as error:
        raise DataError(
            f"The data set target was given the wrong arguments: {name}.",
            found=str(error),
            expected=f"{name}{inspect.signature(target)}",
            fix="write its arguments in the dataset section, or under `kwargs`",
        ) from error
    rows = target(**arguments)
    if isinstance(rows, Iterable):
        return rows
    if hasattr(rows, "__getitem__") and hasattr(rows, "__len__"):
        return (rows[index] for index in range(len(rows)))
    raise DataError(
        f"The data set target gave no rows: {name}.",
        found=type(rows).__name__,
        expected="a list, an iterable or a map-style data set",
        fix="return rows",
    )


def _row(name: str, number: int, row: object) -> tuple[Ints, Ints]:
    if not isinstance(row, Mapping) or "input_ids" not in row or "labels" not in row:
        raise DataError(
            f"A row of {name} has not both input_ids and labels (row {number}).",
            found=", ".join(map(str, row)) if isinstance(row, Mapping) else type(row).__name__,
            expected='{"input_ids": [...], "labels": [...]}, labels aligned with input_ids and -100 where not trained',
            fix="return both, of equal length",
        )
    ids, labels = np.asarray(row["input_ids"], dtype=np.int32), np.asarray(row["labels"], dtype=np.int32)
    if ids.ndim != 1 or ids.shape != labels.shape:
        raise DataError(
            f"input_ids and labels of a row of {name} do not fit together (row {number}).",
            found=f"shapes {list(ids.shape)} and {list(labels.shape)}",
            expected="two flat lists of the same length",
            fix="return one label for each token: -100 where not trained",
        )
    if "attention_mask" in row:
        real = np.asarray(row["attention_mask"], dtype=bool)
        # Padding is added again when rows meet in a batch, to the length that the batch needs.
        ids, labels = ids[real], labels[real]
    return ids, labels
