"""What is written loads in transformers 4 and 5 with equal numbers; set AUTOMODEL_OTHER_PYTHON to an interpreter of the other release."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from automodel.auto import NeMoAutoModelForCausalLM, NeMoAutoTokenizer, compat, save_hf, verify_hf
from automodel.errors import ModelError
from tests.auto.auto_help import FAMILIES, make_model

pytestmark = pytest.mark.both_ends
IDS = torch.randint(3, 300, (1, 40), generator=torch.Generator().manual_seed(1))
READ = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
for folder in sys.argv[1:]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    found = torch.load(folder + "/expected.pt")
    print("@@", float((model(found["ids"]).logits - found["logits"]).abs().max()))
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
assert tokenizer("Who built it? Anna!")["input_ids"] == found["tokens"], tokenizer("Who built it? Anna!")
assert tokenizer.eos_token == "</s>"
assert "token_type_ids" not in tokenizer("a")
"""


def test_config_on_disk_has_the_old_form(family_dir: Path, tmp_path: Path) -> None:
    NeMoAutoModelForCausalLM.from_pretrained(family_dir).save_pretrained(tmp_path)
    data = json.loads((tmp_path / "config.json").read_text())
    assert "rope_parameters" not in data
    if "rope_theta" in FAMILIES[data["model_type"]]:
        assert data["rope_theta"] == FAMILIES[data["model_type"]]["rope_theta"]
    assert (data.get("_attn_implementation") == "eager") == (data["model_type"] == "gemma2")
    assert AutoConfig.from_pretrained(tmp_path).to_dict().get("rope_theta", data.get("rope_theta")) == data.get("rope_theta")


def test_saved_here_equals_loaded_here(family_dir: Path, tmp_path: Path) -> None:
    model = NeMoAutoModelForCausalLM.from_pretrained(family_dir)
    save_hf(model, tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32, attn_implementation=model.config._attn_implementation)
    assert torch.allclose(model(IDS).logits, again(IDS).logits, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_saved_here_equals_loaded_in_the_other_release(tiny_tokenizer_dir: Path, tmp_path: Path) -> None:
    other = os.environ.get("AUTOMODEL_OTHER_PYTHON")
    if not other:
        pytest.skip("AUTOMODEL_OTHER_PYTHON is not set")
    tokenizer = NeMoAutoTokenizer.from_pretrained(tiny_tokenizer_dir)
    for kind in FAMILIES:
        model = NeMoAutoModelForCausalLM.from_pretrained(make_model(tmp_path / "plain" / kind, kind))
        save_hf(model, tmp_path / kind, tokenizer=tokenizer)
        tokens = tokenizer("Who built it? Anna!")["input_ids"]
        torch.save({"ids": IDS, "logits": model(IDS).logits.detach(), "tokens": tokens}, tmp_path / kind / "expected.pt")
    done = subprocess.run([other, "-c", READ, *(str(tmp_path / kind) for kind in FAMILIES)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = [float(line[2:]) for line in done.stdout.splitlines() if line.startswith("@@")]
    assert len(found) == len(FAMILIES)
    assert max(found) < 1e-4


ROPES = {
    "llama": ({"rope_type": "llama3", "rope_theta": 5e5, "factor": 8, "original_max_position_embeddings": 64}, {"rope_theta": 5e5}),
    "qwen3": ({"rope_type": "yarn", "rope_theta": 1e6, "factor": 4, "original_max_position_embeddings": 64}, {"rope_theta": 1e6}),
    "glm4": ({"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}, {"partial_rotary_factor": 0.5, "rope_scaling": None}),
    "qwen2_5_vl_text": (
        {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
        {"rope_theta": 1e6, "rope_scaling": {"rope_type": "default", "mrope_section": [16, 24, 24]}},
    ),
    "gpt_neox": ({"rope_type": "default", "rope_theta": 2e4, "partial_rotary_factor": 0.25}, {"rotary_emb_base": 2e4, "rotary_pct": 0.25}),
    "phi3": (
        {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0], "long_factor": [2.0], "original_max_position_embeddings": 64},
        {"original_max_position_embeddings": 64, "rope_scaling": {"type": "longrope", "short_factor": [1.0], "long_factor": [2.0]}},
    ),
    "gemma3_text": (
        {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
        {"rope_theta": 1e6, "rope_local_base_freq": 1e4, "rope_scaling": {"rope_type": "linear", "factor": 8.0}},
    ),
}


@pytest.mark.parametrize("kind", list(ROPES))
def test_new_rope_settings_become_old_ones(kind: str) -> None:
    new, expected = ROPES[kind]
    found = compat.common_config({"model_type": kind, "rope_parameters": new})
    assert {key: found[key] for key in expected} == expected
    assert "rope_parameters" not in found
    assert compat.common_config(found) == found
    assert all(isinstance(v, float) for k, v in (found["rope_scaling"] or {}).items() if k == "factor")


def test_other_parts_of_the_config() -> None:
    assert compat.common_config({"model_type": "qwen3_moe", "num_local_experts": 8})["num_experts"] == 8
    assert compat.common_config({"model_type": "mixtral", "num_local_experts": 8})["num_local_experts"] == 8
    nested = {"model_type": "llava", "text_config": {"model_type": "llama", "rope_parameters": {"rope_type": "default", "rope_theta": 3.0}}}
    assert compat.common_config(nested)["text_config"]["rope_theta"] == 3.0
    only_new = {"model_type": "qwen3_5", "rope_parameters": {"rope_theta": 3.0}}
    assert compat.common_config(only_new) == only_new
    assert compat.common_config({"model_type": "bamba", "time_step_limit": [0.0, {"__float__": "Infinity"}]})["time_step_limit"][1] == float("inf")


def test_tokenizer_files_have_the_common_form(tiny_tokenizer_dir: Path, tmp_path: Path) -> None:
    tokenizer = NeMoAutoTokenizer.from_pretrained(tiny_tokenizer_dir)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<x>"]})
    tokenizer.save_pretrained(tmp_path)
    data = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert data["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert "backend" not in data
    assert not isinstance(data.get("extra_special_tokens"), list)
    assert data["additional_special_tokens"] == ["<x>"]
    again = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert again("a<x>b")["input_ids"] == tokenizer("a<x>b")["input_ids"]
    named = compat.common_tokenizer(
        {"tokenizer_class": "TokenizersBackend", "extra_special_tokens": [], "model_specific_special_tokens": {"image_token": "<i>"}}
    )
    assert named["extra_special_tokens"] == {"image_token": "<i>"}


def test_generation_settings_that_transformers_refuses_do_not_lose_the_work(llama_dir: Path, tmp_path: Path) -> None:
    model = NeMoAutoModelForCausalLM.from_pretrained(llama_dir)
    model.generation_config.temperature = 0.5
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "generation_config.json").read_text())["do_sample"] is True
    assert not model.generation_config.do_sample


def test_a_saved_state_dict_is_what_lies_on_disk(llama_dir: Path, tmp_path: Path) -> None:
    model = NeMoAutoModelForCausalLM.from_pretrained(llama_dir)
    save_hf(model, tmp_path, state_dict={name: torch.zeros_like(value) for name, value in model.state_dict().items()})
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert all(not p.any() for p in loaded.parameters())


def test_verify_finds_what_is_wrong(llama_dir: Path, tmp_path: Path) -> None:
    model = NeMoAutoModelForCausalLM.from_pretrained(llama_dir, force_hf=True)
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    count = sum(p.numel() for p in model.parameters())
    report = verify_hf(tmp_path, set(model.state_dict()), parameters=count)
    assert report.ok
    assert report.parameters == count
    assert "verified" in str(report)
    with pytest.raises(ModelError, match=r"lacks extra\.weight"):
        verify_hf(tmp_path, {*model.state_dict(), "extra.weight"})
    with pytest.raises(ModelError, match="another number of parameters"):
        verify_hf(tmp_path, parameters=count + 1)
    (tmp_path / "config.json").write_text("{")
    assert not verify_hf(tmp_path, check=False).ok
    with pytest.raises(ModelError, match=r"config\.json is not JSON"):
        verify_hf(tmp_path)


def test_adapter_folders_are_saved_and_verified(llama_dir: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, PeftModel

    model = NeMoAutoModelForCausalLM.from_pretrained(llama_dir, peft_config=LoraConfig(r=2, target_modules=["q_proj"]))
    save_hf(model, tmp_path)
    assert verify_hf(tmp_path).kind == "adapter"
    PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(llama_dir), tmp_path)
    merged = model.merge_and_unload()
    save_hf(merged, tmp_path / "merged")
    assert verify_hf(tmp_path / "merged").kind == "model"
