"""What each process of a job runs: `python -m automodel.launch.worker RUN_DIR [--resume]`, under torchrun or alone."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from automodel.errors import RequestError
from automodel.launch.allocator import reuse_freed_memory
from automodel.launch.signals import stop_on_signals
from automodel.run.folder import HEARTBEAT_SECONDS, RunFolder
from automodel.run.reader import Run
from automodel.run.report import leave_report
from automodel.run.states import FINAL

if TYPE_CHECKING:
    from automodel.recipe.schema import Recipe

Body = Callable[["Recipe", RunFolder, "Path | None"], int]
STOPPED = 3


def this_rank() -> int:
    """Return this process's rank among the processes of the job; 0 when alone."""
    return int(os.environ.get("RANK", "0"))


def own_log(folder: RunFolder, rank: int) -> None:
    """Send everything this process writes, also from compiled code, to its rank's log."""
    sys.stdout.flush()
    sys.stderr.flush()
    handle = os.open(folder.rank_log(rank), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)


@contextmanager
def heartbeats(folder: RunFolder) -> Iterator[None]:
    """Keep the heartbeat of `run.json` fresh while the block runs, however long its steps are."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(HEARTBEAT_SECONDS):
            folder.heartbeat()

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def run_in_process(recipe: Recipe | None, folder: RunFolder, *, resume: Path | None, body: Body | None = None, quiet: bool = True) -> int:
    """Run the job in this process and write how it ended, and its report; returns its exit code. Without a recipe the folder's own is read.

    Raises:
        Exception: whatever ended the job, when not `quiet`; it is in the rank's status file by then.
    """
    rank = this_rank()
    try:
        return _run(recipe, folder, rank, resume=resume, body=body, quiet=quiet)
    finally:
        if rank == 0 and folder.record().get("state") in FINAL:
            leave_report(Run(folder.path))


def _run(recipe: Recipe | None, folder: RunFolder, rank: int, *, resume: Path | None, body: Body | None, quiet: bool) -> int:
    reason = reuse_freed_memory()
    folder.rank_status(rank, phase="preparing")
    if rank == 0:
        folder.event("allocator", text=reason or "freed memory is kept for the next step", reused=reason is None)
    try:
        with stop_on_signals(lambda name: folder.request_stop(by=name)):
            return (body or _train)(recipe or read_recipe(folder), folder, resume)
    except KeyboardInterrupt:
        folder.rank_status(rank, phase="stopped")
        folder.set_state("stopped", ended_by="SIGINT")
        return STOPPED
    except BaseException as error:
        if quiet:
            # Before the state says "failed": who waits for that may read the log at once.
            sys.excepthook(type(error), error, error.__traceback__)
        code = _record_failure(folder, rank, error)
        if not quiet:
            raise
        return code


def _record_failure(folder: RunFolder, rank: int, error: BaseException) -> int:
    folder.rank_status(rank, phase="failed", error=error)
    if folder.record().get("state") not in FINAL:
        folder.set_state("failed", error=folder.first_error())
    return error.exit_code if isinstance(error, RequestError) else 1


def _train(recipe: Recipe, folder: RunFolder, resume: Path | None) -> int:
    from automodel.tasks import run_recipe

    return run_recipe(recipe, folder, resume=resume)


def read_recipe(folder: RunFolder) -> Recipe:
    """Return the resolved recipe of a run folder."""
    from automodel.recipe import load_recipe

    allowed = folder.record().get("launch", {}).get("allow_targets", [])
    return load_recipe(folder.recipe_path, allow_targets=allowed).recipe


def main(arguments: Sequence[str], *, body: Body | None = None) -> int:
    """Run one rank of the job of a run folder, with its output in the rank's log."""
    folder = RunFolder(arguments[0])
    rank = this_rank()
    own_log(folder, rank)
    folder.rank_status(rank, phase="starting")
    resume = Run(folder.path).resume_point if "--resume" in arguments else None
    code = run_in_process(None, folder, resume=resume.path if resume else None, body=body)
    # To torchrun any code but 0 is a failure, and it would end the other ranks while they save; the state is in the files.
    return 0 if code == STOPPED else code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
