"""Real jobs on the embedded model, small enough for a test and long enough to be watched."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from automodel.run import Run, runs
from tests.browser.lab import ROOT

DEMO = ROOT / "automodel" / "demo"


def recipe(name: str, *, steps: int = 6, **sections: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe on the embedded model; a section given here is laid over the one of the same name."""
    made: dict[str, dict[str, Any]] = {
        "model": {"pretrained_model_name_or_path": str(DEMO / "model"), "torch_dtype": "float32"},
        "autocast": {"enabled": False},
        "dataset": {"name": "squad", "path_or_dataset": str(DEMO / "data" / "train.json"), "seq_length": 512},
        "step_scheduler": {"global_batch_size": 4, "local_batch_size": 4, "max_steps": steps},
        "optimizer": {"lr": 1e-3},
        "checkpoint": {"max_recent_checkpoints": 1},
        "run": {"name": name},
    }
    for section, values in sections.items():
        made[section] = {**made.get(section, {}), **values}
    return {"recipe": "TrainFinetuneRecipeForNextTokenPrediction", **made}


def launch_cell(recipe: dict[str, Any]) -> str:
    """Return the source of a cell that starts a job."""
    return f"import automodel\nrun = automodel.launch({recipe!r}, nproc_per_node=1)"


def start(root: Path, recipe: dict[str, Any]) -> Run:
    """Start a job from here."""
    import automodel

    return automodel.launch(recipe, nproc_per_node=1, run_folder=root)


def finished(root: Path) -> Run:
    """Return a run that trained the embedded model to its end, made once for each root."""
    found = [run for run in runs(root) if "-tuned-" in run.path.name and run.status.state == "finished"] if root.is_dir() else []
    run = found[0] if found else start(root, recipe("tuned", steps=8))
    assert run.wait(180).state == "finished"
    return run


def until(condition: Callable[[], Any], seconds: float = 120.0) -> Any:
    """Wait for something and return it."""
    last = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < last, "waited too long"
        time.sleep(0.1)
    return found


def end(root: Path) -> None:
    """Kill what still runs under a root."""
    for run in runs(root) if root.is_dir() else ():
        for record in (run.folder.record(), *run.folder.ranks().values()):
            pid = record.get("pid")
            # A made-up run may belong to this process.
            if run.status.alive and pid and int(pid) != os.getpid():
                try:
                    os.kill(int(pid), signal.SIGKILL)
                except ProcessLookupError:
                    continue
