"""The demo itself: what it promises on the first page."""

from __future__ import annotations

from pathlib import Path

import pytest

from automodel.demo import run_demo
from automodel.run import runs


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sft", "lora"])
def test_the_demo_raises_exact_match_by_forty_points(method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from transformers import AutoModelForCausalLM

    assert run_demo(method, runs_root=tmp_path, max_questions=120) == 0  # type: ignore[arg-type]  # the values are its literals
    (run,) = runs(tmp_path)
    (result,) = [event for event in run.events() if event["kind"] == "demo_result"]
    assert result["em_after"] - result["em_before"] >= 40
    assert result["peak_memory_bytes"] < 2e9
    shown = capsys.readouterr().out
    assert "exact match" in shown
    assert "checkpoint" in shown
    if method == "sft":
        assert AutoModelForCausalLM.from_pretrained(run.checkpoints[-1].model) is not None
    else:
        assert result["trained_parameters"] / result["parameters"] < 0.05
