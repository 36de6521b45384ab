"""BackendConfig, the table, and why Liger does or does not run."""

from __future__ import annotations

import sys
import types

import pytest
import torch

from automodel.errors import ModelError
from automodel.kernels import BackendConfig, KernelRow, KernelTable, liger
from automodel.kernels.sdpa import usable

CPU, GPU = torch.device("cpu"), torch.device("cuda")
pytestmark = pytest.mark.both_ends


def test_backend_fields_and_values_are_checked() -> None:
    assert BackendConfig.of({"attn": "sdpa", "enable_deepep": True}).asked() == {"attn": "sdpa"}
    assert BackendConfig.of(None).asked() == {}
    with pytest.raises(ModelError, match="did you mean rms_norm"):
        BackendConfig.of({"rmsnorm": "torch"})
    with pytest.raises(ModelError, match="did you mean sdpa"):
        BackendConfig(attn="spda")


def test_table_shows_choice_and_reasons() -> None:
    table = KernelTable((KernelRow(op="norm", chosen="torch", others={"liger": "<no GPU>"}),))
    assert "not liger: <no GPU>" in str(table)
    assert "&lt;no GPU&gt;" in table._repr_html_()
    with pytest.raises(KeyError, match="norm"):
        table["rope"]


def test_liger_reasons_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liger, "find_spec", lambda name: None)
    assert "not installed" in str(liger.liger_reason("llama", device=GPU))
    monkeypatch.setattr(liger, "find_spec", lambda name: object())
    monkeypatch.setattr(liger, "version", lambda name: "4.57.6")
    assert "transformers 5" in str(liger.liger_reason("llama", device=GPU))
    monkeypatch.setattr(liger, "version", lambda name: "5.23.0")
    assert "GPU" in str(liger.liger_reason("llama", device=CPU))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    patch = types.ModuleType("liger_kernel.transformers.monkey_patch")
    patch.MODEL_TYPE_TO_APPLY_LIGER_FN = {"llama": None}  # type: ignore[attr-defined]
    for name in ("liger_kernel", "liger_kernel.transformers"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers.monkey_patch", patch)
    assert "no patch for model_type gpt2" in str(liger.liger_reason("gpt2", device=GPU))
    assert "own classes" in str(liger.liger_reason("llama", device=GPU, native_class=False))
    assert liger.liger_reason("llama", device=GPU) is None


def test_sdpa_backends_of_the_device() -> None:
    assert usable(("cudnn_attention", "flash_attention"), device=CPU) == (("flash_attention", "math"), {"cudnn_attention": "has no CPU kernel"})
    assert usable(("cudnn_attention",), device=CPU)[0] == ()
    assert usable(("cudnn_attention",), device=GPU) == (("cudnn_attention",), {})
