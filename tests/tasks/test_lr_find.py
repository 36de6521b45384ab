"""The learning-rate finder: what it suggests from a curve, and that it trains without leaving anything behind."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import pytest

from automodel import Recipe
from automodel.errors import RequestError
from automodel.tasks import lr_find as module
from automodel.tasks.lr_find import Point, Rising, lr_find, main, smoothing, suggest

BEST = 1e-2


def bowl(rate: float) -> float:
    """A loss as rates usually give it: flat, falling to a best rate, then exploding."""
    return 1.5 - math.tanh(math.log10(rate / 1e-4)) + max(0.0, 3 * math.log10(rate / BEST)) ** 2


def curve(count: int = 80) -> list[Point]:
    rates = [1e-7 * 10 ** (8 * step / (count - 1)) for step in range(count)]
    return [Point(step + 1, rate, bowl(rate), bowl(rate)) for step, rate in enumerate(rates) if rate < 0.3]


def recipe(model: Path, data: Path, **more: object) -> Recipe:
    sections: dict[str, object] = {
        "model": {"pretrained_model_name_or_path": str(model), "torch_dtype": "float32"},
        "autocast": {"enabled": False},
        "dataset": {"name": "squad", "path_or_dataset": str(data), "seq_length": 64},
        "step_scheduler": {"global_batch_size": 2, "local_batch_size": 2},
    }
    return Recipe(**{**sections, **more})


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    text = "The bridge of Harrow was built in 1821 by Anna Vell."
    answers = [("Who built the bridge?", "Anna Vell"), ("When was it built?", "1821")] * 3
    made = [{"context": text, "question": q, "answers": {"text": [a], "answer_start": [text.index(a)]}} for q, a in answers]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return path


def test_the_rate_rises_by_the_same_factor_each_step() -> None:
    rising = Rising(start=1e-6, peak=1e-2, total=5)
    assert [rising.at(step) for step in range(5)] == pytest.approx([1e-6, 1e-5, 1e-4, 1e-3, 1e-2])


def test_suggestions_lie_on_the_slope_and_in_order() -> None:
    found = suggest(curve(), diverged=True)
    assert list(found) == ["valley", "minimum/10", "steep"]
    assert 1e-5 < found["valley"] < BEST
    assert found["minimum/10"] == pytest.approx(BEST / 10, rel=0.5)
    assert found["steep"] == pytest.approx(1e-4, rel=0.6)


def test_a_loss_that_never_falls_suggests_nothing() -> None:
    rising = [Point(step, 1e-6 * 2**step, 1.0 + step, 1.0 + step) for step in range(40)]
    assert suggest(rising, diverged=False) == {}
    assert suggest(curve()[:8], diverged=False) == {}


def test_the_mean_looks_back_over_a_tenth() -> None:
    assert smoothing(100) == pytest.approx(0.9)
    assert smoothing(10) == 0.5


def test_a_search_leaves_the_model_and_the_folder_alone(tiny_model_dir: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    weights = tiny_model_dir / "model.safetensors"
    before = hashlib.sha256(weights.read_bytes()).digest(), sorted(tmp_path.iterdir())
    seen: list[float] = []
    found = lr_find(recipe(tiny_model_dir, rows), steps=24, on_point=lambda point, total: seen.append(point.lr))
    assert (hashlib.sha256(weights.read_bytes()).digest(), sorted(tmp_path.iterdir())) == before
    assert seen == [point.lr for point in found.points]
    assert seen[0] == pytest.approx(1e-7)
    assert found.ended in ("diverged", "finished")


def test_a_lora_search_takes_the_smaller_range(tiny_model_dir: Path, rows: Path) -> None:
    peft = {"match_all_linear": True, "dim": 2}
    found = lr_find(recipe(tiny_model_dir, rows, peft=peft), steps=12)
    assert (found.points[0].lr, found.points[-1].lr) == pytest.approx(module.LORA_RANGE)


def test_it_ends_when_asked(tiny_model_dir: Path, rows: Path) -> None:
    found = lr_find(recipe(tiny_model_dir, rows), steps=50, stopped=lambda: True)
    assert (len(found.points), found.ended) == (1, "stopped")
    assert lr_find(recipe(tiny_model_dir, rows), steps=50, seconds=0).ended == "out of time"


def test_an_empty_range_is_refused(tiny_model_dir: Path, rows: Path) -> None:
    with pytest.raises(RequestError, match="empty"):
        lr_find(recipe(tiny_model_dir, rows), low=1.0, high=0.1)


def test_the_file_that_a_notebook_reads(tiny_model_dir: Path, rows: Path, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    recipe(tiny_model_dir, rows).to_yaml(file)
    assert main([str(file), "--out", str(tmp_path), "--steps", "20"]) == 0
    lines = [json.loads(line) for line in (tmp_path / "lr.jsonl").read_text().splitlines()]
    assert {"step", "lr", "loss", "smoothed", "total"} <= set(lines[0])
    assert lines[-1]["done"] in ("finished", "diverged")


def test_a_wrong_recipe_is_told_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(json.dumps({"model": {"pretrained_model_name_or_path": str(tmp_path / "nowhere")}, "dataset": {"path_or_dataset": "x.jsonl"}}))
    assert main([str(file), "--out", str(tmp_path)]) == 2
    assert json.loads((tmp_path / "lr.jsonl").read_text())["error"]["what"]
