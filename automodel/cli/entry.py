"""The `automodel` command: takes the command line apart, runs it, and turns errors into exit codes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from automodel.cli import coverage, jobs, looks, new_arch, publish, runs, tools
from automodel.cli.app import app
from automodel.cli.arguments import split
from automodel.cli.output import report_error

COMMAND_FILES = (coverage, jobs, looks, new_arch, publish, runs, tools)  # their commands enter the app when they are imported


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 the job failed, 2 the request was wrong, 3 stopped on request."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    try:
        sys.exit(_run([word for word in words if word != "--debug"]))
    except KeyboardInterrupt:
        sys.exit(3)
    except Exception as error:
        if debug and not hasattr(error, "show"):
            raise
        code = report_error(error)
    sys.exit(code)


def _run(words: list[str]) -> int:
    parts = split(words)
    answer: Any = app(args=list(parts.words), obj=parts.overrides, standalone_mode=False, prog_name="automodel")
    return answer if isinstance(answer, int) else 0
