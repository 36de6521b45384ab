"""Writing a recipe: YAML in the newest dialect, a Python snippet, a command line; each reads back to the same recipe."""

from __future__ import annotations

import io
import json
import pprint
import re
import shlex
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import RoundTripRepresenter

from automodel.recipe.inherit import beyond_train, takes_callable
from automodel.recipe.interpolate import PLACEHOLDER, escape
from automodel.recipe.problems import is_secret, section_of
from automodel.recipe.sections import COMMANDS, DatasetSection, RecipeFields, Section, TargetSection, beside_target
from automodel.recipe.tree import flow

WIDTH = 150
MASK = "***"
_PART = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


class _Representer(RoundTripRepresenter):
    """Writes 1e-05 as 1.0e-05, which YAML 1.1 readers also take for a number."""


def _float(representer: RoundTripRepresenter, value: float) -> ScalarNode:
    text = repr(value)
    mantissa, exponent, rest = text.partition("e")
    text = f"{mantissa}.0e{rest}" if exponent and "." not in mantissa else text
    node: ScalarNode = representer.represent_scalar("tag:yaml.org,2002:float", text)
    return node


_Representer.add_representer(float, _float)


def plain_values(recipe: RecipeFields, *, only_set: bool) -> dict[str, Any]:
    """Return the recipe as plain maps in the form a file has: NeMo's section names, `_target_`, secrets as stars.

    Args:
        recipe: the recipe.
        only_set: leave out what holds only defaults.
    """
    values: dict[str, Any] = {"recipe": recipe.recipe}
    for name in type(recipe).model_fields:
        value = getattr(recipe, name)
        if name == "validation_datasets":
            for key, section in value.items():
                file_key = "validation_dataset" if key == "validation" else f"validation_dataset_{key}"
                values[file_key] = _validation(section, recipe.dataset, only_set=only_set)
        elif isinstance(value, BaseModel):
            optional = type(recipe).model_fields[name].default is None
            inner = _section(value, only_set=only_set)
            if inner or optional:
                values[name] = inner
        elif value is not None and name != "recipe" and (not only_set or name in recipe.model_fields_set):
            values[name] = value
    shown: dict[str, Any] = masked(values)
    return shown


def _section(section: BaseModel, *, only_set: bool) -> dict[str, Any]:
    own = section.target if isinstance(section, TargetSection) else None
    if own is not None and isinstance(section, TargetSection):
        return _own_target(section)
    values: dict[str, Any] = {}
    for name, info in type(section).model_fields.items():
        value = getattr(section, name)
        if only_set and name not in section.model_fields_set:
            continue
        if value is None and info.default is None:
            continue  # absent and null are the same
        if isinstance(value, dict | list) and not value and info.default_factory is not None:
            continue
        values[info.alias or name] = _section(value, only_set=only_set) if isinstance(value, Section) else _plain(value)
    values.update({key: _plain(value) for key, value in (section.model_extra or {}).items()})
    return values


def _validation(section: DatasetSection, train: DatasetSection, *, only_set: bool) -> dict[str, Any]:
    """Write a validation set; what it inherits from the training set is nothing that was set."""
    if only_set and takes_callable(section):
        return {name: _plain(value) for name, value in beyond_train(section, train).items()}
    return _section(section, only_set=only_set)


def _own_target(section: TargetSection) -> dict[str, Any]:
    """Write a callable of the user's own: its arguments beside it as NeMo does, unless that would read back otherwise."""
    fields = {name: _plain(getattr(section, name)) for name in type(section).model_fields if name in section.model_fields_set}
    kwargs = fields.pop("kwargs", {})
    head = {"_target_": section.target}
    fields.pop("target", None)
    known = beside_target(type(section))
    if set(fields) - known or {"_target_", *type(section).model_fields} & set(kwargs):
        return {**head, **fields, "kwargs": kwargs}
    return {**head, **fields, **kwargs}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def masked(value: Any, key: object = "") -> Any:
    """Return values in which each secret is stars, except a `${VAR}` placeholder, which holds no secret."""
    if isinstance(value, dict):
        return {name: masked(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [masked(item, key) for item in value]
    # `add_bos_token: true` is named like a secret and is none.
    if (
        is_secret(key)
        and value is not None
        and not isinstance(value, (bool, int, float))
        and not (isinstance(value, str) and PLACEHOLDER.fullmatch(value))
    ):
        return MASK
    return value


def _escaped(value: Any, key: object = "") -> Any:
    if isinstance(value, dict):
        return {name: _escaped(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_escaped(item, key) for item in value]
    return escape(value) if isinstance(value, str) and not is_secret(key) else value


def to_yaml(recipe: RecipeFields, *, only_set: bool = True, comments: bool = True) -> str:
    """Return the recipe as YAML text in the newest dialect, each section under a comment that says what it is."""
    values = _escaped(plain_values(recipe, only_set=only_set))
    return dump_yaml(values, model=type(recipe) if comments else None)


def dump_yaml(values: dict[str, Any], *, model: type[BaseModel] | None = None) -> str:
    """Return maps as YAML text; with a model, its section docs become comments."""
    top = CommentedMap(values)
    for name in values if model is not None else ():
        known = "dataset" if name.startswith("validation_dataset") else name
        info = model.model_fields.get(known) if model is not None else None
        kind = section_of(info.annotation) if info is not None else None
        text = (kind.__doc__ or "").strip().splitlines()[0] if kind is not None else (info.description if info is not None else None)
        if text and isinstance(values[name], dict):
            top.yaml_set_comment_before_after_key(name, before="\n" + text)
    writer = YAML(typ="rt")
    writer.Representer = _Representer
    writer.width = WIDTH
    writer.default_flow_style = False
    writer.allow_unicode = True
    out = io.StringIO()
    writer.dump(top if values else {}, out)
    return out.getvalue()


def to_python(recipe: RecipeFields, *, run: bool = True) -> str:
    """Return Python that makes the same recipe and, unless told otherwise, runs it in this process."""
    rows = ["import automodel", "", "recipe = automodel.Recipe("]
    for name, value in masked(python_values(recipe)).items():
        rows.append(f"    {name}={_literal(value, indent=4)},")
    rows.append(")")
    if run:
        rows.append("run = automodel.finetune(recipe)")
    return "\n".join(rows) + "\n"


def python_values(recipe: RecipeFields) -> dict[str, Any]:
    """Return what was set, by field names, as keyword arguments of `Recipe`."""
    values: dict[str, Any] = {}
    for name, value in recipe.model_dump(exclude_unset=True).items():
        if value is None or (value == {} and type(recipe).model_fields[name].default is not None):
            continue
        values[name] = value
    for name, section in recipe.validation_datasets.items():
        if takes_callable(section):
            values["validation_datasets"][name] = beyond_train(section, recipe.dataset)
    return values


def _literal(value: Any, *, indent: int) -> str:
    text = pprint.pformat(value, width=WIDTH - 30, sort_dicts=False)
    return text.replace("\n", "\n" + " " * (indent + 4)) if isinstance(value, dict | list | tuple) else repr(value)


def to_command(recipe: RecipeFields, *, config: str | None = "recipe.yaml") -> str:
    """Return the command that runs the recipe: every value that was set is an override.

    Args:
        recipe: the recipe.
        config: file the command names by `-c`; None leaves it out.
    """
    command = next((pair for pair, name in COMMANDS.items() if name == recipe.recipe), ("finetune", "llm"))
    head = " ".join(["automodel", *command]) + (f" -c {shlex.quote(config)}" if config else "")
    return " ".join([head, *(shlex.quote(word) for word in override_words(recipe))])


def override_words(recipe: RecipeFields) -> list[str]:
    """Return the overrides that turn the default recipe into this one, as words of a command line."""
    words: list[str] = []
    values = _escaped(plain_values(recipe, only_set=True))
    if recipe.recipe in COMMANDS.values():
        del values["recipe"]  # the command names it
    for key, value in _leaves(values):
        text = _word(value)
        words += [f"--{key}", text] if text and not text.startswith("-") else [f"--{key}={text}"]
    return words


def _leaves(values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if not isinstance(value, dict) or not value or not all(isinstance(key, str) and _PART.fullmatch(key) for key in value):
            yield name, value
            continue
        for key, item in value.items():
            yield f"{name}.{key}", item


def _word(value: Any) -> str:
    """Return a value as one word that reads back as the same value."""
    if isinstance(value, str):
        same = flow(value, name="") == value and value == value.strip() and value.lower() not in ("", "none", "null", "~") and value.isprintable()
        return value if same else json.dumps(value)
    return json.dumps(value)
