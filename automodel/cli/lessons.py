"""Where the notebooks lie, and what `automodel lab` opens."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from automodel.cli.output import say
from automodel.errors import RequestError

_PACKAGE = Path(__file__).resolve().parents[1]
FIRST = "workbench.ipynb"
OWN_ROOT = ("--ServerApp.root_dir", "--notebook-dir", "--LabApp.notebook_dir", "--ServerApp.notebook_dir")


def lessons_folder() -> Path | None:
    """Return the folder of the notebooks: inside the installed package, or beside it in a checkout."""
    return next((folder for folder in (_PACKAGE / "notebooks", _PACKAGE.parent / "notebooks") if (folder / FIRST).is_file()), None)


def lab_words(arguments: Sequence[str], here: Path) -> list[str]:
    """Return the words for `jupyter lab`: as given where they name a notebook or folder, else with the workbench notebook in front.

    Where there is no `notebooks/workbench.ipynb` yet, the lessons are copied there, so that what people write stays theirs; nothing is
    written over.
    """
    given = list(arguments)
    if any(not word.startswith("-") and (word.endswith(".ipynb") or (here / word).exists()) for word in given):
        return given
    source, target = lessons_folder(), here / "notebooks"
    if source is None:
        return given
    if not (target / FIRST).is_file():
        say(f"copied {_copy(source, target)} notebooks into {target}")
    root = [] if any(word.startswith(OWN_ROOT) for word in given) else [f"--ServerApp.root_dir={here}"]
    return [f"notebooks/{FIRST}", *root, *given]


def _copy(source: Path, target: Path) -> int:
    new = [path for path in sorted(source.glob("*.ipynb")) if not (target / path.name).exists()]
    try:
        target.mkdir(parents=True, exist_ok=True)
        for path in new:
            shutil.copyfile(path, target / path.name)
    except OSError as error:
        fix = "go to a folder of your own first"
        raise RequestError(
            "The notebooks cannot be copied here.", found=f"{target}: {error.strerror}", expected="a folder to write in", fix=fix
        ) from error
    return len(new)
