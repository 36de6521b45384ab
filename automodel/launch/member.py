"""Being one rank of a job that somebody else's torchrun started: all ranks must agree on one run folder."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automodel.errors import AutomodelError, RunError
from automodel.launch.preflight import public_name, rebuild
from automodel.launch.request import Request
from automodel.launch.worker import heartbeats, run_in_process, this_rank
from automodel.run.folder import RunFolder
from automodel.run.location import runs_root
from automodel.run.reader import Run

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

_KEY = "automodel/run_folder"
_WAIT = timedelta(minutes=10)


def inside_torchrun() -> bool:
    """Say whether this process is one of several that torchrun started."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def run_as_rank(request: Request, *, root: Path | str | None = None) -> Run:
    """Run one rank of a job under a foreign torchrun; rank 0 checks the request and makes the folder, the others learn its path.

    Raises:
        RequestError: the request was wrong; every rank raises what rank 0 found.
    """
    store = _store()
    if this_rank() == 0:
        answer = _make(request, root)
        store.set(_KEY, json.dumps(answer))
    else:
        answer = json.loads(store.get(_KEY))
    if "error" in answer:
        raise rebuild(answer["error"])
    folder = RunFolder(answer["path"])
    with heartbeats(folder):
        run_in_process(request.recipe, folder, resume=None, quiet=False)
    return Run(folder.path)


def _make(request: Request, root: Path | str | None) -> dict[str, Any]:
    from automodel.tasks import preflight

    size = int(os.environ["WORLD_SIZE"])
    try:
        preflight(request.recipe, world_size=size, runs_root=runs_root(root or request.recipe.run.folder))
        folder = request.create_folder(root, launch={"nproc_per_node": size, "nodes": 1})
    except AutomodelError as error:
        return {"error": {"class": public_name(error), **error.as_dict()}}
    folder.claim(launcher="torchrun", world_size=size)
    return {"path": str(folder.path.resolve())}


def _store() -> Store:
    """Return the key-value store that torchrun keeps for its workers."""
    from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]  # exported at run time only

    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        raise RunError(
            "These processes have no common store to agree on a run folder.",
            found="RANK is set, but torchrun did not start this process",
            expected="torchrun, or one process",
            fix="start the job with: automodel finetune llm -c FILE --nproc-per-node N",
        )
    store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False, timeout=_WAIT)
    return PrefixStore(f"automodel/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
