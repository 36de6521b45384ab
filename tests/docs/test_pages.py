"""What the pages say is so: commands run, recipes validate, links lead somewhere, the reference is current."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import make_llama
from tests.docs.pages import PAGES, ROOT, Block, blocks, headings, links

SECONDS = 300
LANGUAGES = {"bash", "python", "yaml", "json", "text", ""}
by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PATH in which `automodel` and `python` are those of this environment."""
    folder = tmp_path_factory.mktemp("bin")
    for name, arguments in {"automodel": "-m automodel", "python": ""}.items():
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        script.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def my_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model that the pages call `my-model`."""
    return make_llama(tmp_path_factory.mktemp("pages") / "my-model")


def environment(commands: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AUTOMODEL_", "PYTEST_"))}
    paths = os.pathsep.join([str(ROOT), str(ROOT / "widgets")])
    return {**kept, "PATH": f"{commands}{os.pathsep}{kept['PATH']}", "PYTHONPATH": paths, "HF_HUB_OFFLINE": "1", "COLUMNS": "100"}


def run(block: Block, folder: Path, surroundings: dict[str, str]) -> None:
    program = ["bash", "-euo", "pipefail", "-c"] if block.language == "bash" else [sys.executable, "-c"]
    done = subprocess.run([*program, block.text], cwd=folder, env=surroundings, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == block.exit_code, f"{block.where}\n{block.text}\n{done.stdout[-3000:]}\n{done.stderr[-5000:]}"


@by_page
@pytest.mark.slow
def test_the_commands_of_a_page_run_from_top_to_bottom(page: Path, tmp_path: Path, commands: Path, my_model: Path) -> None:
    (tmp_path / "my-model").symlink_to(my_model)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for block in blocks(page):
        if "file" in block.marks:
            (tmp_path / block.marks["file"]).write_text(block.text)
        if block.language in ("bash", "python") and not block.skipped:
            run(block, tmp_path, environment(commands))


@by_page
def test_the_recipes_of_a_page_are_valid(page: Path, tmp_path: Path) -> None:
    from automodel.recipe import load_recipe

    for block in blocks(page):
        if block.language == "yaml" and not block.skipped:
            path = tmp_path / f"line-{block.line}.yaml"
            path.write_text(block.text)
            loaded = load_recipe(path)
            assert not loaded.warnings, f"{block.where}: {loaded.warnings}"


@by_page
def test_every_block_says_its_language(page: Path) -> None:
    unknown = {block.where: block.language for block in blocks(page) if block.language not in LANGUAGES}
    assert not unknown, unknown


@by_page
def test_links_lead_somewhere(page: Path) -> None:
    for line, target in links(page):
        path, _, anchor = target.partition("#")
        found = (page.parent / path) if path else page
        assert found.exists(), f"{page.name}:{line}: {target}"
        if anchor:
            assert anchor in headings(found), f"{page.name}:{line}: no heading {anchor}"


def test_the_recipe_reference_is_current() -> None:
    """It is written from the schema: `make reference`."""
    from automodel.recipe.reference import recipe_reference

    assert (ROOT / "docs" / "recipe-reference.md").read_text(encoding="utf-8") == recipe_reference()


def test_every_page_is_reached_from_the_index() -> None:
    reached = {(PAGES[0].parent / "docs" / target.partition("#")[0]).resolve() for _, target in links(ROOT / "docs" / "index.md")}
    missing = [page.name for page in PAGES[1:] if page.name != "index.md" and page not in reached]
    assert not missing, missing


def test_ci_finds_the_commands_it_runs() -> None:
    named = {block.marks["ci"]: block.text for block in blocks(ROOT / "README.md") if "ci" in block.marks}
    assert named["demo"] == "make demo\n"
    assert named["test"] == "make test\n"


def test_marks_are_read(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- file: a.txt -->\n<!-- test: exit 2 -->\n```bash\nfalse\n```\n<!-- test: skip needs a GPU -->\n\n```python\n1\n```\n")
    first, second = blocks(page)
    assert (first.marks["file"], first.exit_code, first.skipped, first.line) == ("a.txt", 2, False, 4)
    assert not second.skipped, "a mark that does not touch its fence does not count"
