"""What the panels cost: bytes on the wire, time of the browser, the size of a saved notebook, seconds to the first picture."""

from __future__ import annotations

import json
import math
import shutil
import time
from pathlib import Path

from automodel.run import Run, attach
from automodel.run.files import write_json
from automodel.run.process import identify
from tests.browser.conftest import Desk
from tests.browser.jobs import until
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


def test_the_chart_keeps_its_zoom_and_cuts_spikes_and_takes_what_is_no_number(desk: Desk) -> None:
    points = 6000
    run = alive(desk.lab.runs, "odd", 0)
    odd = {1: 900.0, 2: 800.0, 3: 700.0, 50: None, 51: 2.0, 52: None, 60: 0.0, 61: -1.0}
    rows = [{"step": step, "split": "train", "loss": odd.get(step, 2 + math.sin(step)), "time": float(step)} for step in range(1, points + 1)]
    rows += [{"step": 0, "split": "validation", "loss": 2.5, "time": 0.5}, {"step": 40, "split": "validation", "loss": 2.0, "time": 40.0}]
    with (run.path / "metrics.jsonl").open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    single = fake_run(desk.lab.runs, "single", losses=(1.5,))
    cell = "from automodel_widgets import Monitor\nfrom IPython.display import display\n"
    page = desk.open([cell + f"display(Monitor({str(run.path)!r}), Monitor({str(single.path)!r}))"])
    boards = page.page.locator(".jp-OutputArea .am[data-surface] [data-board]")
    board, other = boards.nth(0), boards.nth(1)
    other.locator(".u-over").first.wait_for()
    page.reaches("[data-board]", "rows", points)

    def top() -> float:
        page.settled()
        return float(board.get_attribute("data-top") or 0)

    assert top() > 900
    board.get_by_label("Spikes").select_option("0.95")
    assert 2.5 < top() < 4
    board.get_by_label("Log scale").check()
    assert 2.5 < top() <= 10
    board.get_by_label("Axis").select_option("tokens")
    board.get_by_label("Axis").select_option("epoch")
    board.get_by_label("Axis").select_option("step")
    board.get_by_label("Log scale").uncheck()
    page.settled()
    box = board.locator(".u-over").first.bounding_box()
    assert box is not None
    page.page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 60)
    page.page.mouse.down()
    page.page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 60, steps=5)
    page.page.mouse.up()
    page.settled()
    zoom = board.get_attribute("data-zoom")
    assert zoom
    until(lambda: int(board.get_attribute("data-drawn") or 0) >= 550)  # every row of the window, also those left out of what the view opened with
    assert other.get_attribute("data-zoom") == "", "another run of the page is left alone"
    append(run, points + 1, 20)
    page.reaches("[data-board]", "rows", points + 20)
    assert board.get_attribute("data-zoom") == zoom
    board.locator(".u-over").first.dblclick()
    append(run, points + 21, 20)
    page.reaches("[data-board]", "rows", points + 40)
    assert board.get_attribute("data-zoom") == ""
