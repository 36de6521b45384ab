"""Which runs have something to show or to publish, and their saved points as choices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from automodel.run import Checkpoint, Run, runs

# As many runs as a list to choose from should hold.
SHOWN = 40


def usable(run: Run) -> list[Checkpoint]:
    """Return the whole checkpoints of a run, newest first."""
    return [point for point in reversed(run.checkpoints) if point.verified and point.whole]


def with_points(root: Path | str | None, *, also: Run | None = None) -> list[Run]:
    """Return the newest runs that have a whole checkpoint, and `also`."""
    found = [run for run in runs(root) if usable(run)][:SHOWN]
    return found if also is None or any(run.path == also.path for run in found) else [also, *found]


def labels(points: list[Checkpoint]) -> dict[str, str]:
    """Return name -> label of checkpoints."""
    made = {}
    for point in points:
        marks = [word for word, is_so in (("best", point.best), ("newest", point.latest)) if is_so]
        made[point.path.name] = f"Step {point.step:,}" + (f" ({', '.join(marks)})" if marks else "")
    return made


def first(points: list[Checkpoint]) -> Checkpoint | None:
    """Return the checkpoint to begin with: the best, else the newest."""
    return next((point for point in points if point.best), points[0] if points else None)


def recipe_of(run: Run) -> dict[str, Any]:
    """Return the sections of a run's recipe; empty when it cannot be read."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        value = YAML(typ="safe", pure=True).load(run.folder.recipe_path.read_text(encoding="utf-8"))
    except (OSError, YAMLError):
        return {}
    return value if isinstance(value, dict) else {}


def prompts_of(run: Run) -> list[str]:
    """Return the sample prompts of a run's recipe, else those it answered while training."""
    own = (recipe_of(run).get("samples") or {}).get("prompts")
    told = dict.fromkeys(str(event["prompt"]) for event in run.events() if event.get("kind") == "sample" and event.get("prompt"))
    return [str(one) for one in own or told]
