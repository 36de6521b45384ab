"""The contract of a native architecture: a registered file gets all of these tests without writing one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from automodel.auto.compat import major
from automodel.errors import ModelError
from automodel.weights.save import to_disk
from tests.archs.cases import Case, distance, each, has_reference, opened, own, padded, reference, rows, rules_of, spec_of

both_ends = pytest.mark.both_ends


@pytest.fixture
def pair(case: Case, tmp_path: Path) -> tuple[Any, Any]:
    """The model of transformers, and ours with the weights that it saved."""
    if not has_reference(case):
        pytest.skip("this transformers has no class of it; its reference outputs are in test_goldens.py")
    theirs = reference(case, tmp_path / "made")
    theirs.save_pretrained(tmp_path / "theirs")
    return theirs, opened(tmp_path / "theirs", case, dtype=torch.float32)


@both_ends
@each()
def test_logits_loss_and_gradients_are_those_of_transformers(case: Case, pair: tuple[Any, Any], tmp_path: Path) -> None:
    theirs, ours = pair
    ids = rows()
    wanted, found = theirs(ids, labels=ids), ours(ids, labels=ids)
    assert distance(found.logits, wanted.logits) <= 1e-5
    assert abs(found.loss.item() - wanted.loss.item()) <= 1e-5 * max(1.0, abs(wanted.loss.item()))
    wanted.loss.backward()
    found.loss.backward()
    gradients = to_disk({name: p.grad if p.grad is not None else torch.zeros_like(p) for name, p in ours.named_parameters()}, rules_of(case))
    # Written by transformers, so that they have the names of the files: a release may have others in memory.
    theirs.save_pretrained(tmp_path / "gradients", state_dict={name: p.grad for name, p in theirs.named_parameters() if p.grad is not None})
    expected = _tensors(tmp_path / "gradients")
    # A bias that shifts all scores of a row has no gradient but rounding: that is judged by the scale of all gradients.
    floor = 1e-3 * max(gradient.abs().max() for gradient in expected.values())
    for name, gradient in expected.items():
        worst = (gradients[name] - gradient).abs().max()
        assert worst <= 1e-4 * max(gradient.abs().max(), floor), name


@both_ends
@each()
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(case: Case, pair: tuple[Any, Any], side: str) -> None:
    theirs, ours = pair
    ids, mask = padded(side=side)
    positions = (mask.cumsum(-1) - 1).clamp_min(0)
    arguments = {"attention_mask": mask, "position_ids": positions}
    accepted = {name: arguments[name] for name in arguments if name == "attention_mask" or _takes(theirs, name)}
    wanted, found = theirs(ids, **accepted).logits, ours(ids, **arguments).logits
    seen = mask.bool()
    assert distance(found[seen], wanted[seen]) <= 1e-5


@each(variants=False)
def test_padding_equals_the_row_alone(case: Case) -> None:
    ours = own(case)
    ids, mask = padded(side="left")
    positions = (mask.cumsum(-1) - 1).clamp_min(0)
    with torch.no_grad():
        batch = ours(ids, attention_mask=mask, position_ids=positions).logits
        alone = ours(ids[1:, 7:]).logits
    assert distance(batch[1:, 7:], alone) <= 1e-5


@both_ends
@each()
def test_generation_is_that_of_transformers(case: Case, pair: tuple[Any, Any]) -> None:
    theirs, ours = pair
    ids, mask = padded(side="left", length=12, pad=4)
    wish = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 1, "eos_token_id": None}
    # The cache of transformers 4 goes wrong where a long RoPE changes its factors.
    right = {"use_cache": False} if "longrope" in str(case.fields) and major() < 5 else {}
    for inputs in ({"input_ids": rows(length=12)}, {"input_ids": ids, "attention_mask": mask}):
        assert torch.equal(ours.generate(**inputs, **wish), theirs.generate(**inputs, **wish, **right))


@each()
def test_a_cache_changes_nothing(case: Case) -> None:
    ours = own(case)
    wish = {"max_new_tokens": 16, "do_sample": False, "pad_token_id": 1, "eos_token_id": None}
    ids = rows(length=12)
    with_cache = ours.generate(ids, use_cache=True, **wish)
    assert torch.equal(with_cache, ours.generate(ids, use_cache=False, **wish))
    if all(window is None for window in spec_of(case).windows):
        assert torch.equal(with_cache, ours.generate(ids, cache_implementation="static", **wish))


@each()
def test_packed_rows_equal_single_ones(case: Case) -> None:
    ours = own(case)
    first, second = rows(batch=1, length=14), rows(batch=1, length=9, seed=5)
    packed = torch.cat([first, second], dim=1)
    positions = torch.cat([torch.arange(14), torch.arange(9)])[None]
    with torch.no_grad():
        together = ours(packed, position_ids=positions, use_cache=False).logits
        apart = torch.cat([ours(first).logits, ours(second).logits], dim=1)
    assert distance(together, apart) <= 1e-5


@both_ends
@each()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_weights_come_back_bit_for_bit(case: Case, tmp_path: Path, dtype: torch.dtype) -> None:
    first = own(case).to(dtype)
    first.save_pretrained(tmp_path / "a", max_shard_size="40KB")
    opened(tmp_path / "a", case, dtype=dtype).save_pretrained(tmp_path / "b")
    before, after = _tensors(tmp_path / "a"), _tensors(tmp_path / "b")
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert tensor.dtype == dtype, name
        assert torch.equal(tensor, after[name]), name
    saved = json.loads((tmp_path / "b" / "config.json").read_text())
    assert saved["model_type"] == case.entry.model_type
    assert saved["architectures"][0] in (case.entry.name, *case.entry.also)


@both_ends
@each()
def test_names_and_values_on_disk_are_those_of_transformers(case: Case, pair: tuple[Any, Any], tmp_path: Path) -> None:
    _, ours = pair
    ours.save_pretrained(tmp_path / "ours")
    wanted, found = _tensors(tmp_path / "theirs"), _tensors(tmp_path / "ours")
    assert wanted.keys() == found.keys()
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)


@each(variants=False)
def test_a_wrong_checkpoint_is_refused_by_name(case: Case, tmp_path: Path) -> None:
    own(case).save_pretrained(tmp_path)
    good = load_file(tmp_path / "model.safetensors")
    matrix = next(name for name, tensor in good.items() if tensor.dim() == 2 and ".0." in name)
    faults = {
        "unknown": {**good, "model.layers.0.self_attn.surprise.weight": torch.zeros(3)},
        "missing": {name: tensor for name, tensor in good.items() if name != matrix},
        "shape": {**good, matrix: torch.zeros(3, 5)},
    }
    for kind, tensors in faults.items():
        save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ModelError, match="surprise" if kind == "unknown" else matrix.replace(".", r"\.")):
            opened(tmp_path, case)


@each(variants=False)
def test_one_step_lowers_the_loss(case: Case) -> None:
    ours = own(case).train()
    ids = rows()
    optimizer = torch.optim.SGD(ours.parameters(), lr=1e-2)
    torch.manual_seed(0)
    before = ours(ids, labels=ids).loss
    before.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in ours.parameters())
    optimizer.step()
    torch.manual_seed(0)
    assert ours(ids, labels=ids).loss < before


@each(variants=False)
def test_an_adapter_made_here_works_there(case: Case, pair: tuple[Any, Any], tmp_path: Path) -> None:
    from peft import LoraConfig, PeftModel, get_peft_model

    theirs, ours = pair
    ids = rows()
    adapted = get_peft_model(ours, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM"))
    torch.manual_seed(2)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.1)
        wanted = adapted(ids).logits
    adapted.save_pretrained(tmp_path / "adapter")
    there = PeftModel.from_pretrained(theirs, str(tmp_path / "adapter"))
    with torch.no_grad():
        plain, found = adapted.base_model.model, there(ids).logits
        assert distance(found, wanted) <= 1e-5
        with adapted.disable_adapter():
            assert distance(plain(ids).logits, wanted) > 1e-3


def _takes(model: Any, name: str) -> bool:
    import inspect

    return name in inspect.signature(model.forward).parameters


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        found |= load_file(file)
    return found
