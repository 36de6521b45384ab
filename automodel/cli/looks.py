"""Commands that look before and after a job: the data, the plan, a model, its answers; and the notebook."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from automodel.cli.app import app
from automodel.cli.jobs import Domain, Nproc, Targets, read_request
from automodel.cli.lessons import lab_words
from automodel.cli.output import put, put_json, say
from automodel.errors import RequestError

if TYPE_CHECKING:
    from automodel.recipe import Recipe

RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="Recipe file (YAML).")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_HELP = "Settings of the recipe are changed by --a.b.c VALUE or --a.b.c=VALUE."
_UNITS = ("", "k", "m", "g", "t")


@app.command(epilog=_HELP)
def preview(
    ctx: typer.Context,
    recipe: RecipeFile,
    number: Annotated[int, typer.Option("--number", "-n", help="Rows from the beginning.", min=0)] = 3,
    row: Annotated[list[int] | None, typer.Option("--row", help="Number of a row to show in their place; repeat for more.", min=0)] = None,
    which: Annotated[str, typer.Option("--set", help="training, or the name of a validation set.")] = "training",
    allow_target: Targets = None,
    as_json: Json = False,
) -> int:
    """Show rows as they are trained: exact text, tokens, and which of them are trained on."""
    given = _recipe(ctx, recipe, allow_target)
    from automodel.tasks import preview as look

    found = look(given, n=number, rows=row or None, of=which)
    if as_json:
        put_json(found.as_dict())
    else:
        put(found.text(colour=_colour()))
    return 0


@app.command(epilog=_HELP)
def plan(
    ctx: typer.Context,
    recipe: RecipeFile,
    nproc_per_node: Nproc = "1",
    device_memory: Annotated[str | None, typer.Option("--device-memory", help="Memory of a device, such as 24G; else measured.")] = None,
    allow_target: Targets = None,
    as_json: Json = False,
) -> int:
    """Work out steps, batches, tokens, trained parameters, memory and disk of a job without starting it."""
    room = _bytes(device_memory)
    given = _recipe(ctx, recipe, allow_target)
    from automodel.tasks import plan as work_out

    found = work_out(given, world_size=_world(nproc_per_node), device_memory=room)
    return _answer(found, as_json)


@app.command()
def inspect(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Hub id, model folder, or config.json.")],
    task: Annotated[str | None, typer.Option("--task", help="sft, seq_cls, vlm, ...; else what suits the model.")] = None,
    revision: Annotated[str | None, typer.Option("--revision", help="Branch, tag or commit of a hub id.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Also read every weight of a local folder and report NaN and infinity by name.")] = False,
    as_json: Json = False,
) -> int:
    """Say what a model is, how large, what can be done with it and what is missing, from its config alone."""
    from automodel.auto import inspect as look

    if check:
        from automodel.weights.check import check_finite

        say(f"{check_finite(model)} tensors: every number is finite")
    found = look(model, task=task, **({"revision": revision} if revision else {}))
    return _answer(found, as_json)


@app.command()
def generate(
    source: Annotated[str, typer.Argument(metavar="RUN|FOLDER", help="A run (latest, id, name, path), a checkpoint, or a model folder.")],
    prompt: Annotated[list[str] | None, typer.Option("--prompt", "-p", help="The text to go on from; repeat for more.")] = None,
    prompts: Annotated[Path | None, typer.Option("--prompts", help="File with a prompt on each line.", exists=True, dir_okay=False)] = None,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", help="Longest answer.", min=1)] = 128,
    base: Annotated[bool, typer.Option("--base", help="Ask the model that the run started from.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Take the prompt as it is, without the chat template.")] = False,
    runs_root: Annotated[Path | None, typer.Option("--runs-root", help="Folder of the runs; else $AUTOMODEL_RUNS, else ./runs.")] = None,
    as_json: Json = False,
) -> int:
    """Let a run's best checkpoint, or any model folder, answer prompts; it is loaded once."""
    asked = [*(prompt or ()), *_lines(prompts)]
    if not asked:
        raise RequestError("There is nothing to answer.", found="no prompt", expected="one or more", fix="--prompt TEXT, or --prompts FILE")
    from automodel.tasks import load_generator

    answers = []
    with load_generator(source, base=base, runs_root=runs_root) as ask:
        for one in asked:
            if len(asked) > 1 and not as_json:
                say(f"> {one}")
            found = ask(one, max_new_tokens=max_new_tokens, chat=False if raw else None, on_text=None if as_json else _piece)
            answers.append(found.as_dict())
            if not as_json:
                put("")
                say(f"{found.tokens} tokens in {found.seconds:.1f} s by {found.model}" + ("" if found.finished else "; cut off by --max-new-tokens"))
    if as_json:
        put_json(answers[0] if len(answers) == 1 else answers)
    return 0


def _lines(path: Path | None) -> list[str]:
    """Return the lines of a file that are not empty."""
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()] if path is not None else []


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def lab(ctx: typer.Context) -> int:
    """Open the workbench notebook and the lessons in JupyterLab, in this folder; further words are passed on to it."""
    if importlib.util.find_spec("jupyterlab") is None:
        raise RequestError(
            "JupyterLab is not installed in this environment.",
            found=sys.prefix,
            expected="the package jupyterlab",
            fix="pip install 'automodel-workbench[notebook]'",
        )
    words = lab_words(ctx.args, Path.cwd())
    os.execv(sys.executable, [sys.executable, "-m", "jupyter", "lab", *words])  # noqa: S606  # JupyterLab takes the place of this process
    return 0


def _recipe(ctx: typer.Context, path: Path, targets: list[str] | None) -> Recipe:
    return read_request(ctx, None, Domain.llm, path, targets).recipe


def _piece(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _colour() -> bool:
    from rich.console import Console

    console = Console()
    return console.is_terminal and not console.no_color


def _world(text: str) -> int:
    from automodel.launch.env import visible_gpus
    from automodel.launch.start import check_nproc

    if text in ("auto", "gpu"):
        return max(1, visible_gpus())
    if not text.lstrip("-").isdigit():
        raise RequestError("The number of processes is not a number.", found=text, expected="1 or more, or auto", fix="--nproc-per-node 2")
    return check_nproc(int(text))


def _bytes(text: str | None) -> int | None:
    """Read 24G, 24GB, 24GiB, 500M or a plain number of bytes."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?b)?", text.strip().lower())
    if match is None:
        raise RequestError("The memory of a device cannot be read.", found=text, expected="a size such as 24G or 500M", fix="--device-memory 24G")
    step = 1024 if (match[3] or "").startswith("i") else 1000
    return int(float(match[1]) * step ** _UNITS.index(match[2]))


def _answer(found: Any, as_json: bool) -> int:
    """Put what a library call found on standard output, as text or as JSON."""
    if as_json:
        put_json(found.as_dict())
    else:
        put(str(found))
    return 0
