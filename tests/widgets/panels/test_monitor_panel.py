"""The monitor as HTML and actions, over run folders that are made at once."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from automodel.run import Run
from automodel.run.files import append_line, write_json
from automodel.run.process import identify
from automodel_widgets.panels.monitor import Monitor
from automodel_widgets.state.monitor import MonitorState
from automodel_widgets.state.session import Session
from tests.widgets.fake_runs import MEMORY, fake_run


def living(root: Path, *, state: str = "training", losses: tuple[float, ...] = (3.0, 2.0), **record: Any) -> Run:
    """Write a run that goes on: it belongs to this process."""
    run = fake_run(root, state=state, losses=losses)
    about = {**run.folder.record(), **identify().as_dict(), "launcher": "supervisor", **record}
    write_json(run.path / "run.json", {**about, "launch": {"nproc_per_node": 1, "stop_grace_seconds": 60.0}})
    return run


def rows(run: Run, *found: dict[str, Any]) -> None:
    for row in found:
        append_line(run.path / "metrics.jsonl", row)


def shown(run: Run) -> tuple[Monitor, str]:
    """Return the monitor with what it shows now, and no thread."""
    panel = Monitor(run)
    panel.close()
    panel._ticker.join(5)
    assert panel.surface
    panel._look()
    return panel, panel.html()


def test_tiles_tell_the_pace_and_the_tokens(tmp_path) -> None:
    run = living(tmp_path, losses=())
    rows(run, *({"step": step, "split": "train", "loss": 2.0, "time": 100.0 + 0.5 * step, "tokens_seen": 1024 * step} for step in range(1, 6)))
    _, html = shown(run)
    for name, value in (("Steps / s", "2"), ("Tokens seen", "5,120"), ("Left", "0:02")):
        assert f"{name}</dt><dd>{value}" in html.replace(' class="am-num"', ""), name


def test_the_time_left_counts_this_session_alone(tmp_path) -> None:
    run = living(tmp_path, losses=())
    rows(run, *({"step": step, "split": "train", "loss": 2.0, "time": 100.0 * step} for step in range(1, 5)))
    state = MonitorState(run)
    state.look()
    assert state.eta == 600.0
    append_line(run.path / "events.jsonl", {"time": 1000.0, "kind": "resumed", "step": 4})
    state.look()
    assert (state.eta, state.pace) == (None, None), "the steps before the stop say nothing of now"
    rows(run, *({"step": step, "split": "train", "loss": 2.0, "time": 9000.0 + step} for step in (5, 6)))
    state.look()
    fresh = MonitorState(run)
    fresh.look()
    assert state.eta == fresh.eta == 4.0


def test_before_the_first_step_it_says_what_goes_on(tmp_path) -> None:
    run = living(tmp_path, state="preparing", losses=())
    append_line(run.path / "events.jsonl", {"time": time.time(), "kind": "data", "text": "3,151 rows of <data>"})
    _, html = shown(run)
    assert "Waiting for the first step." in html
    assert "3,151 rows of &lt;data&gt;" in html
    rows(run, {"step": 1, "split": "train", "loss": 2.0, "time": time.time()})
    assert "Waiting for" not in shown(run)[1]


def test_a_stop_is_asked_of_the_run_that_was_on_the_screen(tmp_path) -> None:
    first, second = living(tmp_path / "a"), living(tmp_path / "b")
    panel, _ = shown(first)
    panel.handle("monitor.ask-stop", None, {})
    assert f"Stop {first.path.name}?" in panel.html()
    panel.follow(second)
    panel.close()
    panel.handle("monitor.stop", "save", {})
    assert not first.folder.requests().stop
    assert not second.folder.requests().stop, "a late click does not stop another run"


def test_what_comes_of_a_stop_is_said(tmp_path) -> None:
    run = living(tmp_path)
    panel, _ = shown(run)
    panel.handle("monitor.ask-stop", None, {})
    panel.handle("monitor.stop", "discard", {})
    panel._look()
    html = panel.html()
    assert "Stopping" in html
    assert "to stop and discard" in html
    assert "60 seconds after it was asked, it is ended by force" in html
    assert "It is stopping already" in html
    run.folder.event("escalation", signal="SIGTERM", ranks=[0], text="SIGTERM to 1 worker(s): no stop within 60 seconds")
    panel._look()
    assert "It did not stop in time: SIGTERM to 1 worker(s)" in panel.html()
    run.folder.set_state("stopped", ended_by="SIGKILL")
    panel._look()
    assert "was ended by force" in panel.html()
    run.folder.event("resumed", step=2)
    panel._look()
    assert "by force" not in panel.html()


def test_save_now_says_that_it_waits_for_the_step(tmp_path) -> None:
    run = living(tmp_path)
    panel, html = shown(run)
    assert "It saves at" not in html
    panel.handle("monitor.save", None, {})
    assert "It saves at the end of this step" in panel.html()


def test_the_rank_that_failed_first_is_named_and_its_log_shown(tmp_path) -> None:
    run = fake_run(tmp_path, state="failed", error={**MEMORY, "rank": 2})
    write_json(run.path / "run.json", {**run.folder.record(), "world_size": 4})
    (run.path / "logs" / "rank-0.log").write_text("I only waited")
    (run.path / "logs" / "rank-2.log").write_text("out of memory here")
    html = shown(run)[1]
    assert "Rank 2 of 4 failed first." in html
    assert "out of memory here" in html
    assert "I only waited" not in html


def test_one_validation_set_is_drawn_and_all_are_told(tmp_path) -> None:
    run = living(tmp_path, losses=())
    rows(run, {"step": 1, "split": "validation/b", "loss": 1.0}, {"step": 1, "split": "validation/a", "loss": 4.0})
    state = MonitorState(run)
    assert [row["loss"] for row in state.look().check] == [1.0]
    rows(run, {"step": 2, "split": "validation", "loss": 3.0}, {"step": 2, "split": "validation/b", "loss": 0.5})
    news = state.look()
    assert news.restarted, "the recipe's own set takes the place of the first named one"
    assert [row["loss"] for row in news.check] == [3.0]
    assert state.best is not None
    assert state.best["loss"] == 3.0
    told = dict(state.summary())
    assert told["Best validation loss"] == "3 at step 2"
    assert told["Best loss of validation/b"] == "0.5 at step 2"
    panel, html = shown(run)
    assert "Validation drawn: validation." in html
    assert "validation/a" in panel.html()


def test_a_chart_without_validation_says_how_to_get_one(tmp_path) -> None:
    run = living(tmp_path)
    assert "the recipe has no validation set" in shown(run)[1]
    recipe = run.folder.recipe_path
    recipe.write_text(recipe.read_text() + "validation_dataset:\n  path_or_dataset: other.jsonl\n")
    assert "from the first check on" in shown(run)[1]
    rows(run, {"step": 1, "split": "validation", "loss": 1.0})
    assert "from the first check on" not in shown(run)[1]


def test_words_say_where_the_curve_is_going(tmp_path) -> None:
    for losses, word in (((3.0, 2.9, 2.0, 1.9), "falling"), ((1.0, 1.0, 1.0, 1.0), "level"), ((1.0, 1.0, 2.0, 2.0), "rising")):
        state = MonitorState(fake_run(tmp_path / word, losses=losses))
        state.look()
        assert state.trend.startswith(word)
    state = MonitorState(fake_run(tmp_path / "one", losses=(2.0,)))
    state.look()
    assert dict(state.summary()).keys() >= {"Last training loss"}
    assert state.trend == ""


def test_samples_show_the_answer_and_what_was_wanted(tmp_path) -> None:
    run = living(tmp_path)
    run.folder.event("sample", text="…-> a long line", step=2, prompt="Who?", answer="the mole", wanted="a mole")
    panel, _ = shown(run)
    panel.handle("monitor.side", "samples", {})
    html = panel.html()
    for word in ("<td>Who?</td>", "<td>the mole</td>", "<td>a mole</td>"):
        assert word in html


def test_a_run_that_is_deleted_leaves_the_screen(tmp_path) -> None:
    session = Session({}, root=tmp_path)
    run = fake_run(tmp_path)
    session.run = run
    panel = Monitor(session=session)
    assert panel.surface
    shutil.rmtree(run.path)
    session.run = None
    assert "No run yet" in panel.html()


def test_what_cannot_be_drawn_is_said_instead_of_lost(tmp_path, monkeypatch) -> None:
    panel, _ = shown(living(tmp_path))
    monkeypatch.setattr(panel, "_tiles", lambda: 1 / 0)
    panel.handle("monitor.side", "log", {})
    assert "ZeroDivisionError" in panel.surface.regions()["monitor.error"]
    monkeypatch.undo()
    panel.handle("monitor.side", "log", {})
    assert panel.surface.regions()["monitor.error"] == ""


def test_a_run_that_is_over_is_looked_at_again_when_it_goes_on_elsewhere(tmp_path, monkeypatch) -> None:
    run = fake_run(tmp_path, state="stopped")
    panel, _ = shown(run)
    looks: list[int] = []
    look = panel.state.look
    monkeypatch.setattr(panel.state, "look", lambda: looks.append(1) or look())
    assert not panel.tick()
    assert not panel.tick()
    assert len(looks) == 1, "a record that stands as it was costs no look"
    record = {**run.folder.record(), **identify().as_dict(), "launcher": "foreground", "state": "training", "created": time.time(), "ended": None}
    write_json(run.path / "run.json", record)
    (run.path / "heartbeat").touch()
    assert panel.tick()
    assert "Training" in panel.parts()["head"]


def test_the_watch_goes_on_seldom_where_something_may_be_set_going_again(tmp_path, monkeypatch) -> None:
    panel, _ = shown(fake_run(tmp_path))
    monkeypatch.setattr(type(panel), "idle", 0.01)
    ticks: list[int] = []
    monkeypatch.setattr(panel, "tick", lambda: bool(ticks.append(1)))
    settled: list[int] = []
    monkeypatch.setattr(panel, "copy", lambda: settled.append(1))
    panel.watch()
    end = time.monotonic() + 5
    while len(ticks) < 5 and time.monotonic() < end:
        time.sleep(0.02)
    panel.close()
    panel._ticker.join(5)
    assert len(ticks) >= 5
    assert settled == [1]
    assert not panel._ticker.is_alive()


@pytest.mark.parametrize("where", ["copy", "tick"])
def test_an_error_in_a_thread_is_shown(tmp_path, monkeypatch, where) -> None:
    panel, _ = shown(living(tmp_path))

    def fail() -> bool:
        raise OSError("the disk is gone")

    monkeypatch.setattr(panel, where, fail)
    panel.watch() if where == "tick" else panel.later(lambda: None)
    end = time.monotonic() + 5
    while "the disk is gone" not in panel.surface.regions()["monitor.error"] and time.monotonic() < end:
        time.sleep(0.02)
    assert "OSError: the disk is gone" in panel.surface.regions()["monitor.error"]
