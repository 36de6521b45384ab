"""A run is followed, left alone, found again, stopped and resumed: the monitor in a real browser."""

from __future__ import annotations

import time

from automodel.run import Run, runs
from tests.browser.conftest import Desk, both_modes
from tests.browser.jobs import recipe, start, until
from tests.browser.lab import Lab, Page

LONG = recipe("long", steps=20000)
# Seconds for which a tab is closed while the run goes on.
CLOSED = 20
CELL = "from automodel_widgets import Monitor\npanel = Monitor('latest')\npanel"


def training(lab: Lab) -> Run:
    """Return a run that trains: the one that is there, gone on with where it was stopped, or a new one."""
    found = [run for run in runs(lab.runs) if "-long-" in run.path.name]
    run = found[0] if found else start(lab.runs, LONG)
    if run.status.done:
        until(lambda: not run.status.alive)
        run.resume()
    until(lambda: (run.status.step or 0) > 3)
    return run


def rows(page: Page) -> int:
    """How many training rows the chart holds."""
    return int(page.am.locator("[data-board]").get_attribute("data-rows") or 0)


def grows(page: Page) -> None:
    """Wait until the chart holds more than it does now."""
    page.grows("[data-board]", "rows")


def whole(page: Page, run: Run) -> None:
    """The chart begins at the first step and holds every row."""
    board = page.am.locator("[data-board]")
    assert board.get_attribute("data-from") == "1"
    assert rows(page) >= len(run.metrics("train")) - 20


def stop(page: Page) -> None:
    page.am.get_by_role("button", name="Stop…").click()
    page.am.get_by_role("button", name="Stop and save").click()


@both_modes
def test_live_reload_and_restart_of_the_kernel(desk: Desk) -> None:
    run = training(desk.lab)
    page = desk.open([CELL])
    page.badge("Training")
    grows(page)
    whole(page, run)
    page.reload()
    grows(page)
    whole(page, run)
    page.restart()
    assert run.status.alive
    page.run(0)
    grows(page)
    whole(page, run)
    stop(page)
    page.badge("Stopped")
    assert run.status.state == "stopped"
    assert run.resume_point is not None
    last = run.status.step or 0
    page.am.get_by_role("button", name=f"Resume from step {last}").click()
    page.badge("Training")
    until(lambda: int(page.am.locator("[data-board]").get_attribute("data-to") or 0) > last)
    whole(page, run)
    assert page.am.locator("[data-board]").get_attribute("data-restarts") == str(last)


def test_two_tabs_on_one_run_and_one_of_them_closed_for_a_while(desk: Desk) -> None:
    run = training(desk.lab)
    first = desk.open([CELL])
    second = desk.open([CELL])
    for page in (first, second):
        grows(page)
        whole(page, run)
    second.save()
    second.page.close()
    seen, closed = run.status.step or 0, time.monotonic()
    until(lambda: time.monotonic() - closed > CLOSED and (run.status.step or 0) > seen + 40)
    again = desk.tab(second.path.name)
    again.am.wait_for()
    grows(again)
    whole(again, run)
    grows(first)


def test_what_one_tab_stops_and_resumes_the_other_shows(desk: Desk) -> None:
    run = training(desk.lab)
    first, second = desk.open([CELL]), desk.open([CELL])
    for page in (first, second):
        grows(page)
    stop(first)
    for page in (first, second):
        page.badge("Stopped")
    second.am.get_by_role("button", name="Resume from step").click()
    for page in (second, first):
        page.badge("Training")
        grows(page)
        whole(page, run)
    run.stop(save=False)


def test_a_run_that_goes_on_is_taken_up_when_the_workbench_is_opened_again(desk: Desk) -> None:
    run = training(desk.lab)
    page = desk.open(["from automodel_widgets import Workbench\nWorkbench()"])
    page.am.locator("[data-region='workbench.head']").get_by_text(run.path.name).wait_for()
    page.restart()
    page.run(0)
    page.tab("monitor")
    page.badge("Training")
    page.grows("[data-board]", "rows")
    run.stop(save=False)
    page.tab("model")
    page.am.locator("[data-region='workbench.head'] .am-badge").filter(has_text="Stopped").wait_for()
