"""Starting jobs: in this process, detached, or again from a checkpoint."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from automodel.errors import JobFailed, NotBuiltError, RunError
from automodel.launch import preflight as preflight_process
from automodel.launch.devices import as_devices, processes_on
from automodel.launch.request import RecipeLike, Request, as_request
from automodel.launch.supervisor import WORKER
from automodel.launch.worker import Body, heartbeats, run_in_process
from automodel.run.folder import RunFolder
from automodel.run.launched import launched_in
from automodel.run.location import runs_root
from automodel.run.process import ProcessIdentity, identify, is_alive
from automodel.run.reader import Run, attach
from automodel.run.reporter import make_reporter

if TYPE_CHECKING:
    from automodel.recipe.schema import Recipe

_START_SECONDS = 30.0
_children: list[subprocess.Popen[bytes]] = []


def finetune(recipe: RecipeLike, *, overrides: Sequence[str] = (), run_folder: Path | str | None = None, allow_targets: Sequence[str] = ()) -> Run:
    """Run a job in this process to its end and return its `Run`.

    Args:
        recipe: a `Recipe`, a dict of sections, or the path of a YAML file.
        overrides: changes as on the command line, `a.b.c=value`.
        run_folder: the root of the run folders.
        allow_targets: dotted `_target_` paths that may run.

    Raises:
        RequestError: the request was wrong; nothing was written.
        Exception: what ended the job, after the run folder recorded it.
    """
    return run_here(as_request(recipe, overrides=overrides, allow_targets=allow_targets), root=run_folder)


def run_here(request: Request, *, root: Path | str | None = None, body: Body | None = None) -> Run:
    """Check a request, make its run folder and run it in this process; `body` takes the place of check and training."""
    work = body or _checked(request, root)
    folder = request.create_folder(root, launch={"nproc_per_node": 1, "nodes": 1})
    folder.claim(launcher="foreground", world_size=1)
    with heartbeats(folder):
        code = run_in_process(request.recipe, folder, resume=None, body=work, quiet=False)
    run = Run(folder.path)
    if code == 1 or run.status.state == "failed":
        raise JobFailed(run.explain().sentence, fix=f"read it in full: automodel explain {run.id}")
    return run


def _checked(request: Request, root: Path | str | None) -> Body:
    """Check a request and return the job that goes on from what the check has already made."""
    from automodel.tasks import preflight, run_recipe

    prepared = preflight(request.recipe, runs_root=runs_root(root or request.recipe.run.folder))

    def body(recipe: Recipe, folder: RunFolder, resume: Path | None) -> int:
        return run_recipe(recipe, folder, resume=resume, prepared=prepared, reporter=make_reporter(sys.stderr))

    return body


def launch(
    recipe: RecipeLike,
    *,
    nproc_per_node: int | Literal["auto"] = "auto",
    nodes: int = 1,
    executor: str = "local",
    devices: str | Sequence[int | str] | None = None,
    run_folder: Path | str | None = None,
    overrides: Sequence[str] = (),
    allow_targets: Sequence[str] = (),
) -> Run:
    """Start a detached job that outlives this process and return its `Run` at once.

    Args:
        recipe: a `Recipe`, a dict of sections, or the path of a YAML file.
        nproc_per_node: processes; `auto` is one for each GPU, one on a machine without.
        nodes: machines; more than one is not built yet.
        executor: `local`; `slurm` and `sky` are not built yet.
        devices: GPUs by their numbers in nvidia-smi, `[0, 2]`; empty for none (the CPU); absent: all that this process may use.
        run_folder: the root of the run folders.
        overrides: changes as on the command line, `a.b.c=value`.
        allow_targets: dotted `_target_` paths that may run.

    Raises:
        RequestError: the request was wrong; nothing was written.
    """
    refuse_unbuilt(executor, nodes)
    request = as_request(recipe, overrides=overrides, allow_targets=allow_targets)
    return launch_request(request, nproc_per_node=nproc_per_node, devices=devices, root=run_folder)


def launch_request(
    request: Request,
    *,
    nproc_per_node: int | Literal["auto"] = "auto",
    devices: str | Sequence[int | str] | None = None,
    root: Path | str | None = None,
    worker: str = WORKER,
    preflight_module: str = "automodel.launch.preflight",
) -> Run:
    """Check a request in a child process, make its run folder, start its supervisor."""
    wanted = None if nproc_per_node == "auto" else check_nproc(nproc_per_node)
    chosen = as_devices(devices)
    nproc = preflight_process.check(request, nproc=processes_on(chosen, wanted), devices=chosen, root=root, module=preflight_module)
    own = {} if chosen is None else {"devices": list(chosen)}
    folder = request.create_folder(root, launch={"nproc_per_node": nproc, "nodes": 1, "worker": worker, **own})
    folder.claim(launcher="launching", world_size=nproc)
    return _supervise(folder, worker=worker, resume=False)


def check_nproc(count: int) -> int:
    """Return the number of processes when it is one."""
    if count < 1:
        raise RunError("The number of processes must be 1 or more.", found=str(count), fix="leave it out for one process for each GPU")
    return count


def refuse_unbuilt(executor: str, nodes: int) -> None:
    """Refuse other executors than this machine.

    Raises:
        NotBuiltError: slurm, sky or several nodes were asked for.
        RunError: the executor's name is not known.
    """
    if executor in ("slurm", "sky", "skypilot"):
        raise NotBuiltError(f"The executor {executor!r} is not built yet.", found=f"executor={executor!r}", expected="executor='local'")
    if executor != "local":
        raise RunError("The executor is not known.", found=executor, expected="local")
    if nodes != 1:
        raise NotBuiltError("Jobs over several machines are not built yet.", found=f"nodes={nodes}", expected="nodes=1")


def resume(
    run: Run | str | Path,
    *,
    nproc_per_node: int | None = None,
    devices: str | Sequence[int | str] | None = None,
    root: Path | str | None = None,
) -> Run:
    """Go on with a run in its own folder, detached, from its newest intact checkpoint (else from the start).

    Processes and GPUs are those of before, unless others are named; other GPUs alone mean one process for each.

    Raises:
        RunError: it still runs, or it has finished.
    """
    target = run if isinstance(run, Run) else attach(run, root)
    status = target.status
    if status.state == "finished":
        raise RunError(f"{target.path.name} has finished.", found="finished", fix="raise step_scheduler.max_steps or num_epochs in a new run")
    if status.alive:
        raise RunError(f"{target.path.name} still runs.", found=status.state, fix=f"stop it first: automodel stop {target.id}")
    folder, point = target.folder, target.resume_point
    settings = dict(folder.record().get("launch", {}))
    chosen, wanted = as_devices(devices), None if nproc_per_node is None else check_nproc(nproc_per_node)
    if chosen is not None:
        settings["devices"] = list(chosen)
    if chosen is not None or wanted is not None:
        settings["nproc_per_node"] = processes_on(settings.get("devices"), wanted)
    folder.update(launch=settings)
    folder.prepare_resume(step=point.step if point else 0)
    return _supervise(folder, worker=str(settings.get("worker") or WORKER), resume=True)


def _supervise(folder: RunFolder, *, worker: str, resume: bool) -> Run:
    """Start the supervisor in a session of its own and wait until it has put its name into `run.json`."""
    _reap()
    words = [sys.executable, "-m", "automodel.launch.supervisor", str(folder.path.resolve()), "--worker", worker, *(["--resume"] if resume else [])]
    with (folder.path / "logs" / "supervisor.log").open("ab") as log:
        child = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=_working_folder(folder))
    _children.append(child)
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end and child.poll() is None and folder.record().get("pid") != child.pid:
        time.sleep(0.02)
    _settle_unborn(folder)
    return Run(folder.path)


def _working_folder(folder: RunFolder) -> str:
    """Return the folder the job was first started in, while it exists: relative paths in its recipe count from there."""
    first = launched_in(folder)
    if first is not None and not first.is_dir():
        folder.event("fallback", text=f"{first}, where the run was launched, is gone: relative paths of its recipe count from {os.getcwd()}")
    return str(first) if first is not None and first.is_dir() else os.getcwd()


def _settle_unborn(folder: RunFolder) -> None:
    """A supervisor that died before it wrote its name leaves this living process as the owner: say that it failed."""
    who = ProcessIdentity.from_dict(folder.record())
    if who == identify() or not is_alive(who):
        state = folder.record().get("state")
        if state in ("created", "preparing") and not folder.ranks():
            folder.set_state("failed", error={"what": "The supervisor did not start; logs/supervisor.log says why.", "time": time.time()})


def _reap() -> None:
    """Collect supervisors that have ended, so that they do not stay as zombies of a long-lived notebook."""
    _children[:] = [child for child in _children if child.poll() is None]
