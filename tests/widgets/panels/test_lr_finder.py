"""The finder's panel, driven without a browser."""

from __future__ import annotations

import math
import re

import pytest

from automodel_widgets.panels.lr_finder import LRFinder
from automodel_widgets.state.lr_finder import Point
from automodel_widgets.state.session import Session

RECIPE = {"model": {"pretrained_model_name_or_path": "m"}, "dataset": {"path_or_dataset": "d"}, "optimizer": {"lr": 1e-5}}


def searched() -> LRFinder:
    panel = LRFinder(RECIPE)
    rates = [1e-7 * 1.6**step for step in range(34)]
    panel.state.points = [Point(rate, 5 - math.log10(rate / 1e-7), 5 - math.log10(rate / 1e-7)) for rate in rates]
    panel.state.suggestions = {"valley": 1.84e-4, "minimum/10": 2.6e-3, "steep": 1.2e-3}
    panel.state.ended, panel.state.total = "finished", 34
    return panel


def test_without_model_or_data_the_button_says_what_is_missing() -> None:
    html = LRFinder().html()
    assert "Find a learning rate (choose a model first)" in html
    assert 'aria-disabled="true"' in html


def test_the_curve_has_a_text_twin_and_marks_that_are_no_colours() -> None:
    html = searched().html()
    assert 'role="img"' in html
    assert "Suggested: valley 1.8e-4" in html
    assert html.count("stroke-dasharray") == 6
    assert "The curve in numbers" in html
    assert html.count("<tr>") == 1 + 3 + 1 + 34


def test_labels_do_not_cross_the_lines_of_later_marks() -> None:
    marks = re.findall(r'<text x="([\d.]+)" y="(14|29|44)"', searched().html())
    assert [float(x) for x, _ in marks] == sorted(float(x) for x, _ in marks)
    assert [y for _, y in marks] == ["14", "29", "44"]


def test_a_suggestion_is_written_into_the_recipe() -> None:
    panel = searched()
    panel.handle("lr-finder.use", "valley", {})
    assert panel.session.get("optimizer.lr") == 1.8e-4
    assert "in the recipe" in panel.html()
    panel.handle("lr-finder.use", "nonsense", {})
    assert panel.session.get("optimizer.lr") == 1.8e-4


def test_a_shared_session_hears_of_it() -> None:
    session = Session(RECIPE)
    heard: list[str] = []
    session.listen(heard.append)
    panel = LRFinder(session=session)
    panel.state.suggestions = {"valley": 2e-4}
    panel.handle("lr-finder.use", "valley", {})
    assert heard == ["recipe"]


@pytest.mark.parametrize(("name", "value"), [("low", "abc"), ("low", "100"), ("steps", "3"), ("steps", "many")])
def test_a_wrong_setting_is_answered_at_its_field(name: str, value: str) -> None:
    panel = LRFinder(RECIPE)
    panel.handle(f"lr-finder.{name}", value, {})
    html = panel.html()
    assert "am-error" in html
    assert "correct the fields above first" in html
    panel.handle(f"lr-finder.{name}", "", {})
    assert "am-error" not in panel.html()


def test_adapters_take_their_own_range() -> None:
    panel = LRFinder({**RECIPE, "peft": {"dim": 8}})
    assert "usual for adapters" in panel.html()
    assert 'placeholder="0.01"' in panel.html()


def test_an_error_is_shown_and_the_range_of_a_search_is_not_empty() -> None:
    panel = LRFinder(RECIPE)
    panel.handle("lr-finder.high", "1e-9", {})
    assert "is empty" in panel.html()
    panel.handle("lr-finder.start", None, {})
    assert not panel.state.running
