"""A recipe as text, both ways: YAML, a command, Python. Text that does not fit raises an error with its line, and nothing is run or imported."""

from __future__ import annotations

import ast
import copy
import io
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

import automodel
from automodel.errors import RecipeError
from automodel.recipe import Recipe, as_loaded, load_recipe
from automodel.recipe.dump import MASK, dump_yaml, masked, plain_values
from automodel.recipe.read import Reading, build, read_tree
from automodel.recipe.sections import COMMANDS
from automodel.recipe.tree import Tree, parse_text

SOURCE = "line"
DEMO = "automodel/demo/"
_NAMES = r"(?:token|password|passwd|secret|api_?key|access_?key|authorization|credentials?)"
_SECRET = re.compile(
    rf"""((?:(?:^|[\s{{,'"._-]){_NAMES}['"]?\s*[:=]\s*|--\S*{_NAMES}[ =]))(['"]?)(?!\$\{{|true\b|false\b|null\b|none\b|['"])[^\s'",}}]+""",
    re.IGNORECASE | re.MULTILINE,
)
# Words of a command that are about how a job is started, with the number of words that follow.
_STARTING = {"--nproc-per-node": 1, "--nproc_per_node": 1, "--nodes": 1, "--devices": 1, "--runs-root": 1, "--detach": 0, "--json": 0, "--debug": 0}
# The name under which `to_command` speaks of the file: every value is an override beside it.
_PLACEHOLDER = "recipe.yaml"


@dataclass(frozen=True)
class Read:
    """What a text holds: the sections, and what to know about it."""

    data: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def sections(recipe: Any) -> dict[str, Any]:
    """Return the sections of a recipe in whatever form it is handed over: None, a Recipe, a map, or a YAML file."""
    if recipe is None:
        return {}
    if isinstance(recipe, Recipe):
        return plain_values(recipe, only_set=True)
    if isinstance(recipe, Mapping):
        return _normal(recipe)
    loaded = load_recipe(recipe) if isinstance(recipe, (str, Path)) else as_loaded(recipe)
    made: dict[str, Any] = demo_paths(_read(loaded.reading, loaded.recipe).data)
    return made


def _normal(recipe: Mapping[str, Any]) -> dict[str, Any]:
    written = _folded(recipe)
    if _is_normal(written):
        return written
    loaded = as_loaded(recipe)
    return _read(loaded.reading, loaded.recipe).data


def demo_paths(value: Any) -> Any:
    """Return values in which what the package ships is named by its place on this machine."""
    if isinstance(value, dict):
        return {key: demo_paths(item) for key, item in value.items()}
    if isinstance(value, str) and value.startswith(DEMO):
        return str(Path(automodel.__file__).parents[1] / value)
    return value


# Writing.


def to_yaml(data: Mapping[str, Any]) -> str:
    """Return sections as YAML, each under a comment that says what it is; secrets are stars."""
    return dump_yaml(_starred(dict(data)), model=Recipe) if data else ""


def revised(text: str, data: Mapping[str, Any]) -> str:
    """Return a YAML text changed to hold these sections; comments and order stay where they can."""
    wanted = _starred(dict(data))
    parser = YAML(typ="rt")
    parser.preserve_quotes, parser.width = True, 150
    out = io.StringIO()
    try:
        document = parser.load(text)
        if isinstance(document, CommentedMap):
            _merge(document, wanted)
            parser.dump(document, out)
        if out.getvalue() and parse_text(out.getvalue(), name=SOURCE).data == wanted:
            return out.getvalue()
    except (YAMLError, RecipeError):
        pass  # a text that cannot be changed in place is written anew
    return to_yaml(data)


def _merge(document: CommentedMap, wanted: Mapping[str, Any]) -> None:
    for key in [key for key in document if key not in wanted]:
        del document[key]
    for key, value in wanted.items():
        now = document.get(key)
        if isinstance(now, CommentedMap) and isinstance(value, dict):
            _merge(now, value)
        elif key not in document or now != value or type(value) is bool or type(now) is bool:
            document[key] = value


# Reading.


def from_yaml(text: str) -> Read:
    """Read YAML of any dialect.

    Raises:
        RecipeError: every problem with its line and the nearest key.
    """
    if not text.strip():
        return Read({})
    reading = read_tree(parse_text(text, name=SOURCE))
    return _read(reading, build(Recipe, reading))


def from_command(text: str) -> Read:
    """Read a command line; a file that it names is read too, unless it is the one that stands for this form.

    Raises:
        RecipeError: it is no command of ours, or its overrides do not fit.
    """
    try:
        words = shlex.split(text.strip().removeprefix("$ ").replace("\\\n", " "), comments=True)
    except ValueError as error:
        raise RecipeError("The command cannot be read.", found=str(error), expected="matching quotes", fix="close the quotes") from error
    if words[:1] != ["automodel"]:
        found, example = text.strip()[:80] or "nothing", "automodel finetune llm -c recipe.yaml --optimizer.lr 1e-4"
        raise RecipeError("This is not an automodel command.", found=found, expected=example, fix="copy the whole line, from `automodel` on")
    meant = COMMANDS.get((words[1], words[2])) if len(words) > 2 else None
    file, overrides = _parted(words[3 if meant else 1 :])
    notes, tree = [], Tree({}, "command")
    if file is not None and Path(file).name != _PLACEHOLDER:
        tree = parse_text(Path(file).read_text(encoding="utf-8"), name=file) if Path(file).is_file() else tree
        notes.append(f"{file} was read, and the overrides set in it." if tree.data else f"{file} is not here: only the overrides were taken.")
    reading = read_tree(tree, overrides=overrides, default_recipe=meant)
    made = _read(reading, build(Recipe, reading))
    data = {"recipe": meant, **made.data} if meant else made.data
    return Read(data, [*notes, *made.notes])


def _parted(words: list[str]) -> tuple[str | None, list[str]]:
    """Return the recipe file and the overrides of a command's words."""
    file, overrides, rest = None, list[str](), list(words)
    while rest:
        word = rest.pop(0)
        name, equals, _ = word.partition("=")
        if word in ("-c", "--config"):
            file = rest.pop(0) if rest else None
        elif name in _STARTING:
            del rest[: 0 if equals else _STARTING[name]]
        elif not word.startswith("-") and file is None and not overrides:
            file = word
        else:
            overrides.append(word)
            if word.startswith("--") and not equals and rest and not rest[0].startswith("--"):
                overrides.append(rest.pop(0))
    return file, overrides


def from_python(text: str) -> Read:
    """Read the call of `Recipe(...)` in Python text, by its literals alone: nothing of it is run.

    Raises:
        RecipeError: the text holds no such call, or values that are no literals.
    """
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise RecipeError(f"{SOURCE}:{error.lineno}: this is not valid Python.", found=str(error.msg), fix="correct the line") from error
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Recipe", "automodel.Recipe")]
    if len(calls) != 1:
        raise RecipeError(
            "The text holds no recipe." if not calls else "The text holds several recipes.",
            found=f"{len(calls)} calls of Recipe(...)",
            expected="recipe = automodel.Recipe(model={...}, ...)",
            fix="give one call, with maps, lists, text and numbers",
        )
    reading = read_tree(Tree(dict(_arguments(calls[0])), "Python"))
    return _read(reading, build(Recipe, reading))


def _arguments(call: ast.Call) -> Iterator[tuple[str, Any]]:
    for one in [*[ast.keyword(None, value, lineno=value.lineno) for value in call.args], *call.keywords]:
        try:
            if one.arg is None:
                raise ValueError("not named")
            yield one.arg, _plain(ast.literal_eval(one.value))
        except (ValueError, TypeError, SyntaxError, RecursionError) as error:
            raise RecipeError(
                f"{SOURCE}:{one.lineno}: only literal values can be read.",
                found=ast.unparse(one)[:80],
                expected="name={...} with maps, lists, text and numbers",
                fix="write the value out",
            ) from error


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple, set)) else value


# The form that panels share: sections by the schema's names, as the user wrote them where that is possible.


def _read(reading: Reading, recipe: Recipe) -> Read:
    written = _folded(reading.user)
    if _is_normal(written):
        data = written
    else:
        data = plain_values(recipe, only_set=True)
        own = {name: set(section) for name, section in written.items() if name.startswith("validation_dataset") and isinstance(section, dict)}
        for name, kept in own.items():
            if name in data:  # what a set takes over from the training set is not said twice
                train = data.get("dataset", {})
                data[name] = {key: value for key, value in data[name].items() if key in kept or train.get(key) != value}
    data, secret = _without_secrets(data)
    notes = [str(warning) for warning in reading.ctx.warnings if "secret" not in warning.message]
    notes += [
        f"{name} holds a secret in the open; it was left out. Write ${{{name.rpartition('.')[2].upper()}}} and set that variable." for name in secret
    ]
    return Read(data, notes)


def _folded(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return sections with the validation sets under the names that a file has."""
    found = copy.deepcopy(dict(data))
    sets = found.pop("validation_datasets", None)
    for name, section in sets.items() if isinstance(sets, dict) else ():
        found["validation_dataset" if name == "validation" else f"validation_dataset_{name}"] = section
    return found


def _is_normal(data: Mapping[str, Any]) -> bool:
    """Say whether every key has the schema's name and every section is a map, so that the form finds each value by its path."""
    schema = Recipe.model_json_schema()
    for name, value in data.items():
        known = name if name in schema["properties"] else "validation_datasets" if re.match(r"validation_dataset(_|$)", name) else ""
        if not known:
            return False
        node = schema["properties"][known]
        if not _fits(value, node.get("additionalProperties", node) if known == "validation_datasets" else node, schema):
            return False
    return True


def _fits(value: Any, node: Mapping[str, Any], schema: Mapping[str, Any]) -> bool:
    inner = next((schema["$defs"][one["$ref"].rpartition("/")[2]] for one in (node, *node.get("anyOf", ())) if "$ref" in one), None)
    if inner is None:
        return True
    if not isinstance(value, dict) or "_target_" in value:
        return False
    if inner.get("additionalProperties"):
        return True
    return all(key in inner["properties"] and _fits(item, inner["properties"][key], schema) for key, item in value.items())


def _starred(value: Any, key: str = "") -> Any:
    """Return values with stars for secrets; a switch such as add_bos_token is none, whatever its name ends in."""
    if isinstance(value, dict):
        return {name: _starred(item, name) for name, item in value.items()}
    return value if isinstance(value, (bool, int, float)) else masked({key: value})[key]


def hidden(text: str) -> str:
    """Return a text that could not be read, with stars where it seems to hold secrets: it is shown, and so saved with the notebook."""
    return _SECRET.sub(r"\1\2" + MASK, text)


def _without_secrets(data: dict[str, Any], path: str = "") -> tuple[dict[str, Any], list[str]]:
    kept: dict[str, Any] = {}
    secret: list[str] = []
    for key, value in data.items():
        name = f"{path}.{key}" if path else str(key)
        if isinstance(value, dict):
            kept[key], found = _without_secrets(value, name)
            secret += found
        elif _starred(value, key) == MASK:
            secret.append(name)
        else:
            kept[key] = value
    return kept, secret
