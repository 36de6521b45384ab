"""Numbers that are none are found by the name of their tensor."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from automodel.errors import ModelError
from automodel.weights.check import check_finite, not_finite


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nan_and_infinity_are_named(tmp_path: Path, dtype: torch.dtype) -> None:
    bad = torch.zeros(4, 3, dtype=dtype)
    bad[1, 2], bad[0, 0] = float("nan"), float("inf")
    save_file({"a.weight": torch.ones(3, dtype=dtype), "b.weight": bad, "c": torch.arange(3)}, tmp_path / "model.safetensors")
    (found,) = not_finite(tmp_path)
    assert (found.name, found.nan, found.infinite, found.size) == ("b.weight", 1, 1, 12)
    with pytest.raises(ModelError, match=r"not all finite") as error:
        check_finite(tmp_path)
    assert "b.weight" in error.value.found


def test_the_command_checks_before_it_answers(tiny_model_dir: Path, tmp_path: Path) -> None:
    from automodel.cli.app import app
    from automodel.cli.entry import COMMAND_FILES

    assert COMMAND_FILES
    done = CliRunner().invoke(app, ["inspect", str(tiny_model_dir), "--check", "--json"])
    assert done.exit_code == 0, done.output
    save_file({"x": torch.tensor([float("nan")])}, tmp_path / "model.safetensors")
    assert isinstance(CliRunner().invoke(app, ["inspect", str(tmp_path), "--check"]).exception, ModelError)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no weights to check"):
        check_finite(tmp_path)
