"""The lesson panel, driven without a browser."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from automodel.run import Run
from automodel_widgets.panels import lesson as module
from automodel_widgets.panels.lesson import Lesson
from automodel_widgets.state.session import Session
from tests.widgets.state.test_lesson import RECIPE, run_folder


@pytest.fixture
def panel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lesson:
    monkeypatch.setattr(Lesson, "watch", lambda self: None)
    monkeypatch.setattr(Lesson, "later", lambda self, work: self.guarded(work))
    made = Lesson(root=tmp_path, session=Session(RECIPE, root=tmp_path / "ada"))
    made.handle("lesson.student", "ada", {})
    return made


def look(panel: Lesson) -> bool:
    panel._looked = 0.0
    return panel.tick()


def test_it_opens_on_the_checks(panel: Lesson) -> None:
    html = panel.html()
    assert "Is everything there?" in html
    assert "Free memory" in html
    assert "am-badge" in html


def test_each_tab_opens(panel: Lesson) -> None:
    for tab, words in {"queue": "Queue my recipe", "help": "Make the bundle", "reset": "Start over…", "check": "Check again"}.items():
        panel.handle("lesson.tab", tab, {})
        assert words in panel.html()


def test_a_recipe_waits_starts_and_becomes_the_open_run(panel: Lesson, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Path] = []

    def start(_recipe: Any, *, processes: int, devices: list[str] | None, root: Path) -> Run:
        started.append(root)
        return Run(run_folder(root).path)

    monkeypatch.setattr(module.jobs, "start", start)
    panel.handle("lesson.tab", "queue", {})
    panel.handle("lesson.join", None, {})
    assert "Queue my recipe (you are waiting already)" in panel.html()
    assert look(panel)
    assert started == [panel.state.root / "ada"]
    assert panel.session.run is not None
    assert "your open run" in panel.html()


def test_without_a_recipe_the_button_says_so(tmp_path: Path) -> None:
    panel = Lesson({}, root=tmp_path)
    panel._tab = "queue"
    assert "Queue my recipe (choose a model first, in the Recipe tab)" in panel.html()
    demo = Lesson(root=tmp_path)
    demo._tab = "queue"
    assert ">Queue my recipe</button>" in demo.html()


def test_a_ticket_is_given_back(panel: Lesson) -> None:
    panel.state.queue.set(slots=1)
    panel.handle("lesson.tab", "queue", {})
    panel.handle("lesson.join", None, {})
    panel.handle("lesson.leave", panel.state.mine[0], {})
    assert "given back" in panel.html()
    assert not look(panel)


def test_the_teacher_sets_slots_and_time(panel: Lesson) -> None:
    panel.handle("lesson.slots", "3", {})
    panel.handle("lesson.minutes", "20", {})
    panel.handle("lesson.tab", "queue", {})
    assert "0 of 3 slots in use, 0 waiting, 20 minutes each" in panel.html()
    panel.handle("lesson.slots", "many", {})
    assert "A number is needed." in panel.html()


def test_the_bundle_is_written_and_listed(panel: Lesson) -> None:
    run_folder(panel.state.place)
    panel.handle("lesson.tab", "help", {})
    panel.handle("lesson.bundle", None, {})
    html = panel.html()
    assert "Written:" in html
    assert "log-rank-0.txt" in html
    assert panel.state.bundle is not None
    assert panel.state.bundle.path.parent == panel.state.place / "help"


def test_starting_over_asks_first(panel: Lesson) -> None:
    folder = run_folder(panel.state.place)
    panel.handle("lesson.tab", "reset", {})
    panel.handle("lesson.ask-reset", None, {})
    assert "<dialog" in panel.html()
    panel.handle("lesson.reset", "cancel", {})
    assert not folder.requests().stop
    panel.handle("lesson.ask-reset", None, {})
    panel.handle("lesson.reset", "yes", {})
    assert folder.requests().stop
    assert folder.path.name in panel.html()


def test_opening_is_fast(tmp_path: Path) -> None:
    began = time.monotonic()
    Lesson(root=tmp_path).html()
    assert time.monotonic() - began < 5
