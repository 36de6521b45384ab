"""A job from the cell to its end without a mouse, and the focus seen at every stop."""

from __future__ import annotations

from automodel.run import runs
from automodel_widgets.workbench import TABS
from tests.browser.conftest import Desk, both_modes
from tests.browser.jobs import recipe, until
from tests.browser.lab import Page

STOPS = 120
# Name of what has the focus inside the panel, and the width of the ring around it.
FOCUS = """() => { const at = document.activeElement; if (!at?.closest('.am[data-surface]')) return null;
const style = getComputedStyle(at); const labels = [...(at.labels ?? [])].map((label) => label.textContent.trim()).join(' ');
const ring = style.outlineStyle === 'none' ? '0px' : style.outlineWidth;
return {name: at.getAttribute('aria-label') || labels || at.textContent.trim(), ring}; }"""


def reach(page: Page, name: str, *, key: str = "Tab") -> None:
    """Press a key until something of this name has the focus; every stop on the way inside the panel shows it."""
    passed = []
    for _ in range(STOPS):
        page.page.keyboard.press(key)
        at = page.page.evaluate(FOCUS)
        if at is None:
            continue
        assert at["ring"] not in ("", "0px"), at
        if at["name"].startswith(name):
            return
        passed.append(at["name"][:40])
    raise AssertionError(f"{name} was not reached; passed: {passed}")


@both_modes
def test_a_job_is_started_watched_and_stopped_without_a_mouse(desk: Desk) -> None:
    page = desk.open([f"from automodel_widgets import Workbench\nWorkbench({recipe('keys', steps=20000)!r})"], run=False)
    keys = page.page.keyboard
    page.page.evaluate("() => window.jupyterapp.commands.execute('notebook:enter-command-mode')")
    keys.press("Control+Enter")
    page.am.wait_for()
    reach(page, "Model")
    for _ in range(list(TABS).index("launch")):
        keys.press("ArrowRight")
    page.am.locator("[data-panel=launch]").wait_for()
    reach(page, "Start")
    keys.press("Enter")
    page.am.locator("[data-panel=monitor]").wait_for(timeout=120_000)
    page.badge("Training")
    page.grows("[data-board]", "rows")
    reach(page, "Stop…")
    keys.press("Enter")
    page.am.get_by_role("dialog").wait_for()
    reach(page, "Stop and save", key="Shift+Tab")
    keys.press("Enter")
    page.badge("Stopped")
    run = until(lambda: next((run for run in runs(desk.lab.runs) if "-keys-" in run.path.name), None))
    assert run.status.state == "stopped"
    assert run.resume_point is not None


def test_letters_are_no_commands_of_the_notebook_inside_a_panel(desk: Desk) -> None:
    page = desk.open([f"from automodel_widgets import Workbench\nWorkbench({recipe('letters')!r})"])
    page.am.get_by_role("tab", name="Model", exact=True).focus()
    for letter in ("b", "a", "d", "d"):
        page.page.keyboard.press(letter)
    assert page.page.locator(".jp-Cell").count() == 1
    page.am.get_by_role("tab", name="Model", exact=True).press("End")
    page.am.locator("[data-panel=lesson]").wait_for()
    assert page.page.evaluate(FOCUS)["name"] == "Class"
