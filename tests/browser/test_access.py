"""Every panel for everybody: axe finds nothing serious, the keyboard is enough, nothing is cut in a narrow pane or at 150 %, light and dark."""

from __future__ import annotations

import json
from typing import Any

import pytest

from automodel_widgets.workbench import TABS
from tests.browser.conftest import Desk
from tests.browser.jobs import recipe
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


def visit(page: Page, check: Any) -> dict[str, Any]:
    """Open every tab, wait until it is settled, and return what a check finds there."""
    found = {}
    for tab in TABS:
        page.tab(tab)
        if problems := check(page):
            found[tab] = problems
    return found


@pytest.fixture
def workbench(desk: Desk) -> Page:
    fake_run(desk.lab.runs, "failed", state="failed", error=MEMORY)
    fake_run(desk.lab.runs, "one", checks={1: 2.5, 3: 1.4}, points=(3,))
    return desk.open([CELL])


@pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not installed: python widgets/build_frontend.py")
def test_axe_in_light_and_dark(workbench: Page) -> None:
    found = {"light": visit(workbench, serious)}
    workbench.theme("JupyterLab Dark")
    found["dark"] = visit(workbench, serious)
    workbench.theme("JupyterLab Light")
    assert found == {"light": {}, "dark": {}}, json.dumps(found, indent=1)


def test_nothing_is_cut_in_a_narrow_pane_or_when_zoomed(workbench: Page) -> None:
    found = {}
    workbench.page.evaluate("() => window.jupyterapp.commands.execute('application:toggle-left-area')")
    for name, size in {"narrow": (720, 1000), "zoomed": (1280, 1200)}.items():
        workbench.page.set_viewport_size({"width": size[0], "height": size[1]})
        workbench.page.evaluate("(zoom) => { document.body.style.zoom = zoom; }", "1.5" if name == "zoomed" else "1")
        found[name] = visit(workbench, cut)
    assert found == {"narrow": {}, "zoomed": {}}, json.dumps(found, indent=1)


def test_the_keyboard_is_enough(workbench: Page) -> None:
    page, keys = workbench.page, workbench.page.keyboard
    workbench.am.get_by_role("tab", name="Model", exact=True).focus()
    for name in ("Data", "Recipe", "Memory", "Launch"):
        keys.press("ArrowRight")
        workbench.am.locator(f"[role=tab][aria-selected=true]:has-text('{name}')").wait_for()
    keys.press("Tab")
    assert page.evaluate("() => !!document.activeElement.closest('.am[data-surface] [role=tabpanel]')")
    width = page.evaluate("() => getComputedStyle(document.activeElement).outlineWidth")
    assert width != "0px"
    # The letters that are JupyterLab's commands stay text here: no cell was added or deleted.
    keys.press("b")
    assert page.locator(".jp-Cell").count() == 1
