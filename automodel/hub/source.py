"""What is to be published: a run's checkpoint or any model folder, and the run behind it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from automodel.errors import RunError
from automodel.run import Checkpoint, Run, attach, run_around
from automodel.run.launched import launched_in, may_be_id, places_of
from automodel.run.location import ORIGIN

CONFIG, ADAPTER = "config.json", "adapter_config.json"
RECORD = "run.json"
_SNAPSHOT = re.compile(r"models--(?P<owner>[^/]+?)--(?P<name>[^/]+)/snapshots/(?P<revision>[0-9a-f]{40})")
_SHORT_SNAPSHOT = re.compile(r"models--(?P<name>[^/]+)/snapshots/(?P<revision>[0-9a-f]{40})")
DATA_FILE = (".json", ".jsonl", ".parquet", ".csv", ".tsv", ".txt", ".arrow", ".gz", ".zst")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A model folder (or adapter folder), and the run and checkpoint it belongs to, where there is one."""

    folder: Path
    run: Run | None = None
    checkpoint: Checkpoint | None = None

    @property
    def is_adapter(self) -> bool:
        """Say whether the folder holds an adapter for a base model."""
        return (self.folder / ADAPTER).is_file() and not (self.folder / CONFIG).is_file()

    @property
    def name(self) -> str:
        """Return the run's own name, else the name of the folder."""
        if self.run is None:
            return self.folder.name
        record = self.run.folder.record()
        return str(record.get("name") or self.run.path.name)

    @property
    def launched_in(self) -> Path | None:
        """Return the folder that relative paths of the recipe count from, where it is known."""
        return launched_in(self.run.folder if self.run is not None else None)

    def origin(self) -> dict[str, Any]:
        """Return the record that an export left beside the model, where no run is known; see `automodel.hub.record`."""
        return read_map(self.folder / ORIGIN) if self.run is None else {}

    def config(self) -> dict[str, Any]:
        """Return the folder's config.json or adapter_config.json as it stands."""
        return read_map(self.folder / (ADAPTER if self.is_adapter else CONFIG))


def find_source(source: Run | str | Path, *, checkpoint: str | None = None, runs_root: str | Path | None = None) -> Source:
    """Return what a run, a checkpoint, a model folder, or the name of a run means.

    Args:
        source: a `Run`; the folder of a run, of a checkpoint, or of a model; or what `attach` takes.
        checkpoint: of a run: `best`, `latest`, or a checkpoint's name; absent: the best, else the newest.
        runs_root: where runs are looked up by name.

    Raises:
        RunError: there is no model, or no such checkpoint.
    """
    if isinstance(source, Run):
        return _of_run(source, checkpoint)
    path = Path(source).expanduser()
    if (path / RECORD).is_file():
        return _of_run(Run(path), checkpoint)
    for folder in (path, path / "model"):
        if (folder / CONFIG).is_file() or (folder / ADAPTER).is_file():
            return _of_folder(folder.resolve())
    if path.is_dir():
        raise RunError(
            "There is no model in this folder.",
            found=str(path),
            expected=f"{CONFIG} or {ADAPTER}, or a run folder",
            fix="name a run (`automodel runs` lists them), a checkpoint, or a model folder",
        )
    return _of_run(attach(str(source), runs_root), checkpoint)


def _of_run(run: Run, wanted: str | None) -> Source:
    points = [point for point in run.checkpoints if point.verified and point.whole]
    if wanted in (None, "best", "latest"):
        best = next((point for point in points if point.best), None)
        chosen = (best if wanted == "best" else best or (points[-1] if points else None)) if wanted != "latest" else (points[-1] if points else None)
    else:
        chosen = next((point for point in points if point.path.name == wanted), None)
    if chosen is None:
        names = ", ".join(point.path.name for point in points)
        raise RunError(
            f"The run has no checkpoint {wanted}." if wanted else "The run has no whole checkpoint, so there is nothing to publish.",
            found=names or "no checkpoint that is whole and verified",
            expected=f"one of {names}" if names else "a checkpoint; a run saves one at the end of each epoch and at its end",
            fix="name one of them" if names else f"look at it with: automodel status {run.id}",
        )
    return Source(folder=chosen.model, run=run, checkpoint=chosen)


def _of_folder(folder: Path) -> Source:
    """Find the run that saved a model folder: RUN/checkpoints/epoch_E_step_S/model."""
    above = run_around(folder)
    if above is None:
        return Source(folder=folder)
    run = Run(above.path)
    point = next((one for one in run.checkpoints if one.model.resolve() == folder), None)
    return Source(folder=folder, run=run if point else None, checkpoint=point)


@dataclass(frozen=True)
class Origin:
    """Where a base model or a data set comes from: a Hub id with its revision, or only a name that means nothing elsewhere."""

    name: str
    hub: bool
    revision: str | None = None
    path: Path | None = None


def origin_of(value: str, *, revision: str | None = None, cwd: str | Path | None = None, data: bool = False) -> Origin:
    """Tell a Hub id from a local path; a path into the Hub cache is the id it was downloaded from."""
    for pattern in (_SNAPSHOT, _SHORT_SNAPSHOT):
        if match := pattern.search(value):
            parts = match.groupdict()
            return Origin(f"{parts['owner']}/{parts['name']}" if "owner" in parts else parts["name"], True, parts["revision"], Path(value))
    here = next((place for place in places_of(value, launched=cwd) if place.exists()), None)
    if here is not None or not may_be_id(value) or (data and value.lower().endswith(DATA_FILE)):
        return Origin(Path(value).name or value, False, None, here)
    return Origin(value, True, revision)


def read_map(path: Path) -> dict[str, Any]:
    """Return a JSON object, or an empty one when there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
