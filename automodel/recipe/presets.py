"""The example recipes, found in a checkout and in an installed package."""

from __future__ import annotations

from pathlib import Path

from automodel.errors import RecipeError
from automodel.recipe.problems import nearest

_PACKAGE = Path(__file__).resolve().parent.parent


def presets_folder() -> Path | None:
    """Return the folder of the example recipes: inside the installed package, or beside it in a checkout."""
    for folder in (_PACKAGE / "examples", _PACKAGE.parent / "examples"):
        if (folder / "sft_guide.yaml").is_file():
            return folder
    return None


def list_presets() -> dict[str, Path]:
    """Return the example recipes by name, in order of name."""
    folder = presets_folder()
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))} if folder else {}


def preset_path(name: str) -> Path:
    """Return the file of one example recipe.

    Raises:
        RecipeError: there is none of that name.
    """
    found = list_presets()
    if name not in found:
        best = nearest(name, found)
        raise RecipeError(
            "There is no such preset.", found=name, expected=", ".join(found), fix=f"did you mean {best}?" if best else "choose one of these"
        )
    return found[name]
