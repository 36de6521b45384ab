"""Commands that start jobs or check recipes."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from automodel.cli.app import app
from automodel.cli.output import put, put_json, say
from automodel.errors import NotBuiltError, RecipeError, RunError

if TYPE_CHECKING:
    from automodel.launch.request import Request
    from automodel.run import Run


class Domain(str, Enum):
    """Kind of model a job is about."""

    llm = "llm"
    vlm = "vlm"
    seq_cls = "seq_cls"


Config = Annotated[Path, typer.Option("--config", "-c", help="Recipe file (YAML).")]
Nproc = Annotated[str, typer.Option("--nproc-per-node", "--nproc_per_node", help="Processes; auto is one for each GPU.", metavar="N|auto")]
Detach = Annotated[bool, typer.Option("--detach", help="Start the job, print its folder, return at once.")]
STOPPED = 3
AUTO = ("auto", "gpu")
RunsRoot = Annotated[Path | None, typer.Option("--runs-root", help="Folder of the runs; else $AUTOMODEL_RUNS, else ./runs.")]
Targets = Annotated[list[str] | None, typer.Option("--allow-target", help="Dotted _target_ path that may run; repeat for more.")]
Devices = Annotated[str | None, typer.Option("--devices", help="GPUs by their numbers in nvidia-smi; none for the CPU.", metavar="0,2|none")]
Nodes = Annotated[int, typer.Option("--nodes", help="Machines.")]
Executor = Annotated[str, typer.Option("--executor", help="Where the job runs: local.")]
DomainArgument = Annotated[Domain, typer.Argument(help="Kind of model.")]
_HELP = "Settings of the recipe are changed by --a.b.c VALUE or --a.b.c=VALUE."


@app.command(epilog=_HELP)
def finetune(
    ctx: typer.Context,
    domain: DomainArgument,
    config: Config,
    nproc_per_node: Nproc = "auto",
    detach: Detach = False,
    runs_root: RunsRoot = None,
    allow_target: Targets = None,
    nodes: Nodes = 1,
    executor: Executor = "local",
    devices: Devices = None,
) -> int:
    """Fine-tune a model as a recipe says."""
    return _job(ctx, "finetune", domain, config, nproc_per_node, detach, runs_root, allow_target, nodes, executor, devices=devices)


@app.command(epilog=_HELP)
def pretrain(
    ctx: typer.Context,
    domain: DomainArgument,
    config: Config,
    nproc_per_node: Nproc = "auto",
    detach: Detach = False,
    runs_root: RunsRoot = None,
    allow_target: Targets = None,
    nodes: Nodes = 1,
    executor: Executor = "local",
    devices: Devices = None,
) -> int:
    """Train a model on plain text as a recipe says."""
    return _job(ctx, "pretrain", domain, config, nproc_per_node, detach, runs_root, allow_target, nodes, executor, devices=devices)


@app.command(hidden=True)
def kd(
    ctx: typer.Context,
    domain: DomainArgument,
    config: Config,
    nproc_per_node: Nproc = "auto",
    detach: Detach = False,
    runs_root: RunsRoot = None,
    allow_target: Targets = None,
) -> int:
    """Distil a large model into a small one."""
    return _job(ctx, "kd", domain, config, nproc_per_node, detach, runs_root, allow_target)


@app.command(hidden=True)
def benchmark(
    ctx: typer.Context,
    domain: DomainArgument,
    config: Config,
    nproc_per_node: Nproc = "auto",
    detach: Detach = False,
    runs_root: RunsRoot = None,
    allow_target: Targets = None,
) -> int:
    """Measure the speed of a recipe."""
    return _job(ctx, "benchmark", domain, config, nproc_per_node, detach, runs_root, allow_target)


@app.command(name="run", epilog=_HELP)
def run_file(
    ctx: typer.Context,
    config: Annotated[Path, typer.Argument(help="Recipe file with a `recipe:` key; `automodel FILE.yaml` is the same.")],
    nproc_per_node: Nproc = "auto",
    detach: Detach = False,
    runs_root: RunsRoot = None,
    allow_target: Targets = None,
    nodes: Nodes = 1,
    executor: Executor = "local",
    devices: Devices = None,
) -> int:
    """Run a recipe file that names its own job."""
    return _job(ctx, None, Domain.llm, config, nproc_per_node, detach, runs_root, allow_target, nodes, executor, devices=devices)


@app.command(epilog=_HELP)
def validate(
    ctx: typer.Context,
    config: Annotated[Path, typer.Argument(help="Recipe file (YAML).")],
    allow_target: Targets = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the resolved recipe and the warnings as JSON.")] = False,
    write: Annotated[Path | None, typer.Option("--write", help="Write the recipe in the newest dialect; - is stdout.")] = None,
) -> int:
    """Check every key and value of a recipe without loading anything heavy."""
    from automodel.recipe import load_recipe

    loaded = load_recipe(config, overrides=ctx.obj or (), allow_targets=allow_target or ())
    if as_json:
        put_json(
            {
                "valid": True,
                "dialect": str(loaded.dialect),
                "warnings": [str(one) for one in loaded.warnings],
                "recipe": loaded.recipe.model_dump(mode="json", by_alias=True),
            }
        )
        return 0
    for warning in loaded.warnings:
        say(f"warning: {warning}")
    if write is None:
        put(f"{config} is valid ({loaded.recipe.task}, dialect {loaded.dialect})")
    elif str(write) == "-":
        put(loaded.recipe.to_yaml().rstrip())
    else:
        write.write_text(loaded.recipe.to_yaml(), encoding="utf-8")
    return 0


def _job(
    ctx: typer.Context,
    command: str | None,
    domain: Domain,
    config: Path,
    nproc: str,
    detach: bool,
    root: Path | None,
    targets: list[str] | None,
    nodes: int = 1,
    executor: str = "local",
    devices: str | None = None,
) -> int:
    from automodel.launch.devices import as_devices
    from automodel.launch.member import inside_torchrun, run_as_rank
    from automodel.launch.start import launch_request, refuse_unbuilt, run_here

    refuse_unbuilt(executor, nodes)
    chosen = as_devices(devices)
    count = None if chosen is not None and nproc in AUTO else _count(nproc)
    request = read_request(ctx, command, domain, config, targets)
    if inside_torchrun():
        if chosen is not None:
            raise RunError("The GPUs are chosen by who starts torchrun.", found=f"--devices {devices}", fix="set CUDA_VISIBLE_DEVICES for torchrun")
        return _end_of_rank(run_as_rank(request, root=root))
    if count == 1 and not detach and chosen is None:
        return _end(run_here(request, root=root))
    run = launch_request(request, nproc_per_node="auto" if count is None else count, devices=chosen, root=root)
    if detach:
        put(str(run.path))
        return 0
    return follow_to_end(run)


def follow_to_end(run: Run) -> int:
    """Show a detached run as if it ran here: Ctrl-C asks it to save and stop."""
    from automodel.launch.progress import follow

    say(f"run folder: {run.path}")
    follow(run, stop_on_interrupt=True)
    return _end(run)


def _end(run: Run) -> int:
    status = run.status
    if status.state == "failed":
        say(f"error: {run.explain()}\n  log:      automodel logs {run.id}")
    else:
        say(run.explain().sentence)
    put(str(run.path))
    return 0 if status.exit_code is None else status.exit_code


def _end_of_rank(run: Run) -> int:
    """Rank 0 speaks for all; to a foreign torchrun a requested stop is no failure."""
    from automodel.launch.worker import this_rank

    return 0 if this_rank() or _end(run) == STOPPED else run.status.exit_code or 0


def _count(text: str) -> int | None:
    from automodel.launch.env import visible_gpus
    from automodel.launch.start import check_nproc

    if text in AUTO:
        # Only a machine with several GPUs needs the launcher to count them exactly.
        return None if visible_gpus() > 1 else 1
    if not text.lstrip("-").isdigit():
        raise RecipeError("The number of processes is not a number.", found=text, expected="1 or more, or auto", fix="--nproc-per-node 2")
    return check_nproc(int(text))


def read_request(ctx: typer.Context, command: str | None, domain: Domain, config: Path, targets: list[str] | None) -> Request:
    """Read the recipe of a command with its overrides, and say its warnings; `command` None takes the job that the file names."""
    from automodel.launch.request import as_request
    from automodel.recipe import not_built, recipe_for

    name = recipe_for(command, domain.value) if command else None
    if command and name is None:
        raise NotBuiltError("There is no such job yet.", found=f"{command} {domain.value}", expected="finetune llm, pretrain llm")
    words = ["automodel", *sys.argv[1:]]
    request = as_request(config, overrides=ctx.obj or (), allow_targets=targets or (), default_recipe=name, command=words)
    for warning in request.warnings:
        say(f"warning: {warning}")
    # NeMo's own pretraining files name the fine-tuning recipe: between these two the file is right without a word.
    if name and name != request.recipe.recipe and (command, domain) not in (("finetune", Domain.llm), ("pretrain", Domain.llm)):
        raise RecipeError(
            "The command and the file name different jobs.",
            found=f"recipe: {request.recipe.recipe}",
            expected=f"recipe: {name}, for {command} {domain.value}",
            fix=f"start the file as it is: automodel {config}",
        )
    not_built(request.recipe)
    return request
