"""Configs of the families that transformers has: read alike in every form, refused with a reason, and built as their real files say."""

from __future__ import annotations

import copy
import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from automodel.archs.base import Architecture
from automodel.archs.config import Config
from automodel.spec import DecoderSpec, Unsupported

LIKE_LLAMA = ("llama", "mistral", "qwen2", "qwen3", "phi3", "granite", "olmo", "olmo2", "glm", "glm4", "stablelm", "minicpm3")
OTHERS = ("gemma", "gemma2", "gemma3", "cohere", "cohere2", "phi", "falcon", "gpt2", "gpt_bigcode", "gptj", "gpt_neox", "nemotron", "starcoder2")
FAMILIES = (*LIKE_LLAMA, *OTHERS)
REAL = Path(__file__).parents[3] / "shared" / "architectures" / "configs"


def family(module: str) -> Architecture:
    (found,) = importlib.import_module(f"automodel.archs.{module}").ARCHITECTURES
    return found


def fields_of(module: str, **changes: Any) -> dict[str, Any]:
    entry = family(module)
    return copy.deepcopy({"model_type": entry.model_type, **entry.tiny, **changes})


def spec_of(source: Any, module: str) -> DecoderSpec:
    make = family(module).spec
    assert make is not None
    return make(Config(source))


def variants() -> list[Any]:
    pairs = [(module, name) for module in FAMILIES for name in ("tiny", *family(module).variants)]
    return [pytest.param(module, name, id=f"{module}-{name}") for module, name in pairs]


@pytest.mark.both_ends
@pytest.mark.parametrize(("module", "variant"), variants())
def test_a_file_and_an_object_give_the_same_spec(module: str, variant: str) -> None:
    from transformers import CONFIG_MAPPING, AutoConfig

    fields = fields_of(module, **family(module).variants.get(variant, {}))
    from_file = spec_of(copy.deepcopy(fields), module)
    kind = fields.pop("model_type")
    if kind not in CONFIG_MAPPING:
        pytest.skip(f"this transformers has no {kind}")
    assert spec_of(AutoConfig.for_model(kind, **fields), module) == from_file


@pytest.mark.parametrize("module", FAMILIES)
def test_each_variant_changes_the_spec(module: str) -> None:
    plain = spec_of(fields_of(module), module)
    for name, changes in family(module).variants.items():
        assert spec_of(fields_of(module, **changes), module) != plain, name


def test_specs_load_neither_torch_nor_transformers() -> None:
    code = (
        "import importlib, sys\n"
        "from automodel.archs.config import Config\n"
        f"for name in {FAMILIES!r}:\n"
        "    (entry,) = importlib.import_module(f'automodel.archs.{name}').ARCHITECTURES\n"
        "    entry.spec(Config(entry.tiny))\n"
        "assert not {'torch', 'transformers'} & set(sys.modules), 'loaded'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("module", "changes", "reason"),
    [
        ("llama", {"hidden_act": "mish"}, "hidden_act 'mish'"),
        ("llama", {"num_key_value_heads": 3}, "4 query heads do not divide into 3"),
        ("llama", {"rope_scaling": {"rope_type": "proportional", "factor": 2.0}}, "RoPE scaling 'proportional'"),
        ("llama", {"is_causal": False}, "is_causal is False"),
        ("llama", {"hidden_size": None}, "no hidden_size"),
        ("qwen2", {"layer_types": ["chunked_attention", "full_attention"]}, "layer kind 'chunked_attention'"),
        ("qwen2", {"layer_types": ["full_attention"]}, "layer_types names 1 layers"),
        ("gemma2", {"use_bidirectional_attention": True}, "use_bidirectional_attention is True"),
        ("gemma3", {"use_bidirectional_attention": True}, "use_bidirectional_attention is True"),
        ("phi3", {"rope_scaling": {"type": "longrope", "short_factor": [1.0], "long_factor": [1.0]}}, "short_factor of RoPE has 1 numbers"),
        ("glm", {"partial_rotary_factor": 0.05}, "RoPE on 1 dimensions"),
        ("falcon", {"new_decoder_architecture": True, "parallel_attn": False}, "not defined"),
        ("falcon", {"num_ln_in_parallel_attn": 2}, "not defined"),
        ("falcon", {"parallel_attn": False, "hidden_dropout": 0.1}, "differ"),
        ("gpt2", {"add_cross_attention": True}, "add_cross_attention is True"),
        ("gpt2", {"reorder_and_upcast_attn": True}, "reorder_and_upcast_attn is True"),
        ("gpt_bigcode", {"add_cross_attention": True}, "add_cross_attention is True"),
        ("gptj", {"rotary_dim": None}, "no rotary_dim"),
    ],
)
def test_what_is_not_computed_is_refused_with_the_reason(module: str, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unsupported, match=reason):
        spec_of(fields_of(module, **changes), module)


def test_windows_and_positions_follow_the_layers() -> None:
    gemma = spec_of(fields_of("gemma3", layer_types=None, sliding_window_pattern=3, rope_local_base_freq=500.0, rope_theta=1e6), "gemma3")
    parts = [layer.attention for layer in gemma.layers]
    assert [part and part.window for part in parts] == [5, 5, None]
    assert [part and part.rope and part.rope.theta for part in parts] == [500.0, 500.0, 1e6]
    command = spec_of(fields_of("cohere2"), "cohere2")
    assert [layer.attention and layer.attention.rope is None for layer in command.layers] == [False, True]
    qwen = {"use_sliding_window": False, "sliding_window": 5, "max_window_layers": 0}
    assert spec_of(fields_of("qwen2", **qwen), "qwen2").windows == (None,)
    gpt = spec_of(fields_of("gpt2", scale_attn_by_inverse_layer_idx=True), "gpt2")
    assert [layer.attention and layer.attention.score_scale for layer in gpt.layers] == [0.25, 0.125]


def real() -> list[Any]:
    from automodel.registry import ModelRegistry

    own = {entry.name for entry in map(family, FAMILIES)}
    found = []
    for file in sorted(REAL.glob("*/config.json")):
        data = json.loads(file.read_text())
        entry = ModelRegistry.find(name=(data.get("architectures") or [None])[0], model_type=data.get("model_type"))
        if entry is not None and entry.name in own:
            found.append(pytest.param(file, entry, id=file.parent.name))
    return found or [pytest.param(None, None, marks=pytest.mark.skip("no real configs beside this checkout"))]


@pytest.mark.both_ends
@pytest.mark.parametrize(("file", "entry"), real())
def test_a_real_config_has_the_tensors_of_transformers(file: Path, entry: Architecture) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    from automodel.nn.decoder import build_decoder
    from automodel.weights.derive import decoder_rules
    from automodel.weights.plan import plan_load

    assert entry.spec is not None
    data = json.loads(file.read_text())
    data.pop("auto_map", None)
    kind = data.pop("model_type")
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        pytest.skip(f"this transformers has no {kind}")
    with torch.device("meta"):
        theirs = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **copy.deepcopy(data)))
        spec = entry.spec(Config(json.loads(file.read_text())))
        ours = torch.nn.Module()
        build_decoder(ours, spec)
    rules = decoder_rules(spec, *(entry.rules(spec) if entry.rules else ()))
    disk = theirs.state_dict()
    plan_load(rules, disk, {name: tuple(tensor.shape) for name, tensor in ours.state_dict().items()}, ties=_ties(spec))
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())


def _ties(spec: DecoderSpec) -> dict[str, str]:
    return {f"{spec.names.head}.weight": f"{spec.names.embed}.weight"} if spec.head.tied else {}
