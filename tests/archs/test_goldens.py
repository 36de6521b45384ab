"""Outputs of the reference implementations: logits with and without padding, loss, embeddings; and weights that come back bit for bit.

One set for each architecture lies in `goldens/` (its README names the source); all others are read from beside the checkout, if they are there.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from automodel.archs.base import Architecture
from automodel.nn.pooling import pool
from automodel.registry import ModelRegistry

HERE = Path(__file__).parent / "goldens"
BESIDE = Path(__file__).resolve().parents[3] / "shared" / "architectures" / "golden"
# Deliberately saturated scores: a rounding error decides between two keys.
LOOSE = {"aquila_clamp": 1e-3}
IGNORE = -100
both_ends = pytest.mark.both_ends


def find(folder: Path) -> Architecture | None:
    config = json.loads((folder / "config.json").read_text())
    found = ModelRegistry.find(name=config["architectures"][0], model_type=config["model_type"])
    return found if found is not None and config["architectures"][0] in (found.name, *found.also) else None


def folders() -> list[Any]:
    committed = {folder.name: folder for folder in sorted(HERE.iterdir())}
    others = {folder.name: folder for folder in sorted(BESIDE.iterdir()) if folder.is_dir()} if BESIDE.is_dir() else {}
    known = {name: folder for name, folder in {**others, **committed}.items() if find(folder) is not None}
    return [pytest.param(folder, id=name) for name, folder in known.items()]


each = pytest.mark.parametrize("folder", folders())


@pytest.fixture
def model(folder: Path) -> Any:
    from automodel.auto import NeMoAutoModelForCausalLM

    found = NeMoAutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, allow_unverified=True)
    assert found.resolution.implementation == "native", found.resolution
    return found.eval()


@pytest.fixture
def stored(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "inputs.safetensors") | load_file(folder / "outputs.safetensors")


@both_ends
@each
@pytest.mark.parametrize("padding", ["", "leftpad_", "rightpad_"], ids=["none", "left", "right"])
def test_logits_and_loss_are_those_of_the_reference(folder: Path, model: Any, stored: dict[str, Tensor], padding: str) -> None:
    if f"{padding}logits" not in stored:
        pytest.skip("the reference was not run with this padding")
    ids, mask = stored[f"{padding}input_ids"], stored[f"{padding}attention_mask"]
    labels = ids.masked_fill(mask == 0, IGNORE)
    with torch.no_grad():
        found = model(ids, attention_mask=mask, labels=labels)
    seen = mask.bool()
    assert (found.logits[seen] - stored[f"{padding}logits"][seen]).abs().max().item() <= LOOSE.get(folder.name, 2e-5)
    if f"{padding}loss" in stored:
        assert abs(found.loss.item() - stored[f"{padding}loss"].item()) <= 1e-5


@both_ends
@each
def test_weights_are_saved_as_they_were_read(folder: Path, model: Any, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    before, after = load_file(folder / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    computed = {name for name in before if name.endswith("relative_pe.slopes")}
    assert after.keys() == before.keys() - computed
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())


@each
def test_a_saved_config_means_the_same_model(folder: Path, model: Any, stored: dict[str, Tensor], tmp_path: Path) -> None:
    from automodel.auto import NeMoAutoModelForCausalLM

    model.save_pretrained(tmp_path)
    again = NeMoAutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32, allow_unverified=True).eval()
    assert again.spec == model.spec
    with torch.no_grad():
        assert torch.equal(again(stored["input_ids"]).logits, model(stored["input_ids"]).logits)


@each
def test_left_out_positions_do_not_matter(model: Any, stored: dict[str, Tensor], folder: Path) -> None:
    if "leftpad_logits" not in stored:
        pytest.skip("the reference was not run with padding")
    ids, mask = stored["leftpad_input_ids"], stored["leftpad_attention_mask"]
    places = (mask.cumsum(-1) - 1).clamp_min(0)
    with torch.no_grad():
        found = model(ids, attention_mask=mask, position_ids=places).logits
    seen = mask.bool()
    assert (found[seen] - stored["leftpad_logits"][seen]).abs().max().item() <= LOOSE.get(folder.name, 2e-5)


def test_solar_blends_otherwise_in_training() -> None:
    model, stored = _committed("solar")
    with torch.no_grad():
        found = model.train()(stored["input_ids"]).logits
    assert (found - stored["logits_training_tv"]).abs().max().item() <= 2e-5


def test_gritlm_embeds_with_both_sides_in_view() -> None:
    model, stored = _committed("gritlm")
    body = model.get_decoder()
    mask = stored["rightpad_attention_mask"]
    with torch.no_grad():
        whole = body(stored["input_ids"], is_causal=False).last_hidden_state
        padded = body(stored["rightpad_input_ids"], attention_mask=mask, is_causal=False).last_hidden_state
        logits = model(stored["input_ids"], is_causal=False).logits
    seen = mask.bool()
    assert (whole - stored["bidirectional_last_hidden_state"]).abs().max().item() <= 2e-5
    assert (padded[seen] - stored["bidirectional_rightpad_last_hidden_state"][seen]).abs().max().item() <= 2e-5
    assert (logits - stored["logits_from_bidirectional"]).abs().max().item() <= 2e-5
    embedded = pool(padded, mask, skip=2)
    assert (embedded - stored["embedding_mean_norm_rightpad_instr2"]).abs().max().item() <= 2e-5


def test_no_window_hides_keys_when_both_sides_are_in_view() -> None:
    model, stored = _committed("gritlm")
    narrow, _ = _committed("gritlm", sliding_window=3)
    with torch.no_grad():
        wide = model.get_decoder()(stored["input_ids"], is_causal=False).last_hidden_state
        same = narrow.get_decoder()(stored["input_ids"], is_causal=False).last_hidden_state
        causal = narrow(stored["input_ids"]).logits
    assert (wide - same).abs().max().item() <= 2e-5
    assert (causal - stored["logits"]).abs().max().item() > 1e-2


def test_pooling_of_every_kind() -> None:
    hidden = torch.arange(24.0).view(2, 4, 3)
    mask = torch.tensor([[0, 1, 1, 1], [1, 1, 1, 0]])
    plain = {"kind": "mean", "normalize": False}
    assert torch.allclose(pool(hidden, mask, **plain)[0], hidden[0, 1:].mean(0))
    assert torch.equal(pool(hidden, mask, **plain, skip=torch.tensor([1, 2]))[1], hidden[1, 2])
    assert torch.equal(pool(hidden, mask, kind="cls", normalize=False)[0], hidden[0, 1])
    assert torch.equal(pool(hidden, mask, kind="lasttoken", normalize=False)[1], hidden[1, 2])
    weighted = (hidden[1, 0] + 2 * hidden[1, 1] + 3 * hidden[1, 2]) / 6
    assert torch.allclose(pool(hidden, mask, kind="weightedmean", normalize=False)[1], weighted)
    assert torch.allclose(pool(hidden, mask).norm(dim=-1), torch.ones(2))
    with pytest.raises(ValueError, match="row 0 has no token to pool"):
        pool(hidden, mask, skip=3)


def test_old_buffers_and_a_missing_prefix_are_read(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    model, stored = _committed("jais_mup")
    tensors = load_file(HERE / "jais_mup" / "model.safetensors")
    bare = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    bare |= {"h.0.attn.bias": torch.ones(1, 1, 4, 4), "h.0.attn.masked_bias": torch.tensor(-1e4)}
    shutil.copy(HERE / "jais_mup" / "config.json", tmp_path)
    save_file(bare, tmp_path / "model.safetensors", metadata={"format": "pt"})
    from automodel.auto import NeMoAutoModelForCausalLM

    again = NeMoAutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    with torch.no_grad():
        assert torch.equal(again(stored["input_ids"]).logits, model(stored["input_ids"]).logits)


def test_the_extra_loss_of_baichuan2_is_added() -> None:
    model, stored = _committed("baichuan2_13b", z_loss_weight=0.25)
    with torch.no_grad():
        found = model(stored["input_ids"], labels=stored["input_ids"])
    extra = 0.25 * found.logits[:, :-1].max(-1).values.square().mean().item()
    assert found.loss.item() == pytest.approx(stored["loss"].item() + extra, abs=1e-5)


def _committed(name: str, **changes: Any) -> tuple[Any, dict[str, Tensor]]:
    from automodel.auto import NeMoAutoModelForCausalLM

    found = NeMoAutoModelForCausalLM.from_pretrained(HERE / name, dtype=torch.float32, **changes)
    return found.eval(), load_file(HERE / name / "inputs.safetensors") | load_file(HERE / name / "outputs.safetensors")
