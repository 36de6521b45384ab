"""What the panels cost: bytes on the wire, time of the browser, the size of a saved notebook, seconds to the first picture."""

from __future__ import annotations

import math
import shutil
import time
from pathlib import Path

from automodel.run import Run, attach
from automodel.run.files import write_json
from automodel.run.process import identify
from tests.browser.conftest import Desk
from tests.browser.lab import ROOT, Page
from tests.widgets.fake_runs import fake_run

POINTS, UPDATES, ROWS = 50_000, 10, 20


def alive(root: Path, name: str, points: int) -> Run:
    """Write a long run that belongs to this process, so that it counts as going on."""
    run = fake_run(root, name, state="training", losses=tuple(3 * math.exp(-i / 9000) + 0.1 * math.sin(i) for i in range(points)))
    write_json(
        run.path / "run.json",
        {**run.folder.record(), **identify().as_dict(), "launcher": "foreground", "created": time.time(), "total_steps": 100_000},
    )
    (run.path / "heartbeat").touch()
    return run


def append(run: Run, first: int, count: int) -> None:
    lines = [
        f'{{"step": {step}, "split": "train", "loss": {1 + 0.1 * math.sin(step)}, "lr": 1e-4, "time": {time.time()}}}\n'
        for step in range(first, first + count)
    ]
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write("".join(lines))


def cost(page: Page, run: Run) -> tuple[float, float]:
    """Return bytes and milliseconds of the main thread for each of some updates."""
    session = page.page.context.new_cdp_session(page.page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def spent() -> float:
        return next(metric["value"] for metric in session.send("Performance.getMetrics")["metrics"] if metric["name"] == "TaskDuration")

    page.notes.received.clear()
    before = spent()
    for update in range(UPDATES):
        append(run, POINTS + 1 + update * ROWS, ROWS)
        page.reaches("[data-board]", "rows", POINTS + (update + 1) * ROWS)
    return sum(page.notes.received) / UPDATES, (spent() - before) / UPDATES * 1000


def test_fifty_thousand_points(desk: Desk) -> None:
    run = alive(desk.lab.runs, "fifty", POINTS)
    page = desk.open([f"from automodel_widgets import Monitor\nMonitor({str(run.path)!r})"])
    page.reaches("[data-board]", "rows", POINTS)
    size, milliseconds = cost(page, run)
    assert size < 10_000
    assert milliseconds < 50


def test_a_finished_run_makes_a_small_notebook(desk: Desk) -> None:
    run = fake_run(desk.lab.runs, "small", losses=tuple(3 * math.exp(-i / 900) for i in range(5000)), checks={1000: 2.0, 5000: 1.0})
    page = desk.open([f"from automodel_widgets import Monitor\nMonitor({str(run.path)!r})"])
    page.badge("Finished")
    page.reaches("[data-board]", "rows", 5000)
    page.save()
    assert page.path.stat().st_size < 500_000


def test_the_workbench_is_there_at_once(desk: Desk) -> None:
    page = desk.open(["import automodel_widgets", "automodel_widgets.Workbench()"], run=False)
    page.run(0)
    begin = time.monotonic()
    page.run(1, wait=False)
    page.am.get_by_role("tab", name="Model", exact=True).wait_for()
    assert time.monotonic() - begin < 2


def test_from_the_first_cell_to_the_first_loss_of_the_embedded_default(desk: Desk) -> None:
    shutil.copyfile(ROOT / "notebooks" / "workbench.ipynb", desk.lab.work / "workbench.ipynb")
    page = desk.tab("workbench.ipynb")
    begin = time.monotonic()
    page.run(1, wait=False)
    page.am.wait_for()
    page.tab("launch", quiet=0.2)
    page.am.get_by_role("button", name="Start", exact=True).click()
    page.am.locator("[data-panel=monitor]").wait_for(timeout=60_000)
    page.reaches("[data-board]", "rows", 1)
    assert time.monotonic() - begin < 60
    attach("latest", desk.lab.runs).stop(save=False)
