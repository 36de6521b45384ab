"""The registry: look up, refuse duplicates and unknown names, plug-ins, and use by the auto classes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from automodel import registry
from automodel.errors import ModelError
from automodel.registry import MODEL_ARCH_MAPPING, ModelRegistry, Registry, load_target, register_architecture

pytestmark = pytest.mark.both_ends


@pytest.fixture
def clean() -> Iterator[None]:
    before = {name: ModelRegistry.get(name) for name in ModelRegistry}
    yield
    for name in ModelRegistry:
        ModelRegistry.unregister(name)
    for entry in before.values():
        ModelRegistry.register(entry)


def test_register_look_up_and_list(clean: None) -> None:
    register_architecture("TinyForCausalLM", "collections:OrderedDict", model_type="tiny")
    assert "TinyForCausalLM" in ModelRegistry
    assert "TinyForCausalLM" in ModelRegistry.supported_models
    assert dict(MODEL_ARCH_MAPPING)["TinyForCausalLM"] == "collections:OrderedDict"
    assert ModelRegistry.get_model_cls_from_model_arch("TinyForCausalLM").__name__ == "OrderedDict"
    found = ModelRegistry.find(model_type="tiny")
    assert found is not None
    assert found.name == "TinyForCausalLM"


def test_duplicates_and_unknown_names(clean: None) -> None:
    register_architecture("TinyForCausalLM", dict)
    with pytest.raises(ValueError, match="registered already"):
        register_architecture("TinyForCausalLM", list)
    register_architecture("TinyForCausalLM", list, exist_ok=True)
    assert MODEL_ARCH_MAPPING["TinyForCausalLM"] is list
    with pytest.raises(ModelError, match="did you mean TinyForCausalLM"):
        ModelRegistry.get("TinyForCausaLM")
    with pytest.raises(ModelError, match="module:Class"):
        register_architecture("Other", "not a path")
    register_architecture("Other", "no_such_module:Thing")
    with pytest.raises(ModelError, match="no_such_module"):
        load_target(ModelRegistry.get("Other"))


def test_a_class_may_refuse_a_config(clean: None) -> None:
    picky = type("Picky", (), {"supports_config": staticmethod(lambda config: config == "good")})
    register_architecture("PickyForCausalLM", picky)
    assert ModelRegistry.resolve_custom_model_cls("PickyForCausalLM", "good") is picky
    assert ModelRegistry.resolve_custom_model_cls("PickyForCausalLM", "bad") is None


def test_plugins_come_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    class Point:
        name, value, dist = "PlugForCausalLM", "collections:OrderedDict", None

    monkeypatch.setattr(registry, "entry_points", lambda group: [Point()] if group == "automodel.architectures" else [])
    fresh = Registry()
    assert fresh.supported_models == ["PlugForCausalLM"]
    assert load_target(fresh.get("PlugForCausalLM")).__name__ == "OrderedDict"


def test_import_is_light() -> None:
    code = "import sys, automodel.registry; print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    assert done.stdout.strip() == "[]"


def test_registered_classes_are_built(clean: None, tiny_model_dir: Path, tmp_path: Path) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from automodel.auto import NeMoAutoModelForCausalLM, NeMoAutoModelForSequenceClassification

    class OwnConfig(LlamaConfig):  # type: ignore[misc]
        model_type = "own_llama_for_test"

        def __init__(self, **kwargs: object) -> None:
            super().__init__(**kwargs)

    class OwnForCausalLM(LlamaForCausalLM):  # type: ignore[misc]
        config_class = OwnConfig

    register_architecture("LlamaForCausalLM", OwnForCausalLM, config_class=LlamaConfig, exist_ok=True)
    model = NeMoAutoModelForCausalLM.from_pretrained(tiny_model_dir)
    assert isinstance(model, OwnForCausalLM)
    assert model.resolution.implementation == "native"
    assert not isinstance(NeMoAutoModelForCausalLM.from_pretrained(tiny_model_dir, force_hf=True), OwnForCausalLM)
    other = NeMoAutoModelForSequenceClassification.from_pretrained(tiny_model_dir)
    assert "another task" in str(other.resolution)

    register_architecture("OwnForCausalLM", OwnForCausalLM, model_type="own_llama_for_test")
    made = NeMoAutoModelForCausalLM.from_config({"model_type": "own_llama_for_test", "hidden_size": 32, "num_hidden_layers": 1, "vocab_size": 64})
    made.save_pretrained(tmp_path)
    again = NeMoAutoModelForCausalLM.from_pretrained(tmp_path)
    assert isinstance(again, OwnForCausalLM)
    assert torch.equal(again.lm_head.weight, made.lm_head.weight)
