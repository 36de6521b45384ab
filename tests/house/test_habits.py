"""Habits that hide mistakes: reading the environment anywhere, swallowing errors, guessing at configs."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.house.source import ROOT, WIDGETS, Module, files, modules

# Where the process environment may be read, with the reason.
ENVIRONMENT = {
    "automodel.launch": "torchrun and clusters speak through it",
    "automodel.mesh": "a rank learns its number from it",
    "automodel.run": "AUTOMODEL_RUNS names the root of the run folders",
    "automodel.recipe.interpolate": "${VAR} in a recipe",
    "automodel_widgets.state.devices": "a cluster says in it which GPUs this process may use",
}
CONFIG_ROOMS = ("archs", "auto")


def environment_reads(module: Module) -> list[int]:
    """Return the lines that touch the environment of the process."""
    lines = []
    for node in ast.walk(module.tree):
        touched = (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "os"
            and node.attr in ("environ", "getenv", "putenv", "environb")
        )
        named = (
            isinstance(node, ast.ImportFrom) and node.module == "os" and any(alias.name in ("environ", "getenv", "environb") for alias in node.names)
        )
        if touched or named:
            lines.append(node.lineno)  # type: ignore[attr-defined]  # both kinds of node carry a line
    return lines


def swallowed(module: Module) -> list[int]:
    """Return the lines of handlers for any error that neither raise nor use what they caught."""
    return [
        node.lineno for node in ast.walk(module.tree) if isinstance(node, ast.ExceptHandler) and _is_broad(node.type) and not _deals_with_it(node)
    ]


def _is_broad(kind: ast.expr | None) -> bool:
    if kind is None:
        return True
    kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return any(isinstance(one, ast.Name) and one.id in ("Exception", "BaseException") for one in kinds)


def _deals_with_it(handler: ast.ExceptHandler) -> bool:
    for node in (inner for statement in handler.body for inner in ast.walk(statement)):
        if isinstance(node, ast.Raise) or (isinstance(node, ast.Name) and node.id == handler.name):
            return True
    return False


def config_guesses(module: Module) -> list[int]:
    """Return the lines that read a field of a config with a default, which hides a misspelt or renamed field."""
    return [
        node.lineno
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "getattr"
        and len(node.args) == 3
        and _names_a_config(node.args[0])
    ]


def _names_a_config(value: ast.expr) -> bool:
    if isinstance(value, ast.Call):
        return _names_a_config(value.func)
    name = value.attr if isinstance(value, ast.Attribute) else value.id if isinstance(value, ast.Name) else ""
    return name in ("config", "cfg") or name.endswith("_config")


def report(found: list[tuple[Module, list[int]]]) -> str:
    return "\n".join(f"{module.where}:{line}" for module, lines in found for line in lines)


def test_the_environment_is_read_in_few_places() -> None:
    free = tuple(ENVIRONMENT)
    found = [(module, environment_reads(module)) for module in (*modules(), *modules(WIDGETS)) if not module.name.startswith(free)]
    assert not report(found), report(found)


def test_no_error_is_swallowed() -> None:
    found = [(module, swallowed(module)) for module in (*modules(), *modules(WIDGETS))]
    assert not report(found), report(found)


def test_configs_are_not_guessed_at() -> None:
    found = [(module, config_guesses(module)) for module in modules() if module.room not in CONFIG_ROOMS]
    assert not report(found), report(found)


@pytest.mark.parametrize(
    ("check", "bad", "good"),
    [
        (environment_reads, "import os\nx = os.environ.get('A')", "import os\nx = os.getpid()"),
        (environment_reads, "from os import getenv", "from os import getpid"),
        (swallowed, "try:\n    f()\nexcept Exception:\n    pass", "try:\n    f()\nexcept OSError:\n    pass"),
        (swallowed, "try:\n    f()\nexcept:\n    x = 1", "try:\n    f()\nexcept BaseException:\n    close()\n    raise"),
        (swallowed, "try:\n    f()\nexcept (ValueError, Exception) as e:\n    return_code = 1", "try:\n    f()\nexcept Exception as e:\n    tell(e)"),
        (config_guesses, "getattr(model.config, 'hidden_size', 1)", "getattr(config, 'hidden_size')"),
        (config_guesses, "getattr(config.get_text_config(), 'x', None)", "getattr(module, 'weight', None)"),
    ],
)
def test_each_habit_is_seen(check: object, bad: str, good: str) -> None:
    assert callable(check)
    assert check(Module("automodel.data.x", Path("x.py"), ast.parse(bad)))
    assert not check(Module("automodel.data.x", Path("x.py"), ast.parse(good)))


def test_an_ignored_type_error_says_which_and_why() -> None:
    """`# type: ignore[code]  # reason`: the code keeps it narrow, the reason lets a reader judge it."""
    marker = "# type: " + "ignore"
    bare = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in files((".py",), "automodel", "widgets")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if marker in line and ("# " not in line.split(marker, 1)[1] or not line.split(marker, 1)[1].startswith("["))
    ]
    assert not bare, "\n".join(bare)
