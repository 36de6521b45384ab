"""The wheel holds what an installed copy needs, and works from there."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.house.source import ROOT

NEEDED = [
    "automodel/py.typed",
    "automodel/cli/app.py",
    "automodel/examples/sft_guide.yaml",
    "automodel/examples/peft_guide.yaml",
    "automodel_widgets/__init__.py",
    "automodel_widgets/py.typed",
    "automodel_widgets/static/surface.js",
    "automodel_widgets/static/surface.css",
    "automodel/notebooks/workbench.ipynb",
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-c", f"import hatchling.build as b; print(b.build_wheel({str(folder)!r}))"]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert built.returncode == 0, built.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def test_the_wheel_holds_the_packages_the_examples_and_the_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert set(NEEDED) <= names, sorted(set(NEEDED) - names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"automodel", "automodel_widgets"}


def test_the_wheel_holds_the_data_of_the_demo(wheel: Path) -> None:
    """Everything in the folder but code: weights, tokenizer, questions."""
    data = {
        path.relative_to(ROOT).as_posix() for path in (ROOT / "automodel" / "demo").rglob("*") if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert data
    assert data <= names, sorted(data - names)


def test_the_wheel_is_small(wheel: Path) -> None:
    """The demo data may take 8 MB; everything else is text."""
    assert wheel.stat().st_size < 10e6


def test_presets_are_found_without_the_checkout(unpacked: Path, tmp_path: Path) -> None:
    code = "import automodel, automodel.recipe as r; print(automodel.__file__); print(sorted(map(str, r.list_presets())))"
    environment = {**os.environ, "PYTHONPATH": str(unpacked)}
    shown = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith(str(unpacked))
    assert "sft_guide" in shown.stdout
    assert str(ROOT) not in shown.stdout
