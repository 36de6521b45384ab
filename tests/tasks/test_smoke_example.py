"""The preset that checks an installation runs as it is shipped: no tokenizer, no data, no network."""

from __future__ import annotations

from pathlib import Path

import automodel
from automodel.recipe import list_presets


def test_the_smoke_preset_runs(tmp_path: Path) -> None:
    preset = list_presets()["mock_smoke"]
    run = automodel.finetune(preset, overrides=["step_scheduler.max_steps=2"], run_folder=tmp_path)
    assert run.status.state == "finished"
    assert run.status.step == 2
    assert automodel.plan(preset).steps == 10
