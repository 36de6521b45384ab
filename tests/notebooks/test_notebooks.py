"""The lessons: each runs from top to bottom without a network, is stripped, and explains before it shows."""

from __future__ import annotations

import json
import os
import re
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.house.source import ROOT

FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
LESSONS = [path for path in NOTEBOOKS if path.name[0].isdigit()]
SECONDS = 180
LONGEST_CELL = 22
by_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
by_lesson = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)


def read(path: Path) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return made


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def code(book: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in book["cells"] if cell["cell_type"] == "code"]


def test_the_lessons_are_numbered_without_a_gap() -> None:
    assert [int(path.name[:2]) for path in LESSONS] == list(range(1, len(LESSONS) + 1))
    assert (FOLDER / "workbench.ipynb").is_file()


@by_notebook
def test_a_notebook_is_stripped(path: Path) -> None:
    book = read(path)
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code(book))
    assert set(book["metadata"]) <= {"kernelspec", "language_info"}
    assert all(not cell["metadata"] for cell in book["cells"])
    assert book["metadata"]["kernelspec"]["name"] == "python3"


@by_notebook
def test_a_notebook_says_nothing_of_a_machine(path: Path) -> None:
    assert not re.search(r"/home/|/Users/|/tmp/|/root\b|hf_[A-Za-z0-9]{8}", path.read_text(encoding="utf-8"))


@by_notebook
def test_there_are_words_before_code(path: Path) -> None:
    cells = read(path)["cells"]
    assert cells[0]["cell_type"] == "markdown"
    assert source(cells[0]).startswith("# ")
    runs = [before["cell_type"] == after["cell_type"] == "code" for before, after in pairwise(cells)]
    assert sum(runs) <= len(cells) / 4, "most code cells have their own words before them"


@by_notebook
def test_a_cell_holds_one_idea(path: Path) -> None:
    long = {number: len(lines) for number, cell in enumerate(code(read(path))) if len(lines := source(cell).splitlines()) > LONGEST_CELL}
    assert not long


@by_lesson
def test_a_lesson_ends_with_something_to_try_or_do(path: Path) -> None:
    text = "\n".join(source(cell) for cell in read(path)["cells"] if cell["cell_type"] == "markdown")
    assert "## Try" in text or "## Exercises" in text


@by_notebook
def test_links_lead_somewhere(path: Path) -> None:
    for cell in read(path)["cells"]:
        if cell["cell_type"] == "markdown":
            for link in re.findall(r"\]\(([^)#]+)\)", source(cell)):
                assert link.startswith("https://") or (FOLDER / link).exists(), link


@by_notebook
@pytest.mark.slow
def test_a_notebook_runs_from_top_to_bottom(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("anywidget")
    for name in [name for name in os.environ if name.startswith("AUTOMODEL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "widgets")]))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    book = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(book, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}})
    began = time.monotonic()
    client.execute()
    assert time.monotonic() - began < SECONDS
    shown = [output["data"].get("text/html", "") for cell in code(book) for output in cell["outputs"] if "data" in output]
    assert not [html for html in shown if 'am-note am-bad" role="alert"' in html], "a panel shows an error"
