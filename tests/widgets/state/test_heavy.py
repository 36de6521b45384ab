"""What the helper processes do, in this process: each model is loaded once, whatever the number of prompts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import automodel
from automodel_widgets.state import heavy

PROMPTS = ("Who built the bridge?", "When?")


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Count the models that are loaded."""
    assert callable(automodel.generate)
    room, found = sys.modules["automodel.tasks.generate"], []
    load = room._load

    def counted(one: Any) -> Any:
        found.append(one.folder)
        return load(one)

    monkeypatch.setattr(room, "_load", counted)
    return found


def test_each_side_is_loaded_once_and_a_side_that_cannot_be_asked_says_why(tiny_model_dir: Path, loads: list[Any]) -> None:
    told: list[dict[str, Any]] = []
    sides = [("base", str(tiny_model_dir), True), ("tuned", str(tiny_model_dir), False)]
    heavy.speak(told.append, sides, PROMPTS, {"max_new_tokens": 3, "seed": 0})
    assert [(one["kind"], one["side"]) for one in told if one["kind"] != "piece"] == [
        ("loading", "base"),
        ("refused", "base"),
        ("loading", "tuned"),
        *[("begin", "tuned"), ("answer", "tuned")] * 2,
    ]
    assert loads == [str(tiny_model_dir.resolve())]
    answers = [one for one in told if one["kind"] == "answer"]
    assert [one["text"] for one in answers] == [automodel.generate(tiny_model_dir, prompt, max_new_tokens=3).text for prompt in PROMPTS]
    assert "".join(one["text"] for one in told if one["kind"] == "piece" and one["index"] == 1) == answers[1]["text"]


def test_an_export_is_asked_the_same_as_the_trained_model(tiny_model_dir: Path, tmp_path: Path, loads: list[Any]) -> None:
    told: list[dict[str, Any]] = []
    heavy.export(told.append, str(tiny_model_dir), str(tmp_path / "made"), False, PROMPTS, 3)
    checked = [one for one in told if one["kind"] == "checked"]
    assert [(one["prompt"], one["same"]) for one in checked] == [(prompt, True) for prompt in PROMPTS]
    assert len(loads) == 2
