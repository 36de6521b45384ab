"""Commands that look at runs, stop them, and go on with them; none of them loads torch."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from automodel.cli.app import app
from automodel.cli.output import put, put_json, put_table, say
from automodel.run import Run, attach, compare, runs
from automodel.run.show import duration, elapsed, number, progress, run_text

_FOLLOW_SECONDS = 0.3

Name = Annotated[str, typer.Argument(metavar="RUN", help="latest, an id, a part of the folder's name, or a path.")]
Root = Annotated[Path | None, typer.Option("--runs-root", help="Folder of the runs; else $AUTOMODEL_RUNS, else ./runs.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def facts(run: Run) -> dict[str, Any]:
    """Return what `--json` prints about a run; the keys are stable."""
    status = run.status
    points = [{**asdict(point), "path": str(point.path)} for point in run.checkpoints]
    return {"id": run.id, "path": str(run.path), "name": run.path.name, **asdict(status), "checkpoints": points}


@app.command(name="runs")
def list_runs(runs_root: Root = None, as_json: Json = False) -> int:
    """List the runs, newest first."""
    every = runs(runs_root)
    if as_json:
        put_json([facts(run) for run in every])
        return 0
    if not every:
        say("there are no runs yet")
        return 0
    lines = []
    for run in every:
        status = run.status
        lines.append((run.id, status.state, progress(status), number(status.loss), duration(elapsed(status)), run.path.name))
    put_table(("ID", "STATE", "STEP", "LOSS", "TIME", "NAME"), lines)
    return 0


@app.command()
def status(run: Name = "latest", runs_root: Root = None, as_json: Json = False) -> int:
    """Show where a run stands."""
    chosen = attach(run, runs_root)
    if as_json:
        put_json(facts(chosen))
    else:
        put(run_text(chosen))
    return 0


@app.command()
def logs(
    run: Name = "latest",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends.")] = False,
    rank: Annotated[int, typer.Option("--rank", help="Which process.")] = 0,
    tail: Annotated[int | None, typer.Option("--tail", "-n", help="Only the last lines.")] = None,
    runs_root: Root = None,
) -> int:
    """Print the log of one process of a run."""
    chosen = attach(run, runs_root)
    text = chosen.log(rank, tail)
    if text:
        put(text.rstrip("\n"))
    if follow:
        _follow_log(chosen, rank)
    return 0


def _follow_log(run: Run, rank: int) -> None:
    path = run.folder.rank_log(rank)
    offset = path.stat().st_size if path.exists() else 0
    while True:
        done = run.status.done
        if path.exists():
            with path.open("rb") as src:
                src.seek(offset)
                data = src.read()
            whole = data.rpartition(b"\n")[0] if not done else data
            if whole:
                put(whole.decode("utf-8", "replace").rstrip("\n"))
                offset += len(whole) + (0 if done else 1)
        if done:
            return
        time.sleep(_FOLLOW_SECONDS)


@app.command()
def stop(
    run: Name = "latest",
    discard: Annotated[bool, typer.Option("--discard", help="Stop without saving.")] = False,
    timeout: Annotated[float | None, typer.Option("--timeout", help="Wait so many seconds, then end it by force.")] = None,
    runs_root: Root = None,
    as_json: Json = False,
) -> int:
    """Ask a run to save and stop at its next step."""
    chosen = attach(run, runs_root)
    before = chosen.status
    after = chosen.stop(save=not discard, timeout=timeout)
    if as_json:
        put_json(facts(chosen))
    elif before.done:
        say(f"{chosen.path.name} has ended already: {before.state}")
    elif after.done:
        say(chosen.explain().sentence)
    else:
        say(f"asked {chosen.path.name} to {'stop' if discard else 'save and stop'}; watch it with: automodel attach {chosen.id}")
    return 0


@app.command()
def resume(
    run: Name = "latest",
    detach: Annotated[bool, typer.Option("--detach", help="Return at once.")] = False,
    nproc_per_node: Annotated[int | None, typer.Option("--nproc-per-node", "--nproc_per_node", help="Processes; else as before.")] = None,
    devices: Annotated[str | None, typer.Option("--devices", help="GPUs by their numbers in nvidia-smi; else as before.")] = None,
    runs_root: Root = None,
) -> int:
    """Go on with a run in its own folder, from its newest intact checkpoint."""
    from automodel.cli.jobs import follow_to_end
    from automodel.launch import resume as go_on

    chosen = attach(run, runs_root)
    point = chosen.resume_point
    again = go_on(chosen, nproc_per_node=nproc_per_node, devices=devices)
    say(f"going on from {point.path.name}" if point else "there is no checkpoint yet: starting again from the beginning")
    if detach:
        put(str(again.path))
        return 0
    return follow_to_end(again)


@app.command(name="attach")
def attach_run(run: Name = "latest", runs_root: Root = None) -> int:
    """Show a run's progress until it ends; Ctrl-C leaves it running."""
    from automodel.launch.progress import follow

    chosen = attach(run, runs_root)
    try:
        ended = follow(chosen)
    except KeyboardInterrupt:
        say(f"left {chosen.path.name} running")
        return 0
    say(str(chosen.explain()))
    return ended.exit_code or 0


@app.command()
def explain(run: Name = "latest", runs_root: Root = None, as_json: Json = False) -> int:
    """Say in words why a run failed, and what to do."""
    answer = attach(run, runs_root).explain()
    if as_json:
        put_json(answer.as_dict())
    else:
        put(str(answer))
    return 0


@app.command(name="compare")
def compare_runs(
    names: Annotated[list[str], typer.Argument(metavar="RUN...", help="Two runs or more.")],
    runs_root: Root = None,
    as_json: Json = False,
) -> int:
    """Show the settings that differ between runs, and how each came out."""
    table = compare(*names, root=runs_root)
    if as_json:
        put_json(table.as_dict())
    else:
        put(str(table))
    return 0
