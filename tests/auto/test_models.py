"""The auto classes: same numbers as transformers, and what comes back behaves as a model of transformers does."""

from __future__ import annotations

import copy
import gc
import inspect
import json
import pickle
import weakref
from pathlib import Path

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel

from automodel.auto import NeMoAutoModelForCausalLM, NeMoAutoModelForSequenceClassification, models
from automodel.errors import ModelError, NotBuiltError
from automodel.kernels.sdpa import backend_names

IDS = torch.randint(3, 300, (2, 24), generator=torch.Generator().manual_seed(1))
both_ends = pytest.mark.both_ends


@both_ends
def test_logits_equal_those_of_transformers(family_dir: Path) -> None:
    plain = AutoModelForCausalLM.from_pretrained(family_dir, dtype=torch.float32)
    attn = plain.config._attn_implementation
    for force_hf in (True, False):
        ours = NeMoAutoModelForCausalLM.from_pretrained(family_dir, dtype=torch.float32, attn_implementation=attn, force_hf=force_hf)
        assert torch.allclose(plain(IDS).logits, ours(IDS).logits, rtol=0, atol=1e-4)
        assert type(ours).__name__ == type(plain).__name__
        assert not ours.training
        if force_hf:
            assert torch.equal(plain(IDS).logits, ours(IDS).logits)
            assert isinstance(ours, type(plain))


@both_ends
def test_subclasses_of_the_auto_classes() -> None:
    names = [name for name in dir(models) if name.startswith("NeMoAutoModelFor")]
    assert len(names) == 7
    for name in names:
        base = getattr(transformers, name.removeprefix("NeMo"), None)
        if base is not None:
            assert issubclass(getattr(models, name), base)
        else:
            with pytest.raises(ModelError, match="has no AutoModelForMultimodalLM"):
                getattr(models, name).from_pretrained("x")


@both_ends
@pytest.mark.parametrize("name", ["dtype", "torch_dtype"])
@pytest.mark.parametrize("value", [torch.bfloat16, "bfloat16", "bf16", "torch.bfloat16"])
def test_both_spellings_of_dtype(llama_dir: Path, name: str, value: object) -> None:
    assert NeMoAutoModelForCausalLM.from_pretrained(llama_dir, **{name: value}).dtype == torch.bfloat16
    assert NeMoAutoModelForCausalLM.from_config(str(llama_dir), **{name: value}).dtype == torch.bfloat16


@both_ends
def test_dtype_of_the_files_is_kept_by_default(llama_dir: Path, tmp_path: Path) -> None:
    NeMoAutoModelForCausalLM.from_pretrained(llama_dir, dtype=torch.bfloat16).save_pretrained(tmp_path)
    assert NeMoAutoModelForCausalLM.from_pretrained(tmp_path).dtype == torch.bfloat16
    assert NeMoAutoModelForCausalLM.from_pretrained(llama_dir).dtype == torch.float32
    with pytest.raises(ModelError, match="differ"):
        NeMoAutoModelForCausalLM.from_pretrained(llama_dir, dtype="float32", torch_dtype="bfloat16")
    with pytest.raises(ModelError, match="number type"):
        NeMoAutoModelForCausalLM.from_pretrained(llama_dir, dtype="bfloat17")


@both_ends
def test_meta_in_three_ways(family_dir: Path) -> None:
    with torch.device("meta"):
        first = NeMoAutoModelForCausalLM.from_pretrained(family_dir)
    second = NeMoAutoModelForCausalLM.from_pretrained(family_dir, device="meta")
    third = NeMoAutoModelForCausalLM.from_config(str(family_dir), device="meta")
    for model in (first, second, third):
        assert {p.device.type for p in model.parameters()} == {"meta"}
    assert "no weight was read" in " ".join(second.resolution.events)


@both_ends
def test_config_fields_and_given_configs(llama_dir: Path) -> None:
    config = transformers.AutoConfig.from_pretrained(llama_dir)
    before = config.to_dict()
    model = NeMoAutoModelForCausalLM.from_config(config, num_hidden_layers=1, dtype="bfloat16")
    assert len(model.model.layers) == 1
    assert config.to_dict() == before
    assert NeMoAutoModelForCausalLM.from_pretrained(llama_dir, attention_dropout=0.25).config.attention_dropout == 0.25
    assert NeMoAutoModelForCausalLM.from_pretrained(llama_dir, config=config).config.hidden_size == 32
    with pytest.raises(TypeError, match="no_such_argument"):
        NeMoAutoModelForCausalLM.from_pretrained(llama_dir, no_such_argument=1)


@both_ends
def test_classifier_gets_a_new_head_and_says_so(llama_dir: Path) -> None:
    model = NeMoAutoModelForSequenceClassification.from_pretrained(llama_dir, num_labels=3)
    assert isinstance(model, type(AutoModelForSequenceClassification.from_pretrained(llama_dir)))
    assert model(IDS).logits.shape == (2, 3)
    assert model.resolution.missing == ["score.weight"]
    assert any("score.weight" in event and "random" in event for event in model.resolution.events)


@both_ends
def test_forbidden_and_unbuilt_arguments(llama_dir: Path) -> None:
    with pytest.raises(TypeError, match="distributed_setup"):
        NeMoAutoModelForCausalLM.from_pretrained(llama_dir, tp_plan="auto")
    with pytest.raises(ValueError, match="exclude each other"):
        NeMoAutoModelForCausalLM.from_pretrained(llama_dir, distributed_setup=object(), device_mesh=object())
    for name in ("device_mesh", "distributed_setup", "fp8_config", "freeze_config"):
        with pytest.raises(NotBuiltError, match=name):
            NeMoAutoModelForCausalLM.from_pretrained(llama_dir, **{name: {"a": 1}})
    if not torch.cuda.is_available():
        with pytest.raises(NotBuiltError, match="quantization_config"):
            NeMoAutoModelForCausalLM.from_pretrained(llama_dir, quantization_config={"load_in_4bit": True})


@both_ends
@pytest.mark.parametrize("sdpa", [None, ["math"]])
def test_copies_pickles_and_saves(llama_dir: Path, tmp_path: Path, sdpa: list[str] | None) -> None:
    model = NeMoAutoModelForCausalLM.from_pretrained(llama_dir, sdpa_method=sdpa)
    tokens = model.generate(IDS, max_new_tokens=4, do_sample=False)
    again = pickle.loads(pickle.dumps(model))
    torch.save(model, tmp_path / "whole.pt")
    for other in (copy.deepcopy(model), again, torch.load(tmp_path / "whole.pt", weights_only=False)):
        assert type(other) is type(model)
        assert str(other.kernels) == str(model.kernels)
        assert torch.equal(other.generate(IDS, max_new_tokens=4, do_sample=False), tokens)
        assert other.get_input_embeddings().weight.data_ptr() != model.get_input_embeddings().weight.data_ptr()
    again.save_pretrained(tmp_path / "saved", max_shard_size="10KB")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    assert torch.allclose(loaded(IDS).logits, model(IDS).logits, atol=1e-4)
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]


@both_ends
def test_no_reference_cycle(llama_dir: Path) -> None:
    """`del model` must free the memory at once, which a method bound to the instance would prevent."""
    model = NeMoAutoModelForCausalLM.from_pretrained(llama_dir, sdpa_method=["math"])
    watch = weakref.ref(model)
    gc.collect()
    gc.disable()
    try:
        del model
        assert watch() is None
    finally:
        gc.enable()


@both_ends
def test_wrapped_forward_keeps_its_signature_and_limits_the_backends(llama_dir: Path) -> None:
    from torch.nn.attention import SDPBackend, _cur_sdpa_kernel_backends

    plain = NeMoAutoModelForCausalLM.from_pretrained(llama_dir)
    model = NeMoAutoModelForCausalLM.from_pretrained(llama_dir, sdpa_method=["math"])
    assert inspect.signature(model.forward) == inspect.signature(plain.forward)
    seen: list[object] = []
    model.model.register_forward_hook(lambda *_: seen.append(_cur_sdpa_kernel_backends()))
    out = model(IDS)
    assert seen == [[SDPBackend.MATH]]
    assert torch.allclose(out.logits, plain(IDS).logits, atol=1e-4)
    assert len(_cur_sdpa_kernel_backends()) > 1


@both_ends
def test_model_trains_with_checkpointing_and_sdpa(llama_dir: Path) -> None:
    model = NeMoAutoModelForCausalLM.from_pretrained(llama_dir, sdpa_method=["flash_attention"]).train()
    model.gradient_checkpointing_enable()
    model(IDS, labels=IDS, use_cache=False).loss.backward()
    assert all(p.grad is not None for p in model.parameters())


@both_ends
def test_bad_sdpa_names_list_the_good_ones() -> None:
    with pytest.raises(ValueError, match="flash_attention, efficient_attention, math, cudnn_attention"):
        backend_names(["quick"])


@both_ends
def test_peft_config_of_peft_itself(llama_dir: Path) -> None:
    from peft import LoraConfig

    model = NeMoAutoModelForCausalLM.from_pretrained(llama_dir, peft_config=LoraConfig(r=2, target_modules=["q_proj"]))
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)
    assert model.resolution.class_name == "LlamaForCausalLM"


@both_ends
def test_resolution_and_kernels_print(llama_dir: Path) -> None:
    model = NeMoAutoModelForCausalLM.from_pretrained(llama_dir, force_hf=True)
    assert isinstance(model, PreTrainedModel)
    assert model.resolution.implementation == "hf"
    assert "LlamaForCausalLM (hf)" in str(model.resolution)
    assert "<li>" in model.resolution._repr_html_()
    assert model.kernels["attention"].chosen == "sdpa"
    assert set(model.kernels["attention"].others) == {"flash_attention_3", "flash_attention_2", "flex_attention", "eager", "te"}
    assert all(model.kernels["attention"].others.values())
    assert "LlamaRMSNorm" in str(model.kernels)
    assert "<table>" in model.kernels._repr_html_()
    assert "liger" in model.kernels["norm"].others


@both_ends
def test_a_class_put_in_front_still_saves(llama_dir: Path, tmp_path: Path) -> None:
    """FSDP changes the class of the model in just this way."""
    model = NeMoAutoModelForCausalLM.from_pretrained(llama_dir)
    model.__class__ = type("FSDPLlamaForCausalLM", (type(model),), {})
    model.save_pretrained(tmp_path)
    assert "rope_theta" in json.loads((tmp_path / "config.json").read_text())
    assert AutoModelForCausalLM.from_pretrained(tmp_path).dtype == torch.float32
