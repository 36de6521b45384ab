"""Attention: each step down has its reason; an unknown name is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers

from automodel.auto import NeMoAutoModelForCausalLM, attention
from automodel.errors import ModelError
from tests.auto.auto_help import FAMILIES, make_model

pytestmark = pytest.mark.both_ends
no_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")


@no_cuda
def test_flash_steps_down_to_sdpa_one_at_a_time(llama_dir: Path) -> None:
    model = NeMoAutoModelForCausalLM.from_pretrained(llama_dir, attn_implementation="flash_attention_3")
    assert model.config._attn_implementation == "sdpa"
    steps = [event for event in model.resolution.events if event.startswith("attention")]
    assert [step.split(": ")[1] for step in steps] == ["flash_attention_2 in place of flash_attention_3", "sdpa in place of flash_attention_2"]
    assert all("CUDA" in step for step in steps)
    assert "CUDA" in model.kernels["attention"].others["flash_attention_3"]


@pytest.mark.parametrize("force_hf", [False, True])
@pytest.mark.parametrize("asked", [None, "sdpa"])
def test_softcap_is_never_dropped(tmp_path: Path, asked: str | None, force_hf: bool) -> None:
    folder = make_model(tmp_path / "gemma2", "gemma2")
    model = NeMoAutoModelForCausalLM.from_pretrained(folder, attn_implementation=asked, force_hf=force_hf)
    assert model.config._attn_implementation == "eager"
    fresh = transformers.AutoConfig.for_model("gemma2", **FAMILIES["gemma2"])
    again = NeMoAutoModelForCausalLM.from_config(fresh, attn_implementation=asked, force_hf=force_hf)
    assert again.config._attn_implementation == "eager"
    assert "soft cap" in again.kernels["attention"].others["sdpa"]
    assert bool([event for event in again.resolution.events if "soft cap" in event]) == (asked == "sdpa")


def test_a_class_that_refuses_sdpa_gets_eager_and_leaves_torch_as_it_was(llama_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformers.LlamaForCausalLM, "_supports_sdpa", False)
    monkeypatch.setattr(transformers.LlamaModel, "_supports_sdpa", False)
    model = NeMoAutoModelForCausalLM.from_config(str(llama_dir), attn_implementation="sdpa", dtype=torch.bfloat16, force_hf=True)
    assert model.config._attn_implementation == "eager"
    assert any("does not support" in event for event in model.resolution.events)
    assert torch.get_default_dtype() == torch.float32


def test_unknown_name_lists_the_valid_ones(llama_dir: Path) -> None:
    with pytest.raises(ModelError) as caught:
        NeMoAutoModelForCausalLM.from_pretrained(llama_dir, attn_implementation="flash_atention_2")
    assert isinstance(caught.value, ValueError)
    assert caught.value.exit_code == 2
    assert "flash_attention_2" in caught.value.expected
    assert "eager" in caught.value.expected


@no_cuda
@pytest.mark.parametrize("asked", ["te", "flex_attention", "magi", "ffpa"])
def test_names_that_cannot_run_here(llama_dir: Path, asked: str) -> None:
    model = NeMoAutoModelForCausalLM.from_pretrained(llama_dir, attn_implementation=asked)
    assert model.config._attn_implementation == "sdpa"
    assert any(asked in event for event in model.resolution.events)


@no_cuda
def test_backend_names_the_attention_too(llama_dir: Path) -> None:
    model = NeMoAutoModelForCausalLM.from_pretrained(llama_dir, backend={"attn": "eager", "linear": "te"})
    assert model.config._attn_implementation == "eager"
    assert "transformer_engine" in model.kernels["mlp"].others["te"]
    model = NeMoAutoModelForCausalLM.from_pretrained(llama_dir, sdpa_method=["cudnn_attention"], attn_implementation="eager")
    assert any("sdpa_method has no effect" in event for event in model.resolution.events)


def test_other_errors_are_not_swallowed() -> None:
    def broken(name: str) -> object:
        raise ValueError("the hidden size does not divide")

    config = transformers.LlamaConfig()
    with pytest.raises(ValueError, match="hidden size"):
        attention.descend("sdpa", broken, config=config, device=torch.device("cpu"), dtype=None, events=[], asked=True)
