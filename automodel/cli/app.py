"""The typer application that the commands enter."""

from __future__ import annotations

import typer

app = typer.Typer(
    name="automodel",
    help="Fine-tune Hugging Face models: one recipe, one command, one run folder.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
