"""Stock peft on native decoders: an adapter means the same there and on transformers' own class, both ways, merged or not."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from automodel.auto import native

SIZES: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 64,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "max_position_embeddings": 64,
}  # fmt: skip
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
OPTIONS: dict[str, dict[str, Any]] = {
    "all seven": {"target_modules": ALL},
    "q and v": {"target_modules": ["q_proj", "v_proj"]},
    "regex": {"target_modules": r".*layers\.1\.(self_attn\.k_proj|mlp\.up_proj)"},
    "all-linear": {"target_modules": "all-linear"},
    "patterns": {"target_modules": ALL, "rank_pattern": {"q_proj": 2, "gate_proj": 6}, "alpha_pattern": {"k_proj": 3}},
    "one layer": {"target_modules": ALL, "layers_to_transform": [1]},
    "rslora": {"target_modules": ALL, "use_rslora": True},
    "dora": {"target_modules": ALL, "use_dora": True},
    "bias all": {"target_modules": ["q_proj", "up_proj"], "bias": "all"},
    "bias of the layers": {"target_modules": ["q_proj", "v_proj", "o_proj"], "bias": "lora_only"},
    "head and norm": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head", "norm"]},
    "whole projection": {"target_modules": ["q_proj"], "modules_to_save": ["v_proj", "gate_proj"]},
    "embedding": {"target_modules": ["q_proj", "embed_tokens", "lm_head"]},
}
IDS = torch.arange(3, 23).reshape(2, 10)


@pytest.fixture(scope="module", params=["Llama", "Qwen2"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{request.param}Config")(**SIZES)
    model = getattr(transformers, f"{request.param}ForCausalLM")(config)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    path: Path = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(path)
    return path


def theirs(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def ours(folder: Path) -> Any:
    import json

    name = json.loads((folder / "config.json").read_text())["architectures"][0]
    return getattr(native, name).from_pretrained(folder, dtype=torch.float32)


def adapted(model: Any, **options: Any) -> Any:
    """Wrap a model; the same adapter values whatever the class."""
    found = get_peft_model(model, LoraConfig(**{"r": 4, "lora_alpha": 8, "lora_dropout": 0.0, "task_type": "CAUSAL_LM", **options}))
    generator = torch.Generator().manual_seed(1)
    for name, parameter in found.named_parameters():
        if "lora_" in name and "magnitude" not in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2
    return found


def train(model: Any, steps: int = 3) -> Any:
    model.train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for _ in range(steps):
        model(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    found: torch.Tensor = model.eval()(input_ids=IDS).logits
    return found


def close(a: torch.Tensor, b: torch.Tensor, tolerance: float = 4e-6) -> None:
    torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


@pytest.mark.both_ends
@pytest.mark.parametrize("name", OPTIONS)
def test_adapters_mean_the_same_on_both_classes(folder: Path, tmp_path: Path, name: str) -> None:
    models = {"ours": train(adapted(ours(folder), **OPTIONS[name])), "theirs": train(adapted(theirs(folder), **OPTIONS[name]))}
    wanted = logits(models["theirs"])
    close(logits(models["ours"]), wanted, 1e-5)
    assert (wanted - logits(theirs(folder))).abs().max() > 0.05
    for kind, model in models.items():
        model.save_pretrained(tmp_path / kind)
    close(logits(PeftModel.from_pretrained(theirs(folder), str(tmp_path / "ours"))), logits(models["ours"]))
    close(logits(PeftModel.from_pretrained(ours(folder), str(tmp_path / "theirs"))), wanted)
    close(logits(PeftModel.from_pretrained(ours(folder), str(tmp_path / "ours"))), logits(models["ours"]))
    from safetensors.torch import load_file

    files = [load_file(tmp_path / kind / "adapter_model.safetensors") for kind in models]
    assert {k: v.shape for k, v in files[0].items()} == {k: v.shape for k, v in files[1].items()}
    for key, value in files[0].items():
        close(value, files[1][key], 1e-5)


@pytest.mark.both_ends
@pytest.mark.parametrize("safe", [False, True])
@pytest.mark.parametrize("name", ["all seven", "dora", "patterns"])
def test_merging_and_taking_apart(folder: Path, tmp_path: Path, name: str, safe: bool) -> None:
    plain = logits(ours(folder))
    model = adapted(ours(folder), **OPTIONS[name])
    wanted = logits(model)
    assert (wanted - plain).abs().max() > 0.05
    model.merge_adapter(safe_merge=safe)
    close(logits(model), wanted)
    model.unmerge_adapter()
    close(logits(model), wanted)
    with model.disable_adapter():
        close(logits(model), plain)
    model.merge_adapter(safe_merge=safe)
    # Now the adapters unmerge themselves in the middle of a forward pass, after the fused product.
    with model.disable_adapter():
        close(logits(model), plain)
    close(logits(model), wanted)
    merged = model.merge_and_unload(safe_merge=safe)
    close(logits(merged), wanted)
    assert not any("lora" in key for key in merged.state_dict())
    merged.save_pretrained(tmp_path / "merged")
    close(logits(theirs(tmp_path / "merged")), wanted)


@pytest.mark.both_ends
def test_unload_leaves_the_model_as_it_was(folder: Path) -> None:
    model = ours(folder)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    again = adapted(model, **OPTIONS["all seven"]).unload()
    after = again.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.both_ends
@pytest.mark.parametrize("dora", [False, True])
def test_two_adapters(folder: Path, dora: bool) -> None:
    results = {}
    for kind, model in (("ours", ours(folder)), ("theirs", theirs(folder))):
        found = adapted(model, target_modules=ALL, use_dora=dora)
        found.add_adapter("second", LoraConfig(r=2, target_modules=["q_proj", "up_proj"], use_dora=dora, task_type="CAUSAL_LM"))
        generator = torch.Generator().manual_seed(2)
        for name, parameter in found.named_parameters():
            if "lora_" in name and ".second." in name and "magnitude" not in name:
                parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2
        rows = [logits(found)]
        found.set_adapter("second")
        rows.append(logits(found))
        found.merge_adapter(adapter_names=["second"])
        rows.append(logits(found))
        found.unmerge_adapter()
        found.set_adapter("default")
        rows.append(logits(found))
        if not dora:
            with torch.no_grad():
                rows.append(found(input_ids=IDS, adapter_names=["second", "__base__"]).logits)
        results[kind] = rows
    for a, b in zip(results["ours"], results["theirs"], strict=True):
        close(a, b)


@pytest.mark.both_ends
@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_gives_the_same_gradients(folder: Path, reentrant: bool) -> None:
    grads = []
    for checkpointed in (False, True):
        model = adapted(ours(folder), target_modules=ALL).train()
        if checkpointed:
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
            model.enable_input_require_grads()
        model(input_ids=IDS, labels=IDS).loss.backward()
        grads.append({name: p.grad for name, p in model.named_parameters() if p.requires_grad})
    assert all(grad is not None for grad in grads[1].values())
    for name, grad in grads[0].items():
        close(grads[1][name], grad)


@pytest.mark.both_ends
@pytest.mark.parametrize("copier", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["deepcopy", "pickle"])
def test_copies(folder: Path, copier: Any) -> None:
    model = adapted(ours(folder), target_modules=ALL)
    wanted = logits(model)
    again = copier(model)
    close(logits(again), wanted, 1e-7)
    again.merge_adapter()
    close(logits(again), wanted)
    close(logits(model), wanted, 1e-7)
    weights = [m.get_base_model().model.layers[0].self_attn.qkv.weight for m in (model, again)]
    assert not torch.equal(weights[0], weights[1])


@pytest.mark.both_ends
def test_generation_with_an_adapter(folder: Path) -> None:
    tokens = [
        adapted(model, target_modules=ALL)
        .eval()
        .generate(input_ids=IDS[:1], attention_mask=torch.ones_like(IDS[:1]), max_new_tokens=12, do_sample=False)
        for model in (ours(folder), theirs(folder))
    ]
    assert torch.equal(tokens[0], tokens[1])


@pytest.mark.both_ends
def test_adapter_through_transformers_itself(folder: Path, tmp_path: Path) -> None:
    trained = adapted(theirs(folder), target_modules=ALL)
    trained.save_pretrained(tmp_path)
    model = ours(folder)
    model.load_adapter(str(tmp_path))
    close(logits(model), logits(trained))


@pytest.mark.both_ends
def test_initialisations_that_read_the_weight(folder: Path) -> None:
    for kind in ("pissa", "olora"):
        results = []
        for model in (ours(folder), theirs(folder)):
            found = get_peft_model(
                model, LoraConfig(r=4, target_modules=["q_proj", "v_proj", "up_proj"], init_lora_weights=kind, task_type="CAUSAL_LM")
            )
            results.append(logits(found))
        close(results[0], results[1], 2e-5)
        close(results[0], logits(ours(folder)), 2e-5)


@pytest.mark.both_ends
def test_half_precision_base(folder: Path) -> None:
    model = adapted(ours(folder).to(torch.bfloat16), target_modules=ALL)
    full = logits(adapted(ours(folder), target_modules=ALL))
    assert (logits(model).float() - full).abs().max() < 0.15
