"""Every panel for everybody: axe finds nothing serious, nothing is cut in a narrow pane or at 150 %, light and dark."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from automodel_widgets.workbench import TABS
from tests.browser.conftest import Desk
from tests.browser.jobs import finished, recipe
from tests.browser.lab import ROOT, Page
from tests.widgets.fake_runs import MEMORY, fake_run

AXE = ROOT / "widgets" / "frontend" / "node_modules" / "axe-core" / "axe.min.js"
# JupyterLab gives the page's language, title and landmarks; a panel is a part of it.
CELL = f"from automodel_widgets import Workbench\nworkbench = Workbench({recipe('demo')!r})\nworkbench"


def serious(page: Page) -> list[str]:
    """Return what axe finds in the panel, serious or critical, with the place."""
    if not page.page.evaluate("() => !!window.axe"):
        page.page.evaluate(AXE.read_text())
    options = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"], "resultTypes": ["violations"]}
    found: Any = page.page.evaluate("(options) => axe.run('.am[data-surface]', options)", options)
    return [f"{one['id']}: {node['html'][:200]}" for one in found["violations"] if one["impact"] in ("serious", "critical") for node in one["nodes"]]


# The button of a tab that brings what there is to see.
BRINGS = {
    "lr-finder": "Find a learning rate",
    "model": "Look at it",
    "launch": "Check only",
    "playground": "Ask both models",
    "publish": "Write the card",
}
# Panels outside the workbench, as they stand in a cell.
ALONE = (f"LRFinder({recipe('alone')!r})", "Lesson(root='class')", "Runs(root='class', by='student')")


def cut(page: Page) -> list[str]:
    """Return what is wider than the panel without a way to scroll to it."""
    return list(
        page.page.evaluate(
            """() => { const root = document.querySelector('.jp-OutputArea .am[data-surface]'); const edge = root.getBoundingClientRect().right + 1;
            const held = (node) => { for (let at = node.parentElement; at && at !== root.parentElement; at = at.parentElement)
              if (['auto', 'scroll', 'hidden'].includes(getComputedStyle(at).overflowX)) return true; return false; };
            const wide = [...root.querySelectorAll('*')].filter((node) => node.getBoundingClientRect().right > edge && !held(node));
            return wide.map((node) => node.outerHTML.slice(0, 160)); }"""
        )
    )


def shown(page: Page) -> Iterator[str]:
    """Open every tab of the workbench, and inside it every tab, with what its buttons bring; yield a name for each."""
    for tab in TABS:
        page.tab(tab)
        yield tab
        if tab == "playground":
            page.am.get_by_label("Prompts").fill("Who lives in the caves?")
            page.page.keyboard.press("Tab")
            page.settled()
        if tab in BRINGS:
            page.am.locator(f"[data-panel={tab}]").get_by_role("button", name=BRINGS[tab]).first.click()
            page.settled(quiet=1.0)
        yield from inside(page, tab)


def inside(page: Page, panel: str) -> Iterator[str]:
    """Open every tab inside a panel; yield a name for each, or once where there is none."""
    places = f".am[data-surface] [data-panel={panel}] [role=tab]"
    names = page.page.eval_on_selector_all(places, "(tabs) => tabs.map((tab) => tab.id)")
    for name in names:
        page.am.locator(f"[id='{name}']").click()
        page.settled()
        yield name
    if not names:
        yield f"{panel}, after a button"


def in_both_themes(page: Page, states: Iterator[str]) -> dict[str, list[str]]:
    """Return what axe finds in each state, light and dark."""
    found = {}
    for state in states:
        for theme in ("JupyterLab Dark", "JupyterLab Light"):
            page.theme(theme)
            if problems := serious(page):
                found[f"{state}, {theme}"] = problems
    return found


@pytest.fixture
def workbench(desk: Desk) -> Page:
    """A workbench beside a run that failed, one that is done, and one whose weights cannot be read."""
    fake_run(desk.lab.runs, "failed", state="failed", error=MEMORY)
    fake_run(desk.lab.runs, "one", checks={1: 2.5, 3: 1.4}, points=(3,))
    finished(desk.lab.runs)
    return desk.open([CELL])


needs_axe = pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not installed: python widgets/build_frontend.py")


@needs_axe
def test_axe_on_every_tab_in_light_and_dark(workbench: Page) -> None:
    found = in_both_themes(workbench, shown(workbench))
    assert found == {}, json.dumps(found, indent=1)


@needs_axe
@pytest.mark.parametrize("kind", ALONE)
def test_axe_on_a_panel_alone(desk: Desk, kind: str) -> None:
    fake_run(desk.lab.work / "class" / "ada", "failed", state="failed", error=MEMORY)
    fake_run(desk.lab.work / "class" / "ben", "one", checks={1: 2.5, 3: 1.4})
    page = desk.open([f"import automodel_widgets as am\nam.{kind}"])
    found = in_both_themes(page, inside(page, page.panel))
    assert found == {}, json.dumps(found, indent=1)


@needs_axe
def test_axe_on_the_questions_that_panels_ask(workbench: Page) -> None:
    workbench.tab("runs")
    before = workbench.am.locator("tbody").get_by_role("checkbox").count()
    workbench.am.locator("tbody").get_by_role("checkbox").first.check()
    workbench.settled()
    workbench.am.get_by_role("button", name="Delete…").click()
    workbench.am.get_by_role("dialog").wait_for()
    assert serious(workbench) == []
    workbench.page.keyboard.press("Escape")
    workbench.am.get_by_role("dialog").wait_for(state="detached")
    workbench.settled()
    assert workbench.am.locator("tbody").get_by_role("checkbox").count() == before


def test_nothing_is_cut_in_a_narrow_pane_or_when_zoomed(workbench: Page) -> None:
    found: dict[str, dict[str, list[str]]] = {"narrow": {}, "zoomed": {}}
    workbench.page.evaluate("() => window.jupyterapp.commands.execute('application:toggle-left-area')")
    for state in shown(workbench):
        for name, width, zoom in (("narrow", 720, "1"), ("zoomed", 1280, "1.5")):
            workbench.page.set_viewport_size({"width": width, "height": 1000})
            workbench.page.evaluate("(zoom) => { document.body.style.zoom = zoom; }", zoom)
            workbench.page.wait_for_timeout(200)
            if problems := cut(workbench):
                found[name][state] = problems
        workbench.page.evaluate("() => { document.body.style.zoom = '1'; }")
    assert found == {"narrow": {}, "zoomed": {}}, json.dumps(found, indent=1)
