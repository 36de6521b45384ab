"""What the demo prints holds the numbers that were measured, and fits its terminal."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

from rich.console import Console

from automodel.demo.run import Examination, Result
from automodel.demo.score import Score
from automodel.demo.show import Stage, loss_curve


def test_the_curve_falls_and_fits() -> None:
    lines = loss_curve([(step, 8 / step) for step in range(1, 80)], width=60, height=12).splitlines()
    drawn = [line for line in lines if line.strip()]
    assert len(drawn) == 12
    assert all(len(line) <= 60 for line in lines)
    assert "training loss" in lines[0]
    assert "8.0" in drawn[2]
    assert "\x1b" not in "".join(lines)


def test_the_last_act_names_scores_and_places(tmp_path: Path) -> None:
    out = io.StringIO()
    run = SimpleNamespace(id="abc123", path=tmp_path / "runs" / "one", metrics=lambda _: [{"step": step, "loss": 3 / step} for step in (1, 2, 3)])
    result = Result(
        method="lora",
        before=Score(exact_match=1.25, f1=10.5, questions=80),
        after=Score(exact_match=81.25, f1=90, questions=80),
        parameters=1_000_000,
        trained_parameters=32_000,
        train_seconds=61.4,
        peak_memory_bytes=812_000_000,
        checkpoint=tmp_path / "runs" / "one" / "checkpoints" / "epoch_0_step_3" / "model",
    )
    Stage("lora", console=Console(file=out, width=100)).closing(run, result)  # type: ignore[arg-type]  # a stand-in for a run
    text = out.getvalue()
    for part in (
        "1.2 %",
        "81.2 %",
        "+80.0",
        "32,000 of 1,000,000",
        "3.2 %",
        "61 s",
        "0.81 GB",
        "epoch_0_step_3",
        "automodel status abc123",
        "peft_guide.yaml",
    ):
        assert part in text, part


def test_the_result_goes_into_the_run_folder_as_one_event() -> None:
    half = Score(exact_match=50, f1=60, questions=2)
    result = Result(
        method="sft", before=half, after=half, parameters=2, trained_parameters=2, train_seconds=1, peak_memory_bytes=3, checkpoint=Path("x")
    )
    event = result.as_event()
    assert {"em_before", "em_after", "f1_before", "f1_after", "train_seconds", "peak_memory_bytes", "trained_parameters"} <= set(event)
    assert event["em_after"] == 50


def test_questions_are_asked_alike_and_evenly() -> None:
    from automodel.demo.files import HELD_OUT

    examination = Examination(HELD_OUT, max_questions=10)
    assert len(set(examination.rows)) == 10
    assert examination.rows[-1] > 0.8 * len(examination.data)
    assert examination.question(0).endswith("?")
    assert "\n" not in examination.question(0)
    prompt = examination.data.example(examination.rows[0])[0]
    assert prompt.endswith("Answer:")
    assert examination.expected(0) in prompt
