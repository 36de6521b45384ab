"""Where a run was launched: the folder that the relative paths of its recipe count from, wherever they are read later."""

from __future__ import annotations

import re
from pathlib import Path

from automodel.errors import ModelError, RunError
from automodel.run.files import read_json
from automodel.run.folder import RunFolder
from automodel.run.location import RECORD

HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


def run_around(place: Path) -> RunFolder | None:
    """Return the run that a folder is, lies in, or was saved by (a checkpoint outside the run folder names its run in its manifest)."""
    above = (place, *place.resolve().parents)
    own = next((one for one in above if (one / RECORD).is_file()), None)
    if own is None:
        named = [str((read_json(one / "manifest.json") or {}).get("run") or "") for one in above[:2]]
        own = next((Path(name) for name in named if name and (Path(name) / RECORD).is_file()), None)
    return RunFolder(own) if own is not None else None


def launched_in(run: RunFolder | None) -> Path | None:
    """Return the folder that a run was launched in, if there is a run and it says so."""
    named = (run.record().get("launch") or {}).get("cwd") if run is not None else None
    return Path(named) if named else None


def places_of(name: str, *, launched: str | Path | None) -> list[Path]:
    """Return where a path may lie: a relative one below the folder of the launch, else below the present one."""
    path = Path(name).expanduser()
    return list(dict.fromkeys(Path(base).absolute() / path for base in (launched or ".", ".")))


def may_be_id(name: str) -> bool:
    """Say whether a name can be an id on the Hub, by how it is written."""
    return not (Path(name).is_absolute() or name.startswith((".", "~")) or "\\" in name) and HUB_ID.fullmatch(name) is not None


def find_base(name: str, run: RunFolder | None) -> str:
    """Return the folder that a run, or an adapter of it, names as its base model; an id on the Hub stays as it is.

    Raises:
        RunError: it is a path, and there is nothing; the message names every place that was tried.
    """
    places = places_of(name, launched=launched_in(run))
    found = next((place for place in places if place.exists()), None)
    if found is None and not may_be_id(name):
        raise RunError(
            "The base model is not where it was.",
            found=f"{name}, and nothing at {_listed(places)}",
            expected="a model folder, at the path that the recipe or the adapter names",
            fix="put the model there, or name another one: merge_adapter(..., base=FOLDER), automodel merge --base FOLDER",
        )
    return name if found is None else str(found)


def naming_places(error: ModelError, name: str, run: RunFolder | None) -> ModelError:
    """Return the error for a base model that is not on the Hub with the folders that were tried before the Hub."""
    if Path(name).is_absolute():
        return error
    parts = {**error.as_dict(), "found": f"{error.found}; nor a folder {_listed(places_of(name, launched=launched_in(run)))}"}
    return ModelError(parts["what"], found=parts["found"], expected=parts["expected"], fix=parts["fix"])


def _listed(places: list[Path]) -> str:
    return " or ".join(str(place) for place in places)
