"""The finder's state: the file that the engine writes, and a fake engine in place of a training."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from automodel.errors import RequestError
from automodel.tasks import lr_find as engine
from automodel_widgets.state import lr_finder
from automodel_widgets.state.lr_finder import LrFinderState, Point, Settings, missing, rounded, shown, usual_range

RECIPE = {"model": {"pretrained_model_name_or_path": "m"}, "dataset": {"path_or_dataset": "d"}}
FAKE = """
import json, pathlib, sys, time
words = sys.argv[1:]
out = pathlib.Path(words[words.index("--out") + 1])
steps = int(words[words.index("--steps") + 1]) if "--steps" in words else 40
low = float(words[words.index("--low") + 1]) if "--low" in words else 1e-7
mode = json.loads(pathlib.Path(words[0]).read_text()).get("mode")
with open(out / "lr.jsonl", "a") as file:
    def put(row):
        file.write(json.dumps(row) + chr(10)); file.flush()
    if mode == "wrong":
        put({"error": {"what": "The model is not there.", "found": "x", "expected": "y", "fix": "z"}}); sys.exit(2)
    if mode == "crash":
        print("boom"); sys.exit(1)
    for step in range(steps):
        put({"step": step + 1, "lr": low * 2 ** step, "loss": 3.0, "smoothed": 3.0 - step / steps, "total": steps})
        if (out / "stop").exists():
            put({"done": "stopped", "suggestions": {}}); sys.exit(0)
        if mode == "slow":
            time.sleep(0.05)
    put({"done": "finished", "suggestions": {"valley": 1.23e-4, "minimum/10": 1e-3, "steep": 2e-4}})
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fake_lr_engine.py").write_text(FAKE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(lr_finder, "ENGINE", "fake_lr_engine")
    assert sys.executable


def wait(state: LrFinderState, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while state.look():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_both_sides_know_the_same_ranges() -> None:
    assert (lr_finder.RANGE, lr_finder.LORA_RANGE) == (engine.RANGE, engine.LORA_RANGE)
    assert lr_finder.STEPS == (engine.STEPS, engine.CPU_STEPS)
    assert usual_range({"peft": {"dim": 8}}) == engine.LORA_RANGE


def test_a_search_from_start_to_suggestions(fake: None) -> None:
    state = LrFinderState()
    state.start(RECIPE, Settings(low=1e-6, steps=20))
    assert state.running
    with pytest.raises(RequestError, match="running"):
        state.start(RECIPE)
    wait(state)
    assert (len(state.points), state.total, state.ended) == (20, 20, "finished")
    assert state.points[0].lr == 1e-6
    assert state.suggestions["valley"] == 1.23e-4
    assert state.verdict[1] == "good"


def test_nothing_is_left_of_a_search(fake: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    state = LrFinderState()
    state.start(RECIPE)
    wait(state)
    assert not list(scratch.iterdir())


def test_a_stop_keeps_the_points(fake: None) -> None:
    state = LrFinderState()
    state.start({**RECIPE, "mode": "slow"}, Settings(steps=500))
    while not state.points:
        state.look()
    state.stop()
    wait(state)
    assert state.ended == "stopped"
    assert 0 < len(state.points) < 500


def test_errors_are_told_in_words(fake: None) -> None:
    state = LrFinderState()
    state.start({**RECIPE, "mode": "wrong"})
    wait(state)
    assert state.error is not None
    assert state.error.what == "The model is not there."
    state.start({**RECIPE, "mode": "crash"})
    wait(state)
    assert state.error is not None
    assert "boom" in state.error.fix


def test_close_ends_the_process(fake: None) -> None:
    state = LrFinderState()
    state.start({**RECIPE, "mode": "slow"}, Settings(steps=500))
    child = state._child
    state.close()
    assert child is not None
    assert child.poll() is not None
    assert not state.running


@pytest.mark.parametrize("settings", [Settings(low=1.0, high=0.1), Settings(steps=3), Settings(steps=100000), Settings(low=-1.0)])
def test_settings_that_make_no_sense_are_refused(settings: Settings) -> None:
    with pytest.raises(RequestError):
        settings.checked(lr_finder.RANGE)


def test_the_explosion_is_not_drawn() -> None:
    values = [10.0] * 10 + [6.0] * 10 + [8.0, 11.0, 40.0, 60.0, 90.0]
    state = LrFinderState(points=[Point(1e-6 * 1.5**at, value, value) for at, value in enumerate(values)], ended="diverged")
    assert len(state.shown) == 20
    state.ended = "finished"
    assert len(state.shown) == 25


def test_what_lacks_and_how_rates_are_written() -> None:
    assert missing({}) == "choose a model first"
    assert missing({"model": {"config": "x"}}) == "choose a dataset first"
    assert missing(RECIPE) is None
    assert rounded(1.2345e-4) == 1.2e-4
    assert [shown(rate) for rate in (1.2e-4, 1e-7, 0.0027, 0.5, 10.0)] == ["1.2e-4", "1e-7", "0.0027", "0.5", "10"]
