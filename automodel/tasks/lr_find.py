"""The learning-rate finder: a short training in which the rate rises from step to step, and what its losses suggest.

After Smith 2015 (arXiv:1506.01186) and fastai's finder. The weights live and die in this process: nothing is saved. A notebook starts it as
`python -m automodel.tasks.lr_find RECIPE.yaml --out FOLDER`, which appends each step to `FOLDER/lr.jsonl` and ends with a line `done` or `error`;
a file `FOLDER/stop` ends it after the step that is being done.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automodel.errors import AutomodelError, RequestError
from automodel.optim import Schedule

if TYPE_CHECKING:
    from automodel.recipe.schema import Recipe
    from automodel.train.state import Job

RANGE = (1e-7, 10.0)
LORA_RANGE = (1e-6, 1e-2)
STEPS = 100
CPU_STEPS = 60
# A smoothed loss of so many times the best one ends the search: higher rates can only be worse.
DIVERGED = 4.0
# The last points before that end belong to the explosion, the first tenth to the warming of the mean; neither is looked at for a suggestion.
TAIL = 5
HEAD = 10
FEWEST = 12


class Rising(Schedule):
    """The rate rises by the same factor each step, from `start` to `peak` over `total` steps."""

    def at(self, step: int) -> float:
        """Return the rate of optimizer step `step`, counted from 0."""
        return float(self.start * (self.peak / self.start) ** (step / max(self.total - 1, 1)))


@dataclass(frozen=True)
class Point:
    """One step of the search."""

    step: int
    lr: float
    loss: float
    smoothed: float


@dataclass(frozen=True)
class Found:
    """What the search saw: its points, why it ended, and name -> suggested rate."""

    points: tuple[Point, ...]
    ended: str
    suggestions: dict[str, float]


def lr_find(
    recipe: Recipe,
    *,
    low: float | None = None,
    high: float | None = None,
    steps: int | None = None,
    seconds: float | None = None,
    on_point: Callable[[Point, int], None] | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Found:
    """Train for a few steps at rising rates and suggest one; the recipe's weights and folders are left alone.

    Args:
        recipe: what would be trained; its own learning rate and schedule are not used.
        low, high: the range; absent: 1e-7 to 10, for LoRA 1e-6 to 1e-2.
        steps: optimizer steps; absent: 100, on a CPU 60.
        seconds: end after so long.
        on_point: called after each step with the point and the number of steps.
        stopped: asked after each step whether to end.

    Raises:
        RequestError: the recipe or the range is wrong.
    """
    usual = RANGE if recipe.peft is None else LORA_RANGE
    begin, end = usual[0] if low is None else low, usual[1] if high is None else high
    if not 0 < begin < end:
        raise RequestError("The range of learning rates is empty.", found=f"{begin:g} to {end:g}", expected="0 < low < high", fix="swap them")
    with tempfile.TemporaryDirectory(prefix="automodel-lr-") as scratch:
        job = _job(recipe, Path(scratch))
        total = steps or (CPU_STEPS if job.world.device.type == "cpu" else STEPS)
        job.schedule = Rising(start=begin, peak=end, total=total)
        try:
            points, ended = _search(job, total, seconds, on_point, stopped)
        finally:
            job.world.close()
    return Found(tuple(points), ended, suggest(points, diverged=ended == "diverged"))


def _job(recipe: Recipe, scratch: Path) -> Job:
    from automodel.mesh import start_world
    from automodel.run import NullReporter, RunFolder
    from automodel.tasks.preflight import preflight
    from automodel.tasks.run import quiet_libraries
    from automodel.tasks.sft import build_job

    quiet_libraries()
    plain = {"checkpoint": recipe.checkpoint.model_copy(update={"enabled": False, "checkpoint_dir": None, "restore_from": None}), "samples": None}
    recipe = recipe.model_copy(update={**plain, "validation_datasets": {}})
    ready = preflight(recipe, runs_root=scratch)
    folder = RunFolder.create(scratch, recipe_yaml="", user_yaml="", command=["lr_find"], model="lr", task=recipe.task)
    return build_job(ready, folder, start_world(recipe.dist_env), reporter=NullReporter(), resume=None)


def _search(
    job: Job, total: int, seconds: float | None, on_point: Callable[[Point, int], None] | None, stopped: Callable[[], bool]
) -> tuple[list[Point], str]:
    from automodel.train.loop import global_batches
    from automodel.train.step import training_step

    job.model.train()
    points: list[Point] = []
    memory, mean, best, began = smoothing(total), 0.0, math.inf, time.monotonic()
    while True:
        for batches in global_batches(job):
            record = training_step(job, batches)
            job.progress.step += 1
            number = job.progress.step
            if job.guards.nonfinite(record["loss"], record["grad_norm"]):
                return points, "diverged"
            mean = memory * mean + (1 - memory) * record["loss"]
            points.append(Point(number, record["lr"], record["loss"], mean / (1 - memory**number)))
            if on_point is not None:
                on_point(points[-1], total)
            best = min(best, points[-1].smoothed)
            if points[-1].smoothed > DIVERGED * best:
                return points, "diverged"
            if number >= total:
                return points, "finished"
            if stopped():
                return points, "stopped"
            if seconds is not None and time.monotonic() - began > seconds:
                return points, "out of time"


def smoothing(total: int) -> float:
    """Return the memory of the running mean: it looks back over about a tenth of the range, whatever the number of steps."""
    return min(max(1 - 10 / total, 0.5), 0.98)


def kept(points: Sequence[Point], *, diverged: bool) -> Sequence[Point]:
    """Return the points that a suggestion is read from."""
    return points[len(points) // HEAD : -TAIL if diverged else None]


def suggest(points: Sequence[Point], *, diverged: bool) -> dict[str, float]:
    """Return name -> rate: `valley` (usual), `minimum/10`, `steep`; nothing where there are too few points or the loss never fell."""
    used = kept(points, diverged=diverged)
    if len(used) < FEWEST:
        return {}
    losses = [point.smoothed for point in used]
    lowest = losses.index(min(losses))
    if lowest == 0:
        return {}
    return {"valley": used[_valley(losses)].lr, "minimum/10": used[lowest].lr / 10, "steep": used[_steep(used)].lr}


def _valley(losses: Sequence[float]) -> int:
    """Return the place half-way through the middle third of the longest falling stretch (fastai's rule)."""
    lengths, end = [1] * len(losses), 0
    for here in range(1, len(losses)):
        for before in range(here):
            if losses[here] < losses[before] and lengths[here] < lengths[before] + 1:
                lengths[here] = lengths[before] + 1
        if lengths[end] < lengths[here]:
            end = here
    start = max(end - lengths[end], 0)
    third = int((end - start) / 3)
    return start + third + third // 2


def _steep(points: Sequence[Point]) -> int:
    """Return the place where the loss falls fastest along the logarithm of the rate."""
    slopes = [(after.smoothed - before.smoothed) / math.log(after.lr / before.lr) for before, after in pairwise(points)]
    return slopes.index(min(slopes))


def main(arguments: Sequence[str]) -> int:
    """Search as the command line says, and write what is found to `lr.jsonl`."""
    from automodel.recipe import load_recipe
    from automodel.run.files import append_line

    parser = argparse.ArgumentParser(prog="automodel.tasks.lr_find")
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    for name, kind in (("low", float), ("high", float), ("steps", int), ("seconds", float)):
        parser.add_argument(f"--{name}", type=kind)
    parser.add_argument("--allow-target", action="append", default=[])
    chosen = parser.parse_args(arguments)
    lines = chosen.out / "lr.jsonl"

    def tell(point: Point, total: int) -> None:
        append_line(lines, {**asdict(point), "total": total})

    settings: dict[str, Any] = {name: getattr(chosen, name) for name in ("low", "high", "steps", "seconds")}
    try:
        recipe = load_recipe(chosen.recipe, allow_targets=chosen.allow_target).recipe
        found = lr_find(recipe, on_point=tell, stopped=(chosen.out / "stop").exists, **settings)
    except AutomodelError as error:
        append_line(lines, {"error": error.as_dict()})
        return error.exit_code
    append_line(lines, {"done": found.ended, "suggestions": found.suggestions, "skipped": [len(found.points) // HEAD, TAIL]})
    print(json.dumps(found.suggestions))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
