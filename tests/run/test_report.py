"""A report is one page that needs nothing from outside, holds every fact of the run, and tells each chart in a table as well."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from automodel.errors import RequestError
from automodel.run import Run, RunFolder, compare, report_figure
from automodel.run.report import leave_report, report_text
from automodel.run.report_chart import Line, chart, short, ticks
from automodel.run.report_figure import COLOURS, looks
from automodel.run.report_series import Series, in_words, picked, reduced, series, smoothed

VOID = {"meta", "br", "link", "img", "hr", "input"}


class Page(HTMLParser):
    """Collects the text of a page, its tags, and checks that they close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def make(root: Path, steps: int = 40, **changes: object) -> RunFolder:
    folder = RunFolder.create(
        root,
        recipe_yaml="seed: 1\noptimizer:\n  lr: 0.001\n",
        user_yaml="optimizer:\n  lr: 0.001\n",
        command=["automodel", "finetune", "llm"],
        model="tiny",
        task="sft",
    )
    for step in range(1, steps + 1):
        loss = math.nan if step == 7 else 5 / step + 1
        rates = {"lr": 1e-3, "grad_norm": 2.0 + step % 3, "tokens_per_second": 12345.0, "memory_bytes": 4_000_000}
        folder.metric(step=step, split="train", loss=loss, tokens=9, **rates)
        if step % 10 == 0:
            folder.metric(step=step, split="validation", loss=2.0 + abs(step - 20) / 100, label_tokens=5)
            folder.event("sample", text="", prompt="Who <b>?", answer=f"answer {step}", wanted="Anna", step=step)
    folder.update(total_steps=steps, parameters=1000, trained_parameters=10)
    return folder


def test_every_fact_is_on_the_page(tmp_path: Path) -> None:
    folder = make(tmp_path)
    folder.set_state("finished")
    run = Run(folder.path)
    path = run.report()
    assert path == run.path / "report.html"
    page = Page(path.read_text(encoding="utf-8"))
    assert not page.stack, "every tag is closed"
    for said in (
        "finished at step 40 of 40",
        "2 at step 20",
        "Training loss fell from 6 at step 1 to 1.125 at step 40; 1 values were not numbers.",
        "Validation loss rose from 2.1 at step 10 to 2.2 at step 40; lowest 2 at step 20.",
        "Learning rate stayed at 0.001.",
        "Who <b>?",
        "answer 10",
        "answer 40",
        "lr: 0.001",
        "seed: 1",
        "automodel finetune llm",
        "1,000, 10 trained (1.00%)",
        "torch",
        "Nothing was saved.",
    ):
        assert said in page.text, said


def test_nothing_is_asked_of_the_network(tmp_path: Path) -> None:
    folder = make(tmp_path)
    folder.set_state("finished")
    text = report_text(Run(folder.path))
    page = Page(text)
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "img", "iframe", "object")]
    assert not re.search(r"(?:src|href|url)\s*[=(]\s*['\"]?(?:https?:)?//", text)
    rules = next(given["content"] for tag, given in page.tags if tag == "meta" and given.get("http-equiv"))
    assert rules is not None
    assert rules.startswith("default-src 'none'")
    assert len(text) < 60_000
    assert "prefers-color-scheme:dark" in text


def test_each_chart_has_a_name_a_description_and_a_table(tmp_path: Path) -> None:
    page = Page(report_text(Run(make(tmp_path).path)))
    charts = [given for tag, given in page.tags if tag == "svg" and given.get("role") == "img"]
    names = {given.get("id") for tag, given in page.tags if tag in ("title", "desc")}
    assert len(charts) == 5
    for given in charts:
        label = given["aria-labelledby"]
        assert label is not None
        assert set(label.split()) <= names
    assert sum(tag == "figure" for tag, _ in page.tags) == page.text.count("As a table") == 5
    assert "not a number" in page.text


def test_fifty_thousand_steps_stay_small(tmp_path: Path) -> None:
    folder = make(tmp_path, steps=2)
    one = '{{"step": {}, "split": "train", "loss": {}, "lr": 0.1, "grad_norm": 1.5}}\n'
    rows = "".join(one.format(step, 1 + (step % 97) / 97) for step in range(1, 50_001))
    (folder.path / "metrics.jsonl").write_text(rows)
    assert len(report_text(Run(folder.path))) < 120_000


def test_a_failed_run_says_why(tmp_path: Path) -> None:
    folder = make(tmp_path, steps=0)
    folder.rank_status(0, phase="failed", error={"type": "RuntimeError", "what": "CUDA out of memory. <x>", "traceback": "Traceback <here>"})
    folder.set_state("failed", error=folder.first_error())
    page = Page(report_text(Run(folder.path)))
    assert "What went wrong" in page.text
    assert "local_batch_size" in page.text
    assert "Traceback <here>" in page.text
    assert "No step was finished" in page.text


def test_a_report_that_cannot_be_written_fails_no_run(tmp_path: Path) -> None:
    folder = make(tmp_path)
    folder.set_state("finished")
    (folder.path / "report.html").mkdir()
    run = Run(folder.path)
    leave_report(run)
    assert run.status.state == "finished"
    assert any("report.html could not be written" in str(event.get("text")) for event in run.events())


def test_a_finished_job_leaves_a_report(tmp_path: Path, tiny_model_dir: Path) -> None:
    from automodel.launch import finetune

    data = tmp_path / "rows.jsonl"
    data.write_text('{"context": "a", "question": "b", "answers": {"text": ["c"], "answer_start": [0]}}\n' * 4)
    run = finetune(
        {
            "model": {"pretrained_model_name_or_path": str(tiny_model_dir)},
            "dataset": {"path_or_dataset": str(data)},
            "step_scheduler": {"global_batch_size": 2, "local_batch_size": 2, "max_steps": 2},
            "checkpoint": {"enabled": False},
            "run": {"folder": str(tmp_path / "runs")},
        }
    )
    assert "finished at step 2 of 2" in (run.path / "report.html").read_text()


def test_spikes_survive_and_gaps_stay(tmp_path: Path) -> None:
    points = [(float(x), 1.0 + x % 5) for x in range(10_000)]
    points[4321] = (4321.0, 99.0)
    points[777] = (777.0, None)  # type: ignore[assignment]  # a gap
    small = reduced(Series("x", tuple(points)), 200)
    assert len(small.points) < 330
    assert (4321.0, 99.0) in small.points
    assert (777.0, None) in small.points
    assert (small.points[0], small.points[-1]) == (points[0], points[-1])
    drawn = chart([Line(small, "main")], title="t", description="d", identity="i")
    assert drawn.count('class="main"') == 2, "the gap cuts the line in two"


def test_smoothing_is_a_mean_corrected_for_its_start() -> None:
    flat = Series("x", tuple((float(x), 3.0) for x in range(5)))
    assert [y for _, y in smoothed(flat).points] == pytest.approx([3.0] * 5)
    jump = smoothed(Series("x", ((0, 0.0), (1, 1.0), (2, None), (3, 5.0))), 0.5)
    assert [y for _, y in jump.points] == [0.0, pytest.approx(2 / 3), None, 5.0]
    assert [y for _, y in smoothed(jump, 0.0).points] == [y for _, y in jump.points]


def test_a_step_written_twice_counts_once() -> None:
    rows: list[dict[str, Any]] = [{"step": 1, "loss": 5.0}, {"step": 2, "loss": 4.0}, {"step": 2, "loss": 3.0}]
    rows += [{"step": 3, "loss": None, "nonfinite": ["loss"]}, {"step": 4}]
    assert series(rows, "loss").points == ((1.0, 5.0), (2.0, 3.0), (3.0, None))
    assert in_words(series(rows, "loss"), "loss") == "Loss fell from 5 at step 1 to 3 at step 2; 1 values were not numbers."
    assert in_words(series([], "loss"), "loss") == "No loss was recorded."


def test_axes_are_round() -> None:
    assert ticks(0.0, 1.0, 5) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert ticks(3.1, 97.0, 4) == [50.0]
    assert [short(value) for value in (0.0, 2.5, 12_500, 3e6, 1e-5, 2.5e-4, 7e9)] == ["0", "2.5", "12.5k", "3M", "1e-5", "2.5e-4", "7G"]
    assert picked(list(range(100)), 5) == [0, 25, 50, 74, 99]


def test_the_figure_of_a_run(tmp_path: Path) -> None:
    folder = make(tmp_path)
    folder.event("resumed", step=20)
    run = Run(folder.path)
    drawn = run.figure()
    assert [trace.name for trace in drawn.data] == ["training", "training, smoothed", "validation"]
    assert {trace.yaxis for trace in drawn.data} == {None}, "one axis for all"
    raw, soft, check = drawn.data
    assert raw.y[6] is None
    assert soft.y[6] is None
    assert (raw.connectgaps, soft.connectgaps) == (False, False), "a gap stays a gap"
    assert [x for x, mark in zip(check.x, check.marker.symbol, strict=True) if mark == "star"] == [20]
    assert "markers" in check.mode, "colour alone does not tell them apart"
    assert "markers" not in soft.mode
    (stop,) = drawn.layout.shapes
    assert (stop.x0, stop.x1) == (20, 20)
    assert "went on after a stop" in drawn.layout.annotations[0].text
    rates = run.figure("lr")
    assert rates.layout.yaxis.title.text == "lr"
    with pytest.raises(RequestError, match="No run has this column") as refused:
        run.figure("los")
    assert "grad_norm" in refused.value.expected


def test_the_figure_of_a_comparison(tmp_path: Path) -> None:
    runs = [Run(make(tmp_path, steps=5).path) for _ in range(4)]
    drawn = compare(*runs).figure()
    soft = [trace for trace in drawn.data if trace.name.endswith("smoothed")]
    assert [trace.name for trace in soft] == [f"{run.path.name} training, smoothed" for run in runs]
    assert len({trace.line.dash for trace in soft}) == len(runs), "a dash for each run"
    alone = [run.figure().data[1].line.color for run in runs]
    assert [trace.line.color for trace in soft] == alone, "a run has its colour by its id, whatever stands beside it"
    assert [trace.line.color for trace in compare(*runs[::-1]).figure().data if trace.name.endswith("smoothed")] == alone[::-1]


def test_looks_follow_from_the_id() -> None:
    ids = [f"{number:06x}" for number in range(40)]
    found = looks(ids)
    assert {colour for colour, _ in found} == set(COLOURS)
    assert [colour for colour, _ in looks(ids[::-1])] == [colour for colour, _ in found][::-1]
    assert len({dash for _, dash in found[:6]}) == 6
    assert looks(["00000a"])[0][1] == "solid"


def test_the_interactive_report_needs_no_network(tmp_path: Path) -> None:
    text = Run(make(tmp_path).path).report(tmp_path / "large.html", interactive=True).read_text(encoding="utf-8")
    assert not re.search(r"<script[^>]+src=", text)
    assert "script-src 'unsafe-inline'" in text


def test_without_plotly_the_error_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_figure, "find_spec", lambda name: None)
    run = Run(make(tmp_path, steps=2).path)
    for draw in (run.figure, compare(run).figure):
        with pytest.raises(RequestError, match="Plotly is not installed") as refused:
            draw()
        assert "automodel-workbench[notebook]" in refused.value.fix
