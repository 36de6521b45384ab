"""Starting work from the workbench: jobs as run folders, and questions answered in a process of their own so that the kernel loads no torch."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import automodel
from automodel.errors import JobFailed
from automodel.run import Run

_lock = threading.Lock()
_pool: ProcessPoolExecutor | None = None


def start(
    recipe: Any,
    *,
    processes: int | str = "auto",
    devices: Sequence[str] | None = None,
    root: Path | str | None = None,
    overrides: Sequence[str] = (),
) -> Run:
    """Start a detached job, on the GPUs of these numbers if any are named; errors of the request are raised, and nothing was written then."""
    how: dict[str, Any] = {"nproc_per_node": processes, "devices": devices}
    run: Run = automodel.launch(recipe, run_folder=root, overrides=list(overrides), **how)
    return run


def rerun(run: Run, changes: Sequence[str], *, root: Path | str | None = None) -> Run:
    """Start a job with the recipe of a run and some changes to it, `a.b.c=value` each."""
    before = run.folder.record().get("launch") or {}
    how = {"processes": before.get("nproc_per_node", 1), "devices": before.get("devices")}
    return start(run.folder.recipe_path, **how, root=root or run.path.parent, overrides=changes)


def ask(question: str, *args: Any, **kwargs: Any) -> Any:
    """Have a question answered by the helper process and return plain data: `inspect`, `plan`, `preview` (see `answers`)."""
    return submit(question, *args, **kwargs).result()


def submit(question: str, *args: Any, **kwargs: Any) -> Future[Any]:
    """As `ask`, at once: the future holds the answer or the error. A helper process that has died is replaced by the next question."""
    from automodel_widgets.state import answers

    given: Future[Any] = Future()

    def passed_on(answer: Future[Any]) -> None:
        error = answer.exception()
        if error is None:
            given.set_result(answer.result())
        else:
            given.set_exception(_died() if isinstance(error, BrokenProcessPool) else error)

    _put(answers.answer, question, args, kwargs).add_done_callback(passed_on)
    return given


def _died() -> JobFailed:
    return JobFailed(
        "The helper process ended without an answer.",
        found="something ended it; most often the machine had no memory left",
        fix="free some memory (other notebooks, a running job) and ask again; a new helper is started then",
    )


def _put(*work: Any) -> Future[Any]:
    global _pool
    with _lock:
        if _pool is None:
            # A fresh interpreter: a fork would inherit the threads of the kernel. One worker, kept warm.
            _pool = ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn"))
            atexit.register(close)
        try:
            return _pool.submit(*work)
        except BrokenProcessPool:
            _pool = ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn"))
            return _pool.submit(*work)


def close() -> None:
    """End the helper process and give its memory back."""
    global _pool
    with _lock:
        pool, _pool = _pool, None
    if pool is not None:
        pool.shutdown(wait=False, cancel_futures=True)
