"""`automodel new-arch`: what it writes is small, clean, found by the registry, and computes what it is like."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from automodel.archs.config import Config
from automodel.cli import main
from automodel.registry import ModelRegistry, register_architecture

ROOT = Path(__file__).parents[2]
LINES = 60


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["new-arch", *words])
    return int(ended.value.code or 0)


def written(place: Path) -> ModuleType:
    """Import the architecture file of a plug-in folder."""
    (path,) = place.glob("automodel_*.py")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ruff(*words: str, cwd: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "ruff", *words], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test may write into the checkout that it runs in."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def acme(tmp_path: Path) -> Iterator[Any]:
    """The registered architecture of a written plug-in; its model_type stays known to AutoConfig for the rest of the session."""
    assert call("AcmeOne", "--like", "llama") == 0
    (entry,) = written(tmp_path / "automodel-acme-one").ARCHITECTURES
    register_architecture(entry)
    yield entry
    ModelRegistry.unregister(entry.name)


@pytest.mark.parametrize("like", ["llama", "LlamaForCausalLM", "qwen3", "gpt2", "gritlm", "minicpm", "nemotron-nas", "stablelm_alpha"])
def test_a_clone_of_anything_is_small_clean_and_alike(like: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "new"
    assert call("NewThing", "--like", like, "--folder", str(place), "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["name"], shown["model_type"]) == ("NewThingForCausalLM", "new_thing")
    assert sorted(Path(file).name for file in shown["files"]) == ["automodel_new_thing.py", "pyproject.toml", "test_automodel_new_thing.py"]
    module = written(place)
    (entry,) = module.ARCHITECTURES
    other = ModelRegistry.get(shown["like"])
    for fields in ({}, *entry.variants.values()):
        assert entry.spec(Config({**entry.tiny, **fields})) == other.spec(Config({**other.tiny, **fields}))  # type: ignore[misc]
    assert entry.config.model_type == entry.model_type == "new_thing"
    assert (entry.rules, entry.unverified) == (other.rules, other.unverified)
    assert len((place / "automodel_new_thing.py").read_text().splitlines()) <= LINES
    ruff("check", ".", cwd=place)
    ruff("format", "--check", ".", cwd=place)


@pytest.mark.both_ends
def test_a_clone_of_llama_gives_the_logits_of_llama(acme: Any, tmp_path: Path) -> None:
    import torch
    from transformers import LlamaForCausalLM

    from automodel import NeMoAutoModelForCausalLM

    fields = {"model_type": "acme_one", "architectures": ["AcmeOneForCausalLM"], **acme.tiny}
    model = NeMoAutoModelForCausalLM.from_config(fields).eval()
    assert model.resolution.implementation == "native", model.resolution
    model.save_pretrained(tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    assert (config["model_type"], config["architectures"]) == ("acme_one", ["AcmeOneForCausalLM"])
    again = NeMoAutoModelForCausalLM.from_pretrained(tmp_path / "m").eval()
    (tmp_path / "m" / "config.json").write_text(json.dumps({**config, "model_type": "llama", "architectures": ["LlamaForCausalLM"]}))
    theirs = LlamaForCausalLM.from_pretrained(tmp_path / "m", dtype=torch.float32).eval()
    ids = torch.arange(5, 29)[None]
    wanted = theirs(ids).logits
    for ours in (model, again):
        torch.testing.assert_close(ours(ids).logits.float(), wanted, rtol=1e-5, atol=1e-5)


def test_a_real_config_gives_the_fields(tmp_path: Path) -> None:
    real = {**ModelRegistry.get("LlamaForCausalLM").tiny, "rope_theta": 77.0, "rms_norm_eps": 0.25, "torch_dtype": "bfloat16", "unknown": 1}
    real |= {"rope_scaling": {"rope_type": "linear", "factor": 2.0}, "hidden_act": "silu"}
    (tmp_path / "config.json").write_text(json.dumps(real))
    assert call("Acme", "--like", "llama", "--config", str(tmp_path), "--model-type", "acme-2.5", "--folder", "p") == 0
    (entry,) = written(tmp_path / "p").ARCHITECTURES
    fields = entry.config.fields
    assert (fields["hidden_size"], fields["rope_theta"], fields["rms_norm_eps"]) == (64, 77.0, 0.25)
    assert fields["rope_scaling"] == {"rope_type": "linear", "factor": 2.0}
    assert not {"torch_dtype", "unknown", "hidden_act"} & set(fields)
    assert entry.model_type == "acme-2.5"
    # An empty file means what the real one says.
    assert entry.spec(Config({})) == ModelRegistry.get("LlamaForCausalLM").spec(Config(real))  # type: ignore[misc]


def test_a_config_that_the_other_cannot_compute_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**ModelRegistry.get("LlamaForCausalLM").tiny, "hidden_act": "wavelet"}))
    assert call("Acme", "--like", "llama", "--config", "config.json") == 2
    assert "wavelet" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["Acme", "--like", "lama"], "did you mean llama"),
        (["9x", "--like", "llama"], "no name of a class"),
        (["a-b", "--like", "llama"], "no name of a class"),
        (["ForCausalLM", "--like", "llama"], "no name of a class"),
        (["Llama", "--like", "llama"], "a new name"),
        (["Acme", "--like", "llama", "--model-type", "qwen2"], "a new model_type"),
        (["Acme", "--like", "llama", "--model-type", "bert"], "a new model_type"),
        (["Acme", "--like", "llama", "--model-type", "aquila"], "a new model_type"),
        (["Acme", "--like", "llama", "--model-type", "../x"], "no model_type"),
        (["Class", "--like", "llama"], "a free name"),
        (["Acme", "--like", "llama", "--config", "nowhere.json"], "cannot be read"),
        (["Acme"], "--like"),
    ],
)
def test_wrong_requests_write_nothing(words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*words) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_nothing_is_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("Acme", "--like", "llama") == 0
    file = tmp_path / "automodel-acme" / "automodel_acme.py"
    file.write_text("mine")
    assert call("Acme", "--like", "qwen2") == 2
    assert "written over" in capsys.readouterr().err
    assert file.read_text() == "mine"


@pytest.mark.slow
def test_in_a_checkout_the_contract_suite_finds_it(tmp_path: Path) -> None:
    for name in ("automodel", "tests/archs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "tests/__init__.py", "tests/conftest.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}

    def run(*words: str) -> str:
        done = subprocess.run([sys.executable, "-m", *words], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=500, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    assert run("automodel", "new-arch", "Acme", "--like", "llama").strip() == os.path.join("automodel", "archs", "acme.py")
    ruff("check", "automodel/archs", cwd=tmp_path)
    ruff("format", "--check", "automodel/archs", cwd=tmp_path)
    assert " passed" in run("pytest", "tests/archs/test_contract.py", "-k", "AcmeForCausalLM", "-p", "no:cacheprovider")


@pytest.mark.slow
def test_the_tests_of_a_plug_in_pass(tmp_path: Path) -> None:
    assert call("Acme", "--like", "llama") == 0
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "pytest", "-q", "automodel-acme", "-p", "no:cacheprovider"]
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "2 passed" in done.stdout
