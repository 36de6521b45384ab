"""What the launcher knows: whether a recipe can be started here, check by check, with the reason and the way out of each."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from automodel.errors import AutomodelError, DataError, JobFailed, ModelError, RecipeError
from automodel.recipe import Recipe, as_loaded, check_complete, check_world, not_built
from automodel.run import Run, runs, runs_root
from automodel_widgets.state.devices import Machine, size
from automodel_widgets.state.memory import BAND

# Check -> what it is about, in the order in which they are made.
CHECKS = {
    "recipe": "Recipe",
    "output": "Run folder",
    "model": "Model",
    "data": "Data",
    "memory": "Memory",
    "disk": "Disk",
}
EXECUTORS = {"local": "This machine", "slurm": "Slurm cluster", "cloud": "Cloud (SkyPilot)"}
# What a run needs on disk beside its newest checkpoint: the one before it, until the new one is whole.
CHECKPOINTS_AT_ONCE = 2
MOST_PROCESSES = 64


@dataclass(frozen=True)
class Check:
    """One check: `state` is open, good, warn or bad; `text` says what was found and `fix` what to do."""

    name: str
    state: str = "open"
    text: str = ""
    fix: str = ""

    @property
    def label(self) -> str:
        """Return what the check is about."""
        return CHECKS[self.name]


class LaunchState:
    """The checks of a recipe, whether they still hold, and what is missing for a start."""

    def __init__(self) -> None:
        self.checks: dict[str, Check] = {name: Check(name) for name in CHECKS}
        self.seen = ""
        self.withdrawn = False

    def begin(self, asked: str) -> None:
        """Begin to check a recipe."""
        self.checks = {name: Check(name) for name in CHECKS}
        self.seen, self.withdrawn = asked, False

    def put(self, *found: Check) -> None:
        """Note what checks have found."""
        self.checks |= {check.name: check for check in found}

    @property
    def failed(self) -> list[Check]:
        """Return the checks that forbid a start."""
        return [check for check in self.checks.values() if check.state == "bad"]

    @property
    def open(self) -> bool:
        """Say whether some check is not made."""
        return not self.failed and any(check.state == "open" for check in self.checks.values())

    def ready(self, asked: str) -> bool:
        """Say whether everything was checked for this very recipe, and nothing forbids a start."""
        return self.seen == asked and not self.failed and not self.open

    def stale(self, asked: str) -> bool:
        """Say whether the recipe was changed since it was checked."""
        return bool(self.seen) and self.seen != asked


def key(recipe: Mapping[str, Any], processes: int, devices: Sequence[str] = ()) -> str:
    """Return what the checks depend on, as text."""
    return json.dumps([recipe, processes, list(devices)], sort_keys=True, default=str)


def missing(recipe: Mapping[str, Any], facts: Mapping[str, Any]) -> str | None:
    """Return what stands in the way of a start before anything is checked, for the start button; None: nothing."""
    model, data = recipe.get("model") or {}, recipe.get("dataset") or {}
    if not (isinstance(model, str) or model.get("pretrained_model_name_or_path") or model.get("config")):
        return "choose a model"
    if not (data.get("path_or_dataset") or data.get("name") == "mock" or data.get("_target_")):
        return "choose a dataset"
    seen = facts.get("data")
    if isinstance(seen, Mapping) and seen.get("state") == "blocked":
        return "the data hold nothing to train on"
    return None


def check_recipe(recipe: Mapping[str, Any], processes: int) -> tuple[Recipe | None, Check]:
    """Check that a recipe is whole, that this version can run it, and that its batches can be dealt to the processes."""
    try:
        made = as_loaded(recipe).recipe
        check_complete(made)
        not_built(made)
        check_world(made, processes)
    except AutomodelError as error:
        return None, bad("recipe", error)
    batch = made.step_scheduler
    steps = batch.global_batch_size // (batch.local_batch_size * processes)
    text = (
        f"{batch.global_batch_size} rows a step: {batch.local_batch_size} at once, {steps} accumulated, {processes} process{'es' * (processes > 1)}"
    )
    return made, Check("recipe", "good", text)


def check_output(root: Path) -> Check:
    """Check that run folders can be made below a root, without making any."""
    near = nearest(root)
    if near.is_dir() and os.access(near, os.W_OK | os.X_OK):
        return Check("output", "good", f"Runs go to {root}")
    found = f"{near} cannot be written by this user" if near.is_dir() else f"{near} is no folder"
    return Check("output", "bad", f"Run folders cannot be made in {root}: {found}.", "set run.folder to a folder that you may write")


def from_plan(plan: Mapping[str, Any], free: int, root: Path) -> list[Check]:
    """Return the checks that a plan answers: model, data, memory and disk."""
    trained = plan["label_tokens_per_step"]
    data = Check("data", "good", f"{plan['rows']:,} rows, {trained:,.0f} trained tokens a step, {plan['steps']:,} steps")
    if not trained:
        data = Check("data", "bad", "No token of the data would be trained on.", "give rows that have an answer; the Data tab shows each token")
    model = Check("model", "good", f"{plan['parameters']:,} parameters, {plan['trained_parameters']:,} of them trained")
    return [model, data, _memory(int(plan["memory_total"]), free), _disk(int(plan["checkpoint_bytes"]), root)]


def _memory(need: int, free: int) -> Check:
    words = f"about {size(need)} a process, {size(free)} free now"
    if need > free:
        return Check("memory", "bad", f"It does not fit: {words}.", "the Memory tab has changes that make it fit")
    if need * (1 + BAND) > free:
        return Check("memory", "warn", f"It is tight: {words}.", "the Memory tab has changes that take less")
    return Check("memory", "good", words[:1].upper() + words[1:])


def _disk(checkpoint: int, root: Path) -> Check:
    free, need = shutil.disk_usage(nearest(root)).free, CHECKPOINTS_AT_ONCE * checkpoint
    words = f"{size(free)} free; a checkpoint takes {size(checkpoint)}" if checkpoint else f"{size(free)} free; no checkpoints are saved"
    if need > free:
        fix = "free some space, set run.folder to another disk, or train an adapter (LoRA)"
        return Check("disk", "bad", f"The disk is too full: {words}.", fix)
    return Check("disk", "good", words)


def from_error(error: AutomodelError) -> Check:
    """Return the check that a failed plan answers, by the kind of the error."""
    if isinstance(error, DataError):
        return bad("data", error)
    if isinstance(error, ModelError):
        return bad("model", error)
    if isinstance(error, JobFailed):
        # The helper process died at work: what ends it is nearly always a machine without memory.
        return bad("memory", error)
    words = error.what.lower()
    if isinstance(error, RecipeError):
        return bad("recipe", error)
    return bad("data" if any(word in words for word in ("data", "row", "token of")) else "model", error)


def bad(name: str, error: AutomodelError) -> Check:
    """Return a check that failed with an error of the library."""
    found = f" Found: {error.found}." if error.found and len(error.found) < 300 else ""
    expected = f" Expected: {error.expected}." if error.expected and len(error.expected) < 300 else ""
    what = error.what[:1].upper() + error.what[1:].rstrip(".") + "."
    return Check(name, "bad", what + found + expected, error.fix)


def nearest(path: Path) -> Path:
    """Return a path, or the closest thing above it that exists."""
    path = path.expanduser().absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def root_of(recipe: Mapping[str, Any], root: Path) -> Path:
    """Return where the runs of a recipe lie: its own folder, else the workbench's."""
    own = (recipe.get("run") or {}).get("folder") if isinstance(recipe.get("run"), Mapping) else None
    return runs_root(str(own)) if own else root


def living(root: Path) -> list[Run]:
    """Return the runs that go on below a root."""
    return [run for run in runs(root) if run.status.alive]


def process_choices(machine: Machine) -> list[int]:
    """Return the numbers of processes that make sense here: up to one a GPU, else a few on the CPU."""
    most = len(machine.gpus) or min(machine.cores, 8)
    return list(range(1, max(most, 1) + 1))


def executor_why_not(name: str) -> str | None:
    """Return why an executor cannot be chosen, or None."""
    return None if name == "local" else "not in this version yet: start the job on the machine itself, with `automodel`"
