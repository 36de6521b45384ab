"""The same panels outside JupyterLab: in Notebook 7 and on a page of Voila."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from automodel.run import Run
from tests.browser.conftest import Desk
from tests.browser.jobs import end, recipe, start
from tests.browser.lab import ROOT, Lab, Page

# What the applications do on an empty page, too: Voila asks for an icon font that no panel uses and loads an extension of Notebook 7 that does
# not fit it, Notebook 7 fails on settings of its own.
ICONS = "https://cdn.jsdelivr.net/npm/@fortawesome/fontawesome-free"
OWN = ("net::ERR_", "labextensions/@jupyter-notebook/lab-extension", "Cannot read properties of undefined (reading 'schema')")


@pytest.fixture
def elsewhere(desk: Desk, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Desk]:
    """Give the desk a server of another application."""
    usual, desk.lab = desk.lab, Lab(tmp_path / "server", app=request.param)
    yield desk
    for page in desk.pages:
        page.notes.outside = [url for url in page.notes.outside if not url.startswith(ICONS)]
        page.notes.errors = [text for text in page.notes.errors if not any(word in text for word in OWN)]
    desk.close()
    desk.lab.close()
    end(desk.lab.runs)
    desk.lab = usual


def trained(page: Page) -> None:
    """Start the recipe of the form and watch it to its end."""
    page.tab("launch")
    page.am.get_by_role("button", name="Start", exact=True).click()
    page.am.locator("[data-panel=monitor]").wait_for(timeout=120_000)
    page.badge("Finished")
    page.reaches("[data-board]", "rows", 7)
    page.am.locator(".am-chart-main canvas").wait_for()


@pytest.mark.parametrize("elsewhere", ["notebook"], indirect=True)
def test_notebook_7_from_the_form_to_the_curve_and_after_a_reload(elsewhere: Desk) -> None:
    page = elsewhere.open([f"from automodel_widgets import Workbench\nWorkbench({recipe('seven', steps=7)!r})"])
    trained(page)
    page.reload()
    page.badge("Finished")
    page.reaches("[data-board]", "rows", 7)


@pytest.mark.parametrize("elsewhere", ["voila"], indirect=True)
def test_voila_serves_the_workbench_notebook(elsewhere: Desk) -> None:
    shutil.copyfile(ROOT / "notebooks" / "workbench.ipynb", elsewhere.lab.work / "workbench.ipynb")
    page = elsewhere.tab("workbench.ipynb")
    page.tab("recipe")
    steps = page.am.locator("[data-panel=recipe] .am-field", has_text="step_scheduler.max_steps").locator("input").first
    steps.fill("7")
    steps.press("Tab")
    trained(page)


@pytest.mark.parametrize("elsewhere", ["voila"], indirect=True)
def test_voila_shows_a_run_live_and_whole(elsewhere: Desk) -> None:
    run: Run = start(elsewhere.lab.runs, recipe("page", steps=7))
    assert run.wait(120).state == "finished"
    elsewhere.lab.notebook("run.ipynb", ["from automodel_widgets import Monitor\nMonitor('latest')"])
    page = elsewhere.tab("run.ipynb")
    page.badge("Finished")
    page.reaches("[data-board]", "rows", 7)
