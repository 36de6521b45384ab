"""Reading YAML text into plain values, each with its line; nothing is constructed but maps, lists, text and numbers."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from automodel.errors import RecipeError
from automodel.recipe.problems import Path

MAX_BYTES = 1_000_000
MAX_NODES = 20_000
MAX_DEPTH = 40
_CORE = "tag:yaml.org,2002:"
_PLAIN = ("str", "int", "float", "bool", "null", "timestamp", "map", "seq", "merge")
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS = {"true": True, "false": False, "null": None, "~": None}


@dataclass
class Tree:
    """The values of a file, and the line of each."""

    data: dict[str, Any]
    name: str = "recipe"
    lines: dict[Path, int] = field(default_factory=dict)


def parse_text(text: str, *, name: str) -> Tree:
    """Read one YAML document whose top is a map.

    Raises:
        RecipeError: not YAML, not a map, a repeated key, a tag, or a file that unfolds into too much.
    """
    if len(text) > MAX_BYTES:
        raise _too_much(name, f"{len(text):,} characters", f"at most {MAX_BYTES:,}")
    try:
        node = YAML(typ="rt").compose(text)
    except MarkedYAMLError as error:
        raise _not_yaml(name, error) from error
    except (YAMLError, RecursionError) as error:
        raise RecipeError(
            f"{name} cannot be read as YAML.", found=str(error).splitlines()[0][:200], expected="one YAML map", fix="correct the file"
        ) from error
    if node is None:
        return Tree({}, name)
    tree = Tree({}, name)
    value = _Builder(tree).value(node, ())
    if not isinstance(value, dict):
        raise RecipeError(
            f"{name} is not a recipe.", found=f"a {type(value).__name__}", expected="a map of sections", fix="see examples/sft_guide.yaml"
        )
    tree.data = value
    return tree


def scalar(text: str) -> Any:
    """Return the value of unquoted text: a number, true, false, null, or the text itself."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _INT.fullmatch(text) and len(text) < 100:
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) and not text.isdigit() else text


def flow(text: str, *, name: str) -> Any:
    """Return the value of an override: a list, a map or quoted text in YAML or JSON, else `scalar`."""
    if text[:1] not in ("[", "{", '"', "'"):
        return scalar(text)
    try:
        return json.loads(text)
    except ValueError:
        pass  # not JSON: it may still be YAML, such as [a, b]
    try:
        node = YAML(typ="rt").compose(text)
    except (YAMLError, RecursionError):
        return text  # plain text that happens to begin like a list, such as "[INST] {question}"
    return _Builder(Tree({}, name)).value(node, ())


def _not_yaml(name: str, error: MarkedYAMLError) -> RecipeError:
    mark = error.problem_mark or error.context_mark
    line = f":{mark.line + 1}" if mark is not None else ""
    found = " ".join(str(part) for part in (error.context, error.problem) if part)
    return RecipeError(
        f"{name}{line}: this is not valid YAML.",
        found=found,
        expected="YAML: `key: value`, indented by spaces",
        fix="correct the line, or the one above it",
    )


def _too_much(name: str, found: str, expected: str) -> RecipeError:
    return RecipeError(
        f"{name} holds far more than a recipe can.", found=found, expected=expected, fix="remove aliases that repeat each other, or nested blocks"
    )


class _Builder:
    """Turn nodes into values, counting each visit so that aliases cannot multiply without end."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.visits = 0

    def value(self, node: Node, path: Path) -> Any:
        self.visits += 1
        if self.visits > MAX_NODES:
            raise _too_much(self.place(node), "aliases that unfold into too many values", f"at most {MAX_NODES:,} values")
        if len(path) > MAX_DEPTH:
            raise _too_much(self.place(node), "blocks nested too deeply, or an alias inside itself", f"at most {MAX_DEPTH} levels")
        kind = str(node.tag).removeprefix(_CORE)
        if kind not in _PLAIN or not str(node.tag).startswith(_CORE):
            raise RecipeError(
                f"{self.place(node)}: YAML tags are not allowed.",
                found=str(node.tag),
                expected="plain maps, lists, text and numbers",
                fix="remove the tag",
            )
        self.tree.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, MappingNode):
            return self.mapping(node, path)
        if isinstance(node, SequenceNode):
            return [self.value(item, (*path, number)) for number, item in enumerate(node.value)]
        return self.scalar(node, kind)

    def place(self, node: Node) -> str:
        return f"{self.tree.name}:{node.start_mark.line + 1}"

    def mapping(self, node: MappingNode, path: Path) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: list[Node] = []
        for key_node, value_node in node.value:
            if str(key_node.tag) == _CORE + "merge":
                merged += value_node.value if isinstance(value_node, SequenceNode) else [value_node]
                continue
            key = self.key(key_node)
            if key in own:
                raise RecipeError(
                    f"{self.place(key_node)}: the key {key} is given twice.",
                    found=f"also on line {self.tree.lines[(*path, key)]}",
                    expected="each key once in a block",
                    fix="remove one of the two",
                )
            self.tree.lines[(*path, key)] = key_node.start_mark.line + 1
            own[key] = self.value(value_node, (*path, key))
        for source in merged:
            found = self.value(source, path)
            if not isinstance(found, dict):
                raise RecipeError(
                    f"{self.place(source)}: only a map can be merged in.", found=repr(found), expected="<<: *name_of_a_map", fix="correct the alias"
                )
            own = {**own, **{key: value for key, value in found.items() if key not in own}}
        return own

    def key(self, node: Node) -> str:
        if not isinstance(node, ScalarNode):
            raise RecipeError(f"{self.place(node)}: a key must be text.", found="a list or a map", expected="key: value", fix="quote it")
        return str(node.value)

    def scalar(self, node: Node, kind: str) -> Any:
        text = str(node.value)
        if kind == "int":
            return _integer(text)
        if kind == "float":
            return _floating(text)
        if kind == "bool":
            return text.lower() == "true"
        return None if kind == "null" else text


def _integer(text: str) -> int | str:
    digits = text.replace("_", "")
    try:
        return int(digits, 10) if digits.lstrip("+-").isdigit() else int(digits, 0)
    except ValueError:
        return text


def _floating(text: str) -> float | str:
    word = text.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan")
    try:
        return float(word)
    except ValueError:
        return text
