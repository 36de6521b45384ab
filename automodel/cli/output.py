"""How the command speaks: data on stdout, errors on stderr, exit codes by kind."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from automodel.errors import AutomodelError
from automodel.tables import grid_text


def say(text: str) -> None:
    """Write a line for a person to stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def put(text: str) -> None:
    """Write a line of data to stdout."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def put_json(value: Any) -> None:
    """Write a value as JSON to stdout."""
    put(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def put_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a table with aligned columns to stdout."""
    put(grid_text(head, rows))


def report_error(error: BaseException) -> int:
    """Write an error to stderr without a traceback and return the exit code it asks for."""
    if isinstance(error, AutomodelError):
        say(f"error: {error}")
        return error.exit_code
    show = getattr(error, "show", None)
    if show is not None:
        # A usage error of the command line parser: it knows how to print itself, with the command's usage.
        show()
        return int(getattr(error, "exit_code", 2))
    first = str(error).strip() or type(error).__name__
    say(f"error: {type(error).__name__}: {first}\n  fix:      run again with --debug for the traceback")
    return 1
