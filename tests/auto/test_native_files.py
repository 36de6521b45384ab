"""Native decoders and files: resuming, the hub, wrong checkpoints, configs without a class in transformers, and users' own modules."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, Trainer, TrainingArguments

from automodel.archs.base import Architecture, ConfigFile
from automodel.auto import NeMoAutoModelForCausalLM, inspect
from automodel.auto.configs import load_config
from automodel.auto.fit import check_fit
from automodel.errors import ModelError
from automodel.registry import ModelRegistry, register_architecture
from automodel.weights.rules import Rule, rename, same
from tests.auto.auto_help import SHAPE

pytestmark = pytest.mark.both_ends
IDS = torch.randint(3, 300, (2, 20), generator=torch.Generator().manual_seed(1))
GOLDEN = Path(__file__).parents[3] / "shared" / "architectures" / "golden"
TINY_LLAMA = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_hidden_layers": 2, "vocab_size": 64}


@pytest.fixture
def clean() -> Iterator[None]:
    before = set(ModelRegistry)
    yield
    for name in set(ModelRegistry) - before:
        ModelRegistry.unregister(name)


class Rows(torch.utils.data.Dataset[dict[str, Tensor]]):
    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        row = torch.randint(3, 300, (16,), generator=torch.Generator().manual_seed(index))
        return {"input_ids": row, "labels": row}


def test_trainer_resumes_exactly(llama_dir: Path, tmp_path: Path) -> None:
    def trained(folder: Path, *, resume: str | None = None) -> dict[str, Tensor]:
        model = NeMoAutoModelForCausalLM.from_pretrained(llama_dir)
        arguments = TrainingArguments(
            output_dir=str(folder), max_steps=6, save_steps=3, per_device_train_batch_size=4, learning_rate=1e-2, report_to=[], use_cpu=True, seed=1
        )
        Trainer(model=model, args=arguments, train_dataset=Rows()).train(resume_from_checkpoint=resume)
        return {name: tensor.clone() for name, tensor in model.state_dict().items()}

    whole = trained(tmp_path / "whole")
    names = load_file(tmp_path / "whole" / "checkpoint-3" / "model.safetensors")
    assert "model.layers.0.self_attn.q_proj.weight" in names
    again = trained(tmp_path / "again", resume=str(tmp_path / "whole" / "checkpoint-3"))
    assert all(torch.equal(again[name], whole[name]) for name in whole)


def test_wrong_checkpoints_are_refused_by_name(llama_dir: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(llama_dir, tmp_path / "model")
    good = load_file(folder / "model.safetensors")
    key = "model.layers.1.self_attn.k_proj.weight"
    for change, word in (
        ({name: tensor for name, tensor in good.items() if name != key}, key),
        ({**good, key: torch.zeros(3, 3)}, key),
        ({**good, "model.layers.0.self_attn.strange.weight": torch.zeros(3)}, "strange"),
    ):
        save_file(change, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ModelError, match=word.replace(".", r"\.")):
            NeMoAutoModelForCausalLM.from_pretrained(folder)
    save_file({**good, "model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(4)}, folder / "model.safetensors", metadata={"format": "pt"})
    NeMoAutoModelForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="pickled"):
        NeMoAutoModelForCausalLM.from_pretrained(folder)


def test_the_base_alone_needs_a_head(llama_dir: Path, tmp_path: Path) -> None:
    plain = AutoModelForCausalLM.from_pretrained(llama_dir, dtype=torch.float32)
    plain.model.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"lm_head\.weight"):
        NeMoAutoModelForCausalLM.from_pretrained(tmp_path)


READ = """
import sys
from automodel.auto import NeMoAutoModelForCausalLM
model = NeMoAutoModelForCausalLM.from_pretrained("team/small", token="hf_writerwriterwriterwriter", revision="main")
print("@@", model.resolution.implementation, sum(p.numel() for p in model.parameters()))
model.push_to_hub("team/pushed", token="hf_writerwriterwriterwriter")
again = NeMoAutoModelForCausalLM.from_pretrained("team/pushed", token="hf_writerwriterwriterwriter")
print("@@", again.resolution.implementation)
"""


def test_the_hub(llama_dir: Path, tmp_path: Path) -> None:
    from tests import hub_server

    if not hasattr(hub_server, "local_hub"):
        pytest.skip("this checkout has no hub that takes uploads")
    NeMoAutoModelForCausalLM.from_pretrained(llama_dir).save_pretrained(tmp_path / "sharded", max_shard_size="40KB")
    with hub_server.local_hub() as hub:
        files = {path.name: path.read_bytes() for path in (tmp_path / "sharded").iterdir()}
        hub.add("team/small", files)
        environment = {**os.environ, "HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_TELEMETRY": "1"}
        environment["PYTHONPATH"] = str(Path(__file__).parents[2])
        environment.pop("HF_HUB_OFFLINE", None)
        done = subprocess.run([sys.executable, "-c", READ], capture_output=True, text=True, env=environment, timeout=120, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.count("@@ native") == 2


def test_configs_that_transformers_lacks(tmp_path: Path) -> None:
    config, _ = load_config({"model_type": "aquila", "architectures": ["AquilaModel"], **TINY_LLAMA, "num_key_value_heads": 2})
    assert type(config).__name__ == "AquilaConfig"
    assert pickle.loads(pickle.dumps(config)).to_dict() == config.to_dict()
    model = NeMoAutoModelForCausalLM.from_config(config)
    assert (type(model).__name__, model.resolution.implementation) == ("AquilaForCausalLM", "native")
    model.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert (saved["model_type"], saved["architectures"]) == ("aquila", ["AquilaModel"])
    assert "auto_map" not in saved
    assert type(AutoConfig.from_pretrained(tmp_path)) is type(config)
    again = NeMoAutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(again(IDS % 64).logits, model.eval()(IDS % 64).logits)
    found = inspect(tmp_path)
    assert (found.implementation, found.kind, found.parameters) == ("native", "dense", sum(p.numel() for p in model.parameters()))
    with pytest.raises(ModelError, match="AquilaForCausalLM") as caught:
        NeMoAutoModelForCausalLM.from_pretrained(tmp_path, force_hf=True)
    assert "force_hf" in caught.value.found


def test_a_cache_keeps_what_the_layers_may_see() -> None:
    """Such files may hold a `sliding_window` that the architecture does not use; caches of transformers would cut their keys by it."""
    small = {**TINY_LLAMA, "num_key_value_heads": 2, "sliding_window": 6, "bskcn_1": [0], "bskcn_2": [0], "bskcn_3": [1], "bskcn_4": [1]}
    torch.manual_seed(0)
    model = NeMoAutoModelForCausalLM.from_config({"model_type": "solar", "initializer_range": 0.3, **small})
    wish = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    assert torch.equal(model.generate(IDS % 64, **wish), model.generate(IDS % 64, use_cache=False, **wish))


def test_files_are_checked_without_reading_them(llama_dir: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(llama_dir, tmp_path / "model")
    model = NeMoAutoModelForCausalLM.from_pretrained(folder, device="meta")
    check_fit(model, folder)
    data = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**data, "num_key_value_heads": 4}))
    with pytest.raises(ModelError, match=r"k_proj\.weight .* another shape"):
        check_fit(NeMoAutoModelForCausalLM.from_pretrained(folder, device="meta"), folder)


def test_classes_of_transformers_stay_its_own() -> None:
    load_config({"model_type": "aquila", **TINY_LLAMA})
    for kind in ("llama", "mistral", "qwen2", "gemma2", "phi3"):
        assert type(AutoConfig.for_model(kind)).__module__.startswith("transformers.")
        assert type(load_config({"model_type": kind})[0]) is type(AutoConfig.for_model(kind))


def test_a_config_that_the_class_of_transformers_refuses() -> None:
    small = {"model_type": "internlm3", "architectures": ["InternLM3ForCausalLM"], **TINY_LLAMA, "num_key_value_heads": 2, "head_dim": 8}
    for qkv_bias, bias in ((False, False), (True, False), (True, True)):
        model = NeMoAutoModelForCausalLM.from_config({**small, "qkv_bias": qkv_bias, "bias": bias})
        names = set(model.state_dict())
        assert model.resolution.implementation == "native"
        assert ("model.layers.0.self_attn.qkv.bias" in names) == qkv_bias
        assert ("model.layers.0.self_attn.o_proj.bias" in names) == bias


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="reference outputs lie beside this checkout only")
@pytest.mark.parametrize("name", ["aquila", "chatglm2", "internlm2"])
def test_reference_outputs(name: str, tmp_path: Path) -> None:
    model = NeMoAutoModelForCausalLM.from_pretrained(GOLDEN / name, dtype=torch.float32)
    inputs, outputs = load_file(GOLDEN / name / "inputs.safetensors"), load_file(GOLDEN / name / "outputs.safetensors")
    assert (model(inputs["input_ids"]).logits - outputs["logits"]).abs().max() <= 2e-5
    model.save_pretrained(tmp_path)
    wanted, found = load_file(GOLDEN / name / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(found[key], wanted[key]) for key in found)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == model.config.model_type


def test_a_type_shared_by_two_takes_the_usual_one() -> None:
    shape = {**TINY_LLAMA, "num_key_value_heads": 2}
    assert type(NeMoAutoModelForCausalLM.from_config({"model_type": "mistral", **shape})).__name__ == "MistralForCausalLM"
    named = {"model_type": "mistral", "architectures": ["GritLM"], **shape}
    assert type(NeMoAutoModelForCausalLM.from_config(named)).__name__ == "GritLMForCausalLM"


def test_unverified_architectures_are_asked_for_by_name(clean: None) -> None:
    llama = ModelRegistry.get("LlamaForCausalLM").spec
    file = ConfigFile(model_type="guess", fields={**TINY_LLAMA, "rms_norm_eps": 1e-6, "hidden_act": "silu", "max_position_embeddings": 64})
    register_architecture(Architecture(name="GuessForCausalLM", spec=llama, model_type="guess", config=file, unverified="no weights were seen"))
    with pytest.raises(ModelError, match="GuessForCausalLM") as caught:
        NeMoAutoModelForCausalLM.from_config({"model_type": "guess"})
    assert "no weights were seen" in caught.value.found
    assert "allow_unverified" in caught.value.fix
    model = NeMoAutoModelForCausalLM.from_config({"model_type": "guess"}, allow_unverified=True)
    assert model.resolution.implementation == "native"
    assert type(pickle.loads(pickle.dumps(model))) is type(model)


class Bag(nn.Module):
    """A user's own model: a mean of what came before."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.table = nn.Embedding(config.vocab_size, config.hidden_size)
        self.out = nn.Linear(config.hidden_size, config.vocab_size)
        self.register_buffer("steps", torch.arange(1, 65)[:, None], persistent=False)

    def forward(self, input_ids: Tensor) -> Tensor:
        mean = self.table(input_ids).cumsum(1) / self.steps[: input_ids.shape[1]]
        logits: Tensor = self.out(mean)
        return logits


def bag_rules(_config: Any) -> tuple[Rule, ...]:
    return rename("table.weight", "bag.tokens"), same("out.weight"), rename("out.bias", "out.shift")


def test_a_plain_module_is_built_trained_saved_and_read(clean: None, tmp_path: Path) -> None:
    register_architecture("BagForCausalLM", Bag, model_type="bag", rules=bag_rules)
    model = NeMoAutoModelForCausalLM.from_config({"model_type": "bag", "architectures": ["BagForCausalLM"], "vocab_size": 300, "hidden_size": 16})
    assert model.resolution.implementation == "native"
    out = model(IDS, labels=IDS, attention_mask=torch.ones_like(IDS))
    out.loss.backward()
    assert model.own.table.weight.grad is not None
    assert torch.equal(out.logits, model.own(IDS))
    model.save_pretrained(tmp_path)
    assert set(load_file(tmp_path / "model.safetensors")) == {"bag.tokens", "out.weight", "out.shift"}
    again = NeMoAutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(again(IDS).logits, out.logits)
    assert again.generate(IDS, max_new_tokens=3, do_sample=False, pad_token_id=0).shape == (2, 23)
    with torch.no_grad():
        again.own.out.weight.zero_()
    again.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(again(IDS).logits, out.logits)
    assert type(pickle.loads(pickle.dumps(again))) is type(again)
    assert NeMoAutoModelForCausalLM.from_pretrained(tmp_path, dtype="bfloat16").dtype == torch.bfloat16


def test_a_task_that_native_decoders_do_not_do(llama_dir: Path) -> None:
    from automodel.auto import NeMoAutoModelForSequenceClassification

    model = NeMoAutoModelForSequenceClassification.from_pretrained(llama_dir, num_labels=3)
    assert model.resolution.implementation == "hf"
    assert "another task" in str(model.resolution)
    assert SHAPE["num_key_value_heads"] == 2
