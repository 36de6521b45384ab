"""The launcher as HTML and actions, with checks and jobs that are ready at once."""

from __future__ import annotations

import threading
import time

import pytest

from automodel.errors import DataError, RunError
from automodel_widgets.panels import launch
from automodel_widgets.panels.launch import Launcher
from automodel_widgets.panels.memory import MemoryPlan
from automodel_widgets.state.devices import Device, Machine, User
from automodel_widgets.state.session import Session
from tests.widgets.fake_runs import fake_run
from tests.widgets.state.plans import RECIPE, plan


@pytest.fixture
def started(monkeypatch, tmp_path):
    found = []

    def start(recipe, **how):
        found.append((recipe, how))
        return fake_run(tmp_path / "runs", "new")

    monkeypatch.setattr(launch.jobs, "ask", lambda *_a, **_k: plan())
    monkeypatch.setattr(launch.jobs, "start", start)
    return found


def settle(panel: Launcher) -> None:
    end = time.monotonic() + 10
    while panel._doing and time.monotonic() < end:
        time.sleep(0.01)


def launcher(tmp_path, recipe=RECIPE) -> Launcher:
    panel = Launcher(session=Session(recipe, root=tmp_path / "runs"))
    panel.handle("launch.processes", "1", {})
    return panel


def test_the_start_button_says_what_is_missing(started, tmp_path) -> None:
    panel = launcher(tmp_path, {})
    assert "Start (choose a model)" in panel.html()
    panel.session.set("model.pretrained_model_name_or_path", "tiny")
    assert "Start (choose a dataset)" in panel.html()
    panel.session.set("dataset.path_or_dataset", "rows.jsonl")
    panel.session.learn("data", {"state": "blocked", "why": "all masked", "fix": ""})
    assert "Start (the data hold nothing to train on)" in panel.html()
    panel.handle("launch.start", None, {})
    assert not started


def test_check_and_start(started, tmp_path) -> None:
    panel = launcher(tmp_path)
    opened = []
    panel.open_tab = opened.append
    panel.handle("launch.check", None, {})
    settle(panel)
    assert not started
    assert panel.html().count(">ok<") + panel.html().count(" ok<") >= 6
    panel.handle("launch.start", None, {})
    settle(panel)
    assert started[0][1]["processes"] == 1
    assert panel.session.run is not None
    assert opened == ["monitor"]
    assert "Started." in panel.html()


def test_a_failed_check_stops_the_start(started, tmp_path, monkeypatch) -> None:
    def fail(*_a, **_k):
        raise DataError("No token would be trained on.", fix="give answers")

    monkeypatch.setattr(launch.jobs, "ask", fail)
    panel = launcher(tmp_path)
    panel.handle("launch.start", None, {})
    settle(panel)
    assert not started
    html = panel.html()
    assert "No token would be trained on." in html
    assert "give answers" in html
    assert "Start (data: see the checks)" in html


def test_a_change_while_it_is_checked_withdraws_the_start(started, tmp_path, monkeypatch) -> None:
    asked, go = threading.Event(), threading.Event()

    def slow(*_a, **_k):
        asked.set()
        go.wait(5)
        return plan()

    monkeypatch.setattr(launch.jobs, "ask", slow)
    panel = launcher(tmp_path)
    panel.handle("launch.start", None, {})
    assert asked.wait(5)
    panel.session.set("optimizer.lr", 3e-4)
    go.set()
    time.sleep(0.2)
    assert not started
    assert "the start was withdrawn" in panel.html()
    monkeypatch.setattr(launch.jobs, "ask", lambda *_a, **_k: plan())
    panel.handle("launch.start", None, {})
    settle(panel)
    assert len(started) == 1


def test_an_error_of_the_start_is_shown_in_place(started, tmp_path, monkeypatch) -> None:
    def refuse(*_a, **_k):
        raise RunError("The disk is full.", found="1 MB", expected="2 MB", fix="free some")

    monkeypatch.setattr(launch.jobs, "start", refuse)
    panel = launcher(tmp_path)
    panel.handle("launch.start", None, {})
    settle(panel)
    html = panel.html()
    for word in ("The disk is full.", "1 MB", "2 MB", "free some", "nothing was written"):
        assert word in html
    assert panel.session.run is None
    assert not (tmp_path / "runs").exists()


def test_name_processes_and_executor(started, tmp_path) -> None:
    panel = launcher(tmp_path)
    panel.handle("launch.name", "../x", {})
    assert "does not fit" in panel.html()
    panel.handle("launch.name", "first", {})
    assert panel.session.get("run.name") == "first"
    panel.handle("launch.processes", "2", {})
    assert panel.session.facts["processes"] == 2
    panel.handle("launch.executor", "slurm", {})
    assert "not in this version" in panel.html()


def test_devices_are_shown_with_who_uses_them(started, tmp_path) -> None:
    html = launcher(tmp_path).html()
    assert "CPU" in html
    assert "Who uses it" in html


@pytest.fixture
def four(monkeypatch) -> Machine:
    """A machine with four GPUs, the second of which somebody uses."""
    busy = (User(4242, "python3", 9 * 10**9),)
    gpus = [Device(f"cuda:{number}", f"GPU {number}: H200", 10**12, (number + 1) * 10**11, 0.0, busy * (number == 1)) for number in range(4)]
    made = Machine(Device("cpu", "CPU", 10**12, 10**12), 8, tuple(gpus))
    monkeypatch.setattr(launch, "machine", lambda: made)
    return made


def test_gpus_are_chosen_by_ticking_and_the_job_gets_those(started, tmp_path, four, monkeypatch) -> None:
    panel = Launcher(session=Session(RECIPE, root=tmp_path / "runs"))
    assert panel.devices == ["0", "2", "3"], "a GPU that somebody uses is not ticked by itself"
    assert panel.processes == 3
    assert "python3 (4242, 9.0 GB)" in panel.html()
    monkeypatch.setattr("automodel_widgets.panels.memory.machine", lambda: four)
    monkeypatch.setattr("automodel_widgets.panels.memory.QUIET", 0.0)
    memory = MemoryPlan(session=panel.session)
    assert "100 GB free now" in memory.html()
    for name in ("cuda:0", "cuda:1", "cuda:1", "cuda:9"):
        panel.handle("launch.device", name, {})
    assert panel.devices == ["2", "3"]
    assert panel.session.facts["processes"] == 2
    assert "300 GB free now" in memory.html(), "the smaller of the two that are left"
    panel.handle("launch.processes", "1", {})
    assert panel.devices == ["2"]
    panel.handle("launch.start", None, {})
    settle(panel)
    assert (started[0][1]["processes"], started[0][1]["devices"]) == (1, ["2"])
    # Its last plan must not come while another test asks.
    end = time.monotonic() + 10
    while memory._busy and time.monotonic() < end:
        time.sleep(0.01)
    assert not memory._busy


def test_without_a_ticked_gpu_the_job_computes_on_the_cpu(started, tmp_path, four) -> None:
    panel = Launcher(session=Session(RECIPE, root=tmp_path / "runs"))
    for name in ("cuda:0", "cuda:2", "cuda:3"):
        panel.handle("launch.device", name, {})
    assert (panel.devices, panel.processes) == ([], 1)
    assert "No GPU is ticked" in panel.html()


def test_a_tick_while_it_is_checked_withdraws_the_start(started, tmp_path, four, monkeypatch) -> None:
    asked, go = threading.Event(), threading.Event()
    monkeypatch.setattr(launch.jobs, "ask", lambda *_a, **_k: (asked.set(), go.wait(5), plan())[2])
    # As many rows as can be dealt to one process and to two.
    panel = Launcher(session=Session({**RECIPE, "step_scheduler": {"max_steps": 3, "global_batch_size": 6, "local_batch_size": 1}}, root=tmp_path))
    panel.handle("launch.start", None, {})
    assert asked.wait(5)
    panel.handle("launch.device", "cuda:0", {})
    go.set()
    time.sleep(0.1)
    assert not started
    assert "the start was withdrawn" in panel.html()


def test_a_run_stands_at_the_gpus_that_it_was_given(started, tmp_path, four) -> None:
    from automodel.run.files import write_json
    from automodel.run.process import identify

    run = fake_run(tmp_path / "runs", "going", state="training")
    write_json(run.path / "run.json", {**run.folder.record(), **identify().as_dict(), "launch": {"devices": ["2"]}})
    panel = Launcher(session=Session(RECIPE, root=tmp_path / "runs"))
    rows = panel.html().partition("Devices of this machine")[2].split("<tr>")
    assert [run.path.name in row for row in rows if "GPU " in row or "CPU:" in row] == [False, False, True, False, False]
