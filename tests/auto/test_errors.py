"""Wrong requests: each is refused before anything is built, and says what to do."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from automodel.auto import build_model, build_tokenizer, check_weights, compat, resolve_config
from automodel.errors import ModelError
from automodel.recipe.schema import ModelSection, TokenizerSection
from automodel.weights import read_header
from tests.hub_server import small_hub

pytestmark = pytest.mark.both_ends


@pytest.fixture
def folder(llama_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(llama_dir, tmp_path / "model"))


def change(folder: Path, **values: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def refused(folder: Path | str, **settings: object) -> str:
    with pytest.raises(ModelError) as caught:
        resolve_config(ModelSection.model_validate({"pretrained_model_name_or_path": str(folder), **settings}))
    assert caught.value.exit_code == 2
    assert all(caught.value.as_dict().values()), caught.value
    return str(caught.value)


def test_unknown_types_name_the_release_that_has_them(folder: Path) -> None:
    change(folder, model_type="lama")
    text = refused(folder)
    assert "no known transformers release has lama" in text
    assert "llama" in text
    change(folder, model_type="qwen3_5" if compat.major() < 5 else "nezha")
    text = refused(folder)
    assert ("needs transformers >= 5" if compat.major() < 5 else "dropped in transformers 5") in text
    assert "pip install" in text


def test_code_in_the_repository_is_not_run_unasked(folder: Path) -> None:
    change(folder, model_type="own_thing", auto_map={"AutoConfig": "own.Config"})
    (folder / "own.py").write_text("raise SystemExit('ran')")
    assert "trust_remote_code: true" in refused(folder)


def test_folders_without_a_model(tmp_path: Path, folder: Path) -> None:
    assert "does not exist" in refused(tmp_path / "nowhere")
    assert "is a file" in refused(folder / "config.json")
    (tmp_path / "empty").mkdir()
    assert "an empty folder" in refused(tmp_path / "empty")
    (tmp_path / "empty" / "model-Q4.gguf").write_text("GGUF")
    for place in (tmp_path / "empty", tmp_path / "empty" / "model-Q4.gguf"):
        assert "made to run and not to be trained" in refused(place)
        assert "the repository that it was made of" in refused(place)
    (folder / "config.json").write_text("{")
    assert "is not JSON" in refused(folder)
    (folder / "config.json").write_text("{}")
    assert "no model_type" in refused(folder)
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "team/base"}))
    text = refused(folder)
    assert "adapter" in text
    assert "team/base" in text


def test_overrides_that_are_no_fields(folder: Path) -> None:
    assert "did you mean num_hidden_layers" in refused(folder, config_overrides={"num_hiden_layers": 1})
    config = resolve_config(ModelSection(pretrained_model_name_or_path=str(folder), config_overrides={"num_hidden_layers": 1}))
    assert config.num_hidden_layers == 1
    with pytest.raises(ModelError, match="names no model"):
        resolve_config(ModelSection())


HUB = """
import sys
from automodel.auto import resolve_config, build_tokenizer
from automodel.errors import ModelError
from automodel.recipe.schema import ModelSection
for name in ("team/absent", "team/gated", "team/new"):
    try:
        resolve_config(ModelSection(pretrained_model_name_or_path=name))
    except ModelError as error:
        print("@@", name, "|", " ".join(str(error).split()))
try:
    build_tokenizer(None, ModelSection(pretrained_model_name_or_path="team/absent"))
except ModelError as error:
    print("@@ tokenizer |", " ".join(str(error).split()))
"""


def ask_hub(tmp_path: Path, endpoint: str, **settings: str) -> dict[str, str]:
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_TELEMETRY": "1", "HF_TOKEN": "", **settings}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    if "HF_HUB_OFFLINE" not in settings:
        environment.pop("HF_HUB_OFFLINE", None)
    done = subprocess.run([sys.executable, "-c", HUB], capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return {line.split("|")[0].strip("@ "): line for line in done.stdout.splitlines() if line.startswith("@@")}


def test_hub_answers(tmp_path: Path) -> None:
    with small_hub() as endpoint:
        found = ask_hub(tmp_path, endpoint)
    assert "there is no model team/absent" in found["team/absent"]
    assert "hf auth login" in found["team/absent"]
    assert "team/gated is gated" in found["team/gated"]
    assert f"accept the terms at {endpoint}/team/gated" in found["team/gated"]
    assert "llamo" in found["team/new"]
    assert "nearest: llama" in found["team/new"]
    assert "there is no" in found["tokenizer"]


def test_hub_offline_and_unreachable(tmp_path: Path) -> None:
    assert "offline mode is on" in ask_hub(tmp_path, "http://127.0.0.1:9", HF_HUB_OFFLINE="1")["team/absent"]


def weights_refused(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        check_weights(folder)
    assert all(caught.value.as_dict().values()), caught.value
    return str(caught.value)


def test_damaged_weights(folder: Path) -> None:
    check_weights(folder)
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-100])
    text = weights_refused(folder)
    assert "model.safetensors is truncated" in text
    assert f"{len(whole) - 100:,} bytes" in text
    assert f"{len(whole):,} bytes" in text
    file.write_bytes(whole + b"more")
    assert "longer than its header" in weights_refused(folder)
    for bad, word in ((b"", "not a safetensors file"), (whole[:40], "truncated"), (b"\xff" * 4000, "not a safetensors file")):
        file.write_bytes(bad)
        assert word in weights_refused(folder)
    file.write_bytes(struct.pack("<Q", 10) + b"not json!!")
    assert "header" in weights_refused(folder)
    head = json.dumps({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}).encode()
    file.write_bytes(struct.pack("<Q", len(head)) + head + b"\0" * 8)
    assert "wrong number of bytes" in weights_refused(folder)
    head = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}).encode()
    file.write_bytes(struct.pack("<Q", len(head)) + head + b"\0" * 12)
    assert "gap or overlap" in weights_refused(folder)


def test_shards(folder: Path, tmp_path: Path) -> None:
    from automodel.auto import NeMoAutoModelForCausalLM

    shards = tmp_path / "shards"
    NeMoAutoModelForCausalLM.from_pretrained(folder).save_pretrained(shards, max_shard_size="40KB")
    check_weights(shards)
    first = min(shards.glob("model-*.safetensors"))
    index = shards / "model.safetensors.index.json"
    standing = index.read_text()
    data = json.loads(standing)
    name = next(iter(data["weight_map"]))
    index.write_text(json.dumps({**data, "weight_map": {**data["weight_map"], "ghost.weight": data["weight_map"][name]}}))
    assert "ghost.weight" in weights_refused(shards)
    index.write_text("{}")
    assert "weight_map" in weights_refused(shards)
    index.unlink()
    assert "no index" in weights_refused(shards)
    index.write_text(standing)
    first.unlink()
    text = weights_refused(shards)
    assert first.name in text
    assert "not there" in text


def test_pickled_and_missing_weights(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    text = weights_refused(folder)
    assert "pickled" in text
    assert "python -c" in text
    (folder / "pytorch_model.bin").unlink()
    assert "holds no model.safetensors" in weights_refused(folder)


def test_headers_are_read(folder: Path) -> None:
    header = read_header(folder / "model.safetensors")
    assert header.tensors["lm_head.weight"].shape == (320, 32)
    assert header.tensors["lm_head.weight"].dtype == "F32"


def test_models_of_sections(folder: Path) -> None:
    section = ModelSection(pretrained_model_name_or_path=str(folder))
    model = build_model(section, task="sft", device="cpu", dtype=torch.bfloat16)
    assert model.dtype == torch.bfloat16
    classifier = build_model(section.model_copy(update={"num_labels": 5}), task="seq_cls", device=torch.device("cpu"), dtype=torch.float32)
    assert classifier.config.num_labels == 5
    from_map = ModelSection(config={"model_type": "llama", "hidden_size": 32, "num_hidden_layers": 1, "vocab_size": 64, "intermediate_size": 16})
    assert len(build_model(from_map, task="pretrain", device="cpu", dtype=torch.float32).model.layers) == 1
    assert next(build_model(section, task="sft", device="meta", dtype=torch.float32).parameters()).is_meta
    with pytest.raises(ModelError, match="no such task"):
        build_model(section, task="cooking", device="cpu", dtype=torch.float32)
    change(folder, num_hidden_layers=3)
    with pytest.raises(ModelError, match=r"lacks? model\.layers\.2"):
        build_model(section, task="sft", device="cpu", dtype=torch.float32)


def test_classifier_without_pad_token(folder: Path) -> None:
    change(folder, pad_token_id=None)
    model = build_model(ModelSection(pretrained_model_name_or_path=str(folder), num_labels=2), task="seq_cls", device="cpu", dtype=torch.float32)
    assert model.config.pad_token_id == 2
    assert any("pad_token_id" in event for event in model.resolution.events)
    assert model(torch.randint(3, 300, (2, 5))).logits.shape == (2, 2)


def test_tokenizers_of_sections(tiny_model_dir: Path, tmp_path: Path) -> None:
    model = ModelSection(pretrained_model_name_or_path=str(tiny_model_dir))
    (tmp_path / "t.jinja").write_text("{{ messages }}")
    section = TokenizerSection(padding_side="left", chat_template=str(tmp_path / "t.jinja"), add_eos_token=True)
    tokenizer = build_tokenizer(section, model)
    assert tokenizer.padding_side == "left"
    assert tokenizer.chat_template == "{{ messages }}"
    assert tokenizer("a")["input_ids"][-1] == tokenizer.eos_token_id
    with pytest.raises(ModelError, match="holds no tokenizer"):
        build_tokenizer(TokenizerSection(pretrained_model_name_or_path=str(tmp_path)), model)
    with pytest.raises(ModelError, match="names no tokenizer"):
        build_tokenizer(None, ModelSection(config={"model_type": "llama"}))
