"""What the memory panel knows: what a recipe takes on each device, item by item, against what is free now, and what would make it fit."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from automodel.errors import AutomodelError
from automodel.recipe import as_loaded
from automodel.run import Run
from automodel_widgets.state.devices import Machine, size
from automodel_widgets.state.recipe_text import sections

# The estimate is within this share of the measured peak of the jobs that it was tried on.
BAND = 0.15
ITEMS = {
    "weights": ("Weights", "the model itself"),
    "adapters": ("Adapters", "the small matrices of LoRA"),
    "gradients": ("Gradients", "one for each trained weight"),
    "optimizer": ("Optimizer", "what it remembers of each trained weight"),
    "activations": ("Activations", "kept from the forward pass for the backward pass; grows with rows and their length"),
    "logits": ("Logits", "one number for each word of the vocabulary and trained token"),
    "exchange": ("Exchange", "what processes send each other"),
    "workspace": ("Workspace", "held by the allocator and not used"),
    "runtime": ("Libraries", "torch and the rest, before there is a model"),
}
# What has no bearing on memory: a change of these does not ask for a new plan.
_BESIDE = ("run", "guards", "lr_scheduler", "samples", "seed", "rng", "clip_grad_norm", "wandb", "mlflow", "tensorboard", "trackio")


@dataclass(frozen=True)
class Item:
    """One part of the memory of a device."""

    name: str
    label: str
    words: str
    bytes: int


@dataclass(frozen=True)
class Change:
    """A change of the recipe that takes less memory."""

    text: str
    overrides: tuple[str, ...]
    total: int
    fits: bool


@dataclass(frozen=True)
class Measured:
    """The peak of a run beside what its plan said."""

    run: str
    predicted: int
    peak: int

    @property
    def off(self) -> float:
        """Return by what share of the peak the plan was off; positive: it said too much."""
        return self.predicted / self.peak - 1


class MemoryState:
    """The last plan of a recipe, and what follows from it."""

    def __init__(self) -> None:
        self.answer: dict[str, Any] | None = None
        self.error: AutomodelError | None = None
        self.measured: Measured | None = None
        self.seen = ""
        self.free = 0
        self.here = True

    def take(self, asked: str, answer: dict[str, Any], free: int, *, here: bool = True) -> None:
        """Keep an answer of `plan`, and the bytes that each process had free then, `here` or on another machine."""
        self.seen, self.answer, self.error, self.free, self.here = asked, answer, None, free, here

    def fail(self, asked: str, error: AutomodelError) -> None:
        """Keep why there is no plan."""
        self.seen, self.answer, self.error = asked, None, error

    @property
    def items(self) -> list[Item]:
        """Return the parts, in the order of a step."""
        found = self._known()["memory"]
        names = [name for name in ITEMS if found.get(name)] + [name for name in found if name not in ITEMS and found[name]]
        said = {name: ITEMS.get(name, (name.capitalize(), "")) for name in names}
        return [Item(name, said[name][0], said[name][1], int(found[name])) for name in names]

    @property
    def total(self) -> int:
        """Return the bytes that one process takes."""
        return int(self._known()["memory_total"])

    @property
    def band(self) -> tuple[int, int]:
        """Return the range in which the peak is expected."""
        return round(self.total * (1 - BAND)), round(self.total * (1 + BAND))

    @property
    def scale(self) -> int:
        """Return the bytes that the whole width of the bar stands for."""
        top = self.band[1]
        # far more free memory than needed would leave a bar too thin to read
        return max(top, min(self.free, 3 * top))

    @property
    def verdict(self) -> tuple[str, str, str]:
        """Return whether it fits: kind, word, sentence."""
        need, top = size(self.total), size(self.band[1])
        free = f"{size(self.free)} {'are free now' if self.here else 'are planned for'}"
        if self.band[1] <= self.free:
            return "good", "fits", f"It needs about {need}, at most {top}; {free}."
        if self.total <= self.free:
            return "warn", "tight", f"It needs about {need}, but it may need {top}; {free}. Take one of the changes below to be sure."
        return "bad", "does not fit", f"It needs about {need}; only {free}."

    @property
    def changes(self) -> list[Change]:
        """Return what would take less memory, what suffices first."""
        rows: Sequence[Mapping[str, Any]] = self._known()["changes"]
        return [Change(row["text"], tuple(row["overrides"]), int(row["memory_total"]), int(row["memory_total"]) <= self.free) for row in rows]

    @property
    def advice(self) -> list[str]:
        """Return what no setting can do."""
        known = len(self._known()["changes"])
        return [str(line) for line in self._known()["advice"][known:]]

    @property
    def notes(self) -> list[str]:
        """Return what should be known of the estimate, such as what it leaves out."""
        return [str(line) for line in self._known().get("notes", [])]

    def facts(self) -> dict[str, str]:
        """Return the facts of the plan that go with the memory."""
        plan = self._known()
        share = plan["trained_parameters"] / max(plan["parameters"], 1)
        epochs = plan["epochs"]
        return {
            "Steps": f"{plan['steps']:,}",
            "Epochs": f"{epochs:.2f}" if epochs < 10 else f"{epochs:.0f}",
            "Tokens in all": f"{plan['total_tokens']:,}",
            "Trained parameters": f"{plan['trained_parameters']:,}",
            "Share trained": f"{share:.2%}" if share < 1 else "all",
            "Checkpoint": size(plan["checkpoint_bytes"]) if plan["checkpoint_bytes"] else "none",
        }

    def _known(self) -> dict[str, Any]:
        assert self.answer is not None
        return self.answer


def key(recipe: Mapping[str, Any], processes: int, memory: int | None, devices: Sequence[str] = ()) -> str:
    """Return what a plan depends on, as text."""
    kept = {name: value for name, value in recipe.items() if name not in _BESIDE}
    return json.dumps([kept, processes, memory, list(devices)], sort_keys=True, default=str)


def applied(recipe: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return a recipe with a change made to it."""
    return sections(as_loaded(recipe, overrides=overrides).user)


def lacking(recipe: Mapping[str, Any]) -> str | None:
    """Return what a recipe lacks for a plan, or None."""
    model, data = recipe.get("model") or {}, recipe.get("dataset") or {}
    if not (isinstance(model, str) or model.get("pretrained_model_name_or_path") or model.get("config")):
        return "choose a model first"
    return None if data.get("path_or_dataset") or data.get("name") == "mock" or data.get("_target_") else "choose a dataset first"


def peak(run: Run) -> int | None:
    """Return the highest memory use that a run has measured on one device."""
    found = [int(row["memory_bytes"]) for row in run.metrics() if row.get("memory_bytes")]
    return max(found) if found else None


def processes_of(run: Run) -> int:
    """Return the number of processes that a run was started with."""
    return int((run.folder.record().get("launch") or {}).get("nproc_per_node") or 1)


def device_words(machine: Machine, processes: int) -> list[str]:
    """Return the label of each device of a job."""
    used = machine.used_by(processes)
    if used[0] is machine.cpu:
        return ["CPU"] if processes == 1 else [f"CPU, process {number} of {processes}" for number in range(1, processes + 1)]
    return [device.label for device in used]
