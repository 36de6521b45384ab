"""What is wrong with a recipe: problems are collected, placed on their lines, and shown together."""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ValidationError

from automodel.errors import RecipeError
from automodel.recipe.describe import expected_text

Path = tuple[str | int, ...]
SHOWN = 80
# The words of a tokenizer are no tokens of access.
_WORD = re.compile(r"(^|_)(bos|eos|pad|unk|sep|cls|mask|turn)_token$", re.IGNORECASE)
_SECRET = re.compile(r"(^|[_.-])(token|password|passwd|secret|api_?key|apikey|access_?key|authorization|credentials?)$", re.IGNORECASE)

# What people write when they think of a key by another name.
HINTS = {
    "learning_rate": "optimizer.lr",
    "wd": "optimizer.weight_decay",
    "epochs": "step_scheduler.num_epochs",
    "num_train_epochs": "step_scheduler.num_epochs",
    "steps": "step_scheduler.max_steps",
    "batch_size": "step_scheduler.local_batch_size",
    "per_device_train_batch_size": "step_scheduler.local_batch_size",
    "gradient_accumulation_steps": "step_scheduler.global_batch_size",
    "warmup_steps": "lr_scheduler.lr_warmup_steps",
    "max_seq_length": "dataset.seq_length",
    "output_dir": "run.folder",
    "model_name": "model.pretrained_model_name_or_path",
    "model_name_or_path": "model.pretrained_model_name_or_path",
    "gradient_checkpointing": "distributed.activation_checkpointing",
    "max_grad_norm": "clip_grad_norm.max_norm",
}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: `path` leads to it in the normal form, `where` is the file and line (or flag)."""

    path: Path
    what: str
    found: str = ""
    expected: str = ""
    fix: str = ""
    where: str = ""


class RecipeProblems(RecipeError):
    """A recipe with one or more problems; `problems` lists them."""

    def __init__(self, what: str, *, found: str = "", expected: str = "", fix: str = "", problems: tuple[Problem, ...] = ()) -> None:
        super().__init__(what, found=found, expected=expected, fix=fix)
        self.problems = problems


def is_secret(key: object) -> bool:
    """Return whether a key names a secret (hf_token, password, api_key), which is never written out."""
    return isinstance(key, str) and bool(_SECRET.search(key)) and not _WORD.search(key)


def dotted(path: Iterable[str | int]) -> str:
    """Return a path as people write it: a.b.c."""
    return ".".join(str(part) for part in path)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name most like this one, or None when nothing is alike."""
    folded = {item.lower(): item for item in known}
    close = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    return folded[close[0]] if close else None


def problems_error(problems: Sequence[Problem], *, source: str) -> RecipeProblems:
    """Return one error that shows every problem.

    Args:
        problems: at least one.
        source: name of the file, or of what was read.
    """
    unique = list(dict.fromkeys(problems))
    if len(unique) == 1:
        only = unique[0]
        place = f"{only.where}: " if only.where else ""
        error = RecipeProblems(place + only.what, found=only.found, expected=only.expected, fix=only.fix)
    else:
        blocks = [f"{source}: {len(unique)} problems"]
        for number, problem in enumerate(unique, start=1):
            place = f"{problem.where}: " if problem.where else ""
            blocks.append(f"{number}. {place}{problem.what}")
            rows = (("found", problem.found), ("expected", problem.expected), ("fix", problem.fix))
            blocks.extend(f"     {label + ':':<9} {text}" for label, text in rows if text)
        error = RecipeProblems("\n".join(blocks), fix="correct these, then check again with `automodel validate FILE`")
    error.problems = tuple(unique)
    return error


def from_pydantic(error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """Translate pydantic's errors: one problem a field, with the field's own type and range as what was expected."""
    found: dict[Path, Problem] = {}
    for item in error.errors(include_url=False):
        problem = _translate(dict(item), model)
        for one in problem:
            found.setdefault((*one.path, one.what), one)
    return list(found.values())


def _translate(item: dict[str, Any], model: type[BaseModel]) -> list[Problem]:
    inner = item.get("ctx", {}).get("error")
    prefix, owner = _field_path(tuple(item["loc"]), model)
    if isinstance(inner, RecipeProblems):
        return [replace(problem, path=prefix + problem.path) for problem in inner.problems]
    if item["type"] == "extra_forbidden":
        return [unknown_key(prefix, str(item["loc"][-1]), owner, model)]
    if isinstance(inner, ValueError):
        return [Problem(prefix, str(inner), found=shown(item["input"], prefix), fix=f"change {dotted(prefix)}")]
    return [
        Problem(
            prefix,
            f"{dotted(prefix) or 'the recipe'} has a value that does not fit.",
            found=shown(item["input"], prefix),
            expected=expected_text(model, prefix),
            fix=f"set {dotted(prefix)} to such a value, or remove it to take the default",
        )
    ]


def shown(value: object, path: Path) -> str:
    """Return a value as text for a message: short, and stars for secrets."""
    if any(is_secret(part) for part in path):
        return "***"
    if isinstance(value, Mapping):
        value = {key: "***" if is_secret(key) else item for key, item in value.items()}
    text = repr(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def unknown_key(parent: Path, key: str, owner: type[BaseModel] | None, model: type[BaseModel]) -> Problem:
    """Return the problem of a key that the section does not have, with the nearest one that it has."""
    known = key_names(owner) if owner is not None else []
    best, fix = nearest(key, known), ""
    homes = [name for name, info in model.model_fields.items() if (kind := section_of(info.annotation)) and key in key_names(kind)]
    if not best and key in HINTS:
        fix = f"did you mean {HINTS[key]}?"
    elif not best and homes:
        fix = f"{key} belongs to {' or '.join(homes)}"
    elif best:
        fix = f"did you mean {dotted((*parent, best))}?"
    where = dotted(parent) or "the recipe"
    return Problem(
        (*parent, key),
        f"Unknown key {dotted((*parent, key))}.",
        found=key,
        expected=f"a key of {where}: {', '.join(known)}",
        fix=fix or "remove it; docs/recipe-reference.md lists every key",
    )


def key_names(owner: type[BaseModel]) -> list[str]:
    """Return the keys of a section as they are written in a file."""
    return [info.alias or name for name, info in owner.model_fields.items()]


def section_of(annotation: object) -> type[BaseModel] | None:
    """Return the section class inside an annotation such as `PeftSection | None`, if there is one."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in typing.get_args(annotation):
        if typing.get_origin(annotation) is not dict and (found := section_of(part)):
            return found
    return None


def _field_path(loc: Path, model: type[BaseModel]) -> tuple[Path, type[BaseModel] | None]:
    """Cut pydantic's location after the field it is about: what follows are names of union branches."""
    path: Path = ()
    current: type[BaseModel] | None = model
    for part in loc:
        if current is None:
            break
        fields = {info.alias or name: info for name, info in current.model_fields.items()} | current.model_fields
        if part not in fields:
            break
        path, annotation = (*path, part), fields[str(part)].annotation
        current = section_of(annotation)
        if typing.get_origin(annotation) is dict and len(loc) > len(path) and (inner := section_of(typing.get_args(annotation)[1])):
            path, current = (*path, loc[len(path)]), inner
            return _nested(path, loc, inner)
    return path, current


def _nested(path: Path, loc: Path, owner: type[BaseModel]) -> tuple[Path, type[BaseModel] | None]:
    rest, inner = _field_path(loc[len(path) :], owner)
    return path + rest, inner
