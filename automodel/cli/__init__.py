"""The command line; `main` is what the `automodel` command calls."""

from __future__ import annotations

from automodel.cli.entry import main

__all__ = ["main"]
