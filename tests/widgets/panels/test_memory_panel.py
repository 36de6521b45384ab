"""The memory panel as HTML and actions, with a plan that is ready at once."""

from __future__ import annotations

import time

import pytest

from automodel.errors import ModelError
from automodel_widgets.panels import memory
from automodel_widgets.panels.memory import MemoryPlan
from automodel_widgets.state.session import Session
from tests.widgets.state.plans import RECIPE, plan


@pytest.fixture
def asked(monkeypatch):
    found = []

    def ask(question, recipe, **how):
        found.append((question, recipe, how))
        return plan()

    monkeypatch.setattr(memory.jobs, "ask", ask)
    monkeypatch.setattr(memory, "QUIET", 0.05)
    return found


def settle(panel: MemoryPlan) -> None:
    end = time.monotonic() + 10
    while panel._busy and time.monotonic() < end:
        time.sleep(0.01)


def test_nothing_chosen_yet(asked) -> None:
    panel = MemoryPlan()
    assert "Choose a model first" in panel.html()
    assert asked == []


def test_bar_table_and_verdict(asked) -> None:
    panel = MemoryPlan(RECIPE)
    settle(panel)
    html = panel.html()
    for word in ("Weights", "Gradients", "Optimizer", "Activations", "Logits", "Libraries", "fits", "free now"):
        assert word in html
    assert 'role="img"' in html
    assert "within about 15%" in html


def test_what_an_estimate_leaves_out_is_said(asked, monkeypatch) -> None:
    monkeypatch.setattr(memory.jobs, "ask", lambda *_args, **_how: plan(notes=["images: the estimate is coarse"]))
    panel = MemoryPlan(RECIPE)
    settle(panel)
    assert "Images: the estimate is coarse." in panel.html()
    assert "right within about" not in panel.html()


def test_a_smaller_device_and_a_change_that_makes_it_fit(asked, monkeypatch) -> None:
    panel = MemoryPlan(RECIPE)
    settle(panel)
    monkeypatch.setattr(memory.jobs, "ask", lambda *_a, **_k: plan(memory_total=500_000_000))
    panel.handle("memory.limit", "0.4", {})
    settle(panel)
    assert "does not fit" in panel.html()
    assert "planned for" in panel.html()
    assert ">Saves<" in panel.html()
    panel.handle("memory.apply", "0", {})
    assert panel.session.get("step_scheduler.local_batch_size") == 1
    assert panel._busy
    settle(panel)
    assert "step_scheduler.local_batch_size=1" in panel.html()


@pytest.mark.parametrize("given", ["much", "-3", "0"])
def test_a_limit_that_does_not_fit(asked, given) -> None:
    panel = MemoryPlan(RECIPE)
    settle(panel)
    panel.handle("memory.limit", given, {})
    assert "usually 8 to 192 GB" in panel.html()


def test_many_changes_make_one_plan(asked, monkeypatch) -> None:
    monkeypatch.setattr(memory, "QUIET", 0.4)
    session = Session(RECIPE)
    panel = MemoryPlan(session=session)
    for size in (1, 2, 3):
        session.set("dataset.seq_length", size)
    settle(panel)
    time.sleep(0.1)
    assert len(asked) == 1
    assert asked[0][1]["dataset"]["seq_length"] == 3
    session.set("run.name", "x")
    time.sleep(0.5)
    assert len(asked) == 1, "a name takes no memory"


def test_an_error_is_shown_in_words(asked, monkeypatch) -> None:
    def fail(*_a, **_k):
        raise ModelError("There is no config.", found="tiny", fix="check the name")

    monkeypatch.setattr(memory.jobs, "ask", fail)
    panel = MemoryPlan(RECIPE)
    settle(panel)
    assert "There is no config." in panel.html()
    assert "check the name" in panel.html()


def test_a_hidden_panel_waits_until_it_is_opened(asked) -> None:
    session = Session(RECIPE)
    panel = MemoryPlan(session=session)
    panel.shown = False
    session.set("dataset.seq_length", 5)
    time.sleep(0.1)
    assert asked == []
    panel.shown = True
    panel.opened()
    settle(panel)
    assert len(asked) == 1
