"""Every name of `import automodel` resolves, is documented, and a misspelt one is answered with the nearest."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import automodel
from tests.house.source import ROOT

NAMES = sorted(name for name in automodel.__all__ if not name.startswith("__"))


@pytest.mark.both_ends
@pytest.mark.parametrize("name", NAMES)
def test_a_name_resolves_and_is_documented(name: str) -> None:
    found = getattr(automodel, name)
    if callable(found):
        text = inspect.getdoc(found) or ""
        assert text.split("\n")[0].rstrip().endswith((".", ":")), f"{name} has no sentence that says what it is"


@pytest.mark.parametrize("name", NAMES)
def test_the_table_points_at_the_room_that_type_checkers_see(name: str) -> None:
    """The lazy table and the typed block are two spellings of one list."""
    source = (ROOT / "automodel" / "__init__.py").read_text(encoding="utf-8")
    assert f"import {name} as {name}" in source


def test_a_misspelt_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(AttributeError, match="did you mean 'finetune'"):
        automodel.finetunes  # noqa: B018


@pytest.mark.parametrize("first", ["from automodel import finetune", "import automodel.launch", "import automodel; automodel.launch"])
def test_launch_is_a_function_and_a_room_whichever_comes_first(first: str) -> None:
    code = (
        f"{first}\nimport automodel, automodel.launch.supervisor as s\nassert callable(automodel.launch) and s.__file__\nautomodel.launch(nonsense=1)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False, timeout=60).stderr
    assert "TypeError: launch() got an unexpected keyword argument 'nonsense'" in shown


def test_dir_lists_every_name() -> None:
    assert set(NAMES) <= set(dir(automodel))
