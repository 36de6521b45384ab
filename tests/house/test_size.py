"""Files stay under 500 lines, functions short: a reader can hold one in the head."""

from __future__ import annotations

import ast
from statistics import quantiles

from tests.house.source import ROOT, WIDGETS, files, modules

FILE_LINES = 500
FUNCTION_LINES = 100
USUAL_FUNCTION_LINES = 50


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a function without decorators and docstring: describing it well should cost nothing."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None:
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def functions() -> list[tuple[str, int]]:
    found = []
    for module in (*modules(), *modules(WIDGETS)):
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found.append((f"{module.where}:{node.lineno}: {node.name}", length(node)))
    return found


def test_files_are_under_500_lines() -> None:
    long = {
        path.relative_to(ROOT).as_posix(): count
        for path in files((".py",))
        if (count := len(path.read_text(encoding="utf-8").splitlines())) >= FILE_LINES
    }
    assert not long, long


def test_no_function_is_long() -> None:
    long = [f"{where}: {count} lines" for where, count in functions() if count > FUNCTION_LINES]
    assert not long, "\n".join(long)


def test_nine_functions_of_ten_are_short() -> None:
    tenth = quantiles([count for _, count in functions()], n=10)[-1]
    assert tenth < USUAL_FUNCTION_LINES


def test_the_docstring_does_not_count() -> None:
    tree = ast.parse('def f():\n    """One.\n\n    Two.\n    """\n    return 1\n')
    function = tree.body[0]
    assert isinstance(function, ast.FunctionDef)
    assert length(function) == 2
