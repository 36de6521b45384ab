"""A look at a model from its config alone."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from automodel.auto import inspect
from automodel.auto.inspection import classify
from automodel.errors import ModelError
from tests.vision import make_llava

REAL = sorted((Path(__file__).parents[3] / "shared" / "architectures" / "configs").glob("*/config.json"))
pytestmark = pytest.mark.both_ends
MOE = {
    "model_type": "mixtral",
    "architectures": ["MixtralForCausalLM"],
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
}


def test_a_model_folder(tiny_model_dir: Path) -> None:
    from transformers import AutoModelForCausalLM

    found = inspect(tiny_model_dir)
    real = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
    assert found.parameters == found.active == sum(found.parts.values()) == sum(p.numel() for p in real.parameters())
    assert (found.kind, found.implementation, found.class_name, found.task) == ("dense", "native", "LlamaForCausalLM", "sft")
    assert found.parts == {"embeddings": 10240, "attention": 6144, "mlp": 12288, "norms": 160, "head": 10240}
    assert [(t.name, t.count, t.shapes) for t in found.lora_targets][:2] == [("q_proj", 2, ((32, 32),)), ("k_proj", 2, ((32, 16),))]
    assert (found.tokenizer, found.chat_template, found.missing, found.ok) == (True, False, [], True)
    assert found.methods["LoRA"]["FSDP2"] == found.methods["full"]["one process"] == "yes"
    assert found.methods["full"]["EP"] == "no experts"
    assert {"39,072", "q_proj"} <= set(str(found).split())
    assert "<table>" in found._repr_html_()
    assert json.loads(json.dumps(found.as_dict()))["ok"] is True


def test_the_size_of_an_adapter_is_that_of_peft(tiny_model_dir: Path) -> None:
    from transformers import AutoModelForCausalLM

    from automodel.peft import apply_lora
    from automodel.recipe.schema import PeftSection

    model = apply_lora(AutoModelForCausalLM.from_pretrained(tiny_model_dir), PeftSection(match_all_linear=True))
    assert inspect(tiny_model_dir).lora_parameters == sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_tied_weights_count_once(tmp_path: Path) -> None:
    from tests.conftest import make_llama

    found = inspect(make_llama(tmp_path / "tied", tie_word_embeddings=True))
    assert found.parameters == 39_072 - 10_240
    assert "head" not in found.parts


def test_experts_are_told_from_the_rest() -> None:
    found = inspect(MOE)
    assert found.kind == "MoE"
    assert found.parts["experts"] == 2 * 4 * 3 * 16 * 24
    assert found.parts["router"] == 2 * 4 * 16
    assert found.active == sum(found.parts.values()) - found.parts["experts"] // 2
    assert found.methods["full"]["EP"] == "not built yet"
    assert found.tokenizer is None


def test_a_config_object_and_a_file_are_taken_and_not_changed(tiny_model_dir: Path, tmp_path: Path) -> None:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(tiny_model_dir)
    before = config.to_dict()
    assert inspect(config).parameters == 39_072
    assert config.to_dict() == before
    other = tmp_path / "llama-tiny.json"
    other.write_text((tiny_model_dir / "config.json").read_text())
    assert inspect(other).parameters == inspect(tiny_model_dir / "config.json").parameters == 39_072


@pytest.mark.parametrize(
    ("change", "what", "fix"),
    [
        ({"model_type": "no_such_type"}, "does not know the model_type", ""),
        ({"model_type": "own", "auto_map": {"AutoConfig": "c.C"}}, "needs code", "trust_remote_code"),
        ({"hidden_act": "no_such_function"}, "cannot be built", ""),
        ({"hidden_size": "wide"}, "can", "config"),
        ({"model_type": None}, "no model_type", "model_type"),
    ],
)
def test_a_model_that_cannot_be_used_comes_back_refused(change: dict[str, Any], what: str, fix: str, tiny_model_dir: Path, tmp_path: Path) -> None:
    data = {**json.loads((tiny_model_dir / "config.json").read_text()), **change}
    (tmp_path / "config.json").write_text(json.dumps({key: value for key, value in data.items() if value is not None}))
    found = inspect(tmp_path)
    assert found.implementation == "refused"
    assert not found.ok
    assert what in found.missing[-1].what
    assert fix in found.missing[-1].fix
    assert found.kind == "dense"
    assert "Traceback" not in str(found)


def test_missing_files_are_named_with_their_fix(tiny_model_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((tiny_model_dir / "config.json").read_text())
    found = inspect(tmp_path)
    assert found.implementation == "native"
    assert [gap.what.rpartition("/")[2] for gap in found.missing][1:] == ["The folder holds no tokenizer."]
    assert "no model.safetensors" in found.missing[0].what
    (tmp_path / "config.json").unlink()
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "org/base"}))
    adapter = inspect(tmp_path)
    assert "holds an adapter" in adapter.missing[-1].what
    assert "org/base" in adapter.missing[-1].fix


def test_quantised_weights_are_not_trained(tiny_model_dir: Path, tmp_path: Path) -> None:
    data = {**MOE, "quantization_config": {"quant_method": "fp8"}}
    found = inspect(data)
    assert "fp8" in found.missing[-1].what
    assert found.methods["full"]["one process"] == "weights quantised"
    assert not found.ok


def test_a_model_for_images_and_text_can_be_trained(tmp_path: Path) -> None:
    found = inspect(make_llava(tmp_path))
    assert (found.kind, found.task) == ("VLM", "vlm")
    assert {found.methods[method][place] for method in ("full", "LoRA") for place in ("one process", "DDP", "FSDP2")} == {"yes"}
    assert found.methods["full"]["TP"] == "not built yet"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, "encoder"),
        ({"model_type": "bert", "is_decoder": True, "architectures": ["BertLMHeadModel"]}, "dense"),
        ({"model_type": "t5", "is_encoder_decoder": True}, "encoder-decoder"),
        ({"model_type": "gemma3", "vision_config": {"hidden_size": 4}}, "VLM"),
        ({"model_type": "mixformer", "img_processor": None, "n_embd": 4, "n_layer": 1}, "dense"),
        ({"model_type": "deepseek", "n_routed_experts": 64}, "MoE"),
        ({"a": 1}, "unknown"),
    ],
)
def test_kinds(data: dict[str, Any], kind: str) -> None:
    assert classify(data) == kind


def test_an_encoder_is_taken_as_a_classifier() -> None:
    data = {"model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 50}
    found = inspect({**data, "architectures": ["BertForMaskedLM"]})
    assert (found.kind, found.task, found.class_name) == ("encoder", "seq_cls", "BertForSequenceClassification")
    assert "other" not in {part for part, count in found.parts.items() if count > 400}
    with pytest.raises(ModelError, match="no such task"):
        inspect(data, task="juggling")


@pytest.mark.parametrize("target", ["./no-such-folder", "a/b/c"])
def test_a_target_that_is_not_there_is_an_error(target: str) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        inspect(target)


@pytest.mark.skipif(not REAL, reason="real configs lie beside this checkout only")
def test_real_configs_are_classified_or_refused_with_a_reason() -> None:
    inspect(REAL[0])
    slow, wrong = [], []
    for path in REAL:
        begun = time.perf_counter()
        found = inspect(path)
        if time.perf_counter() - begun > 4:
            slow.append(path.parent.name)
        refused = found.implementation == "refused"
        if found.kind == "unknown" or not str(found) or (refused and not found.missing[-1].what) or (not refused and not found.parameters):
            wrong.append(path.parent.name)
        assert sum(found.parts.values()) == (found.parameters or 0)
        assert found.parts.get("other", 0) <= 0.01 * (found.parameters or 0)
    assert not wrong
    assert len(slow) < len(REAL) // 10
