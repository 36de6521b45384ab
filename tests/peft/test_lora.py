"""LoRA targets: which layers are meant, and that a wrong name is an error with the right one beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from automodel.errors import RecipeError
from automodel.peft import apply_lora, load_adapter, match_layers
from automodel.recipe.schema import PeftSection

ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}


def tiny(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def test_default_is_every_linear_layer_but_the_head(tiny_model_dir: Path) -> None:
    match = match_layers(tiny(tiny_model_dir), PeftSection())
    assert set(match.targets) == ATTENTION | {"gate_proj", "up_proj", "down_proj"}
    assert len(match.modules) == 14


@pytest.mark.parametrize(
    ("targets", "count"),
    [("*_proj", 14), (["q_proj", "v_proj"], 4), ("*.layers.0.*", 7), ("model.layers.1.mlp.up_proj", 1), ("lm_head", 1)],
)
def test_names_and_globs(tiny_model_dir: Path, targets: Any, count: int) -> None:
    assert len(match_layers(tiny(tiny_model_dir), PeftSection(target_modules=targets)).modules) == count


def test_part_of_the_layers_keeps_full_names(tiny_model_dir: Path) -> None:
    match = match_layers(tiny(tiny_model_dir), PeftSection(target_modules="*.layers.0.self_attn.*"))
    assert all(name.startswith("model.layers.0.") for name in match.targets)


def test_exclude(tiny_model_dir: Path) -> None:
    match = match_layers(tiny(tiny_model_dir), PeftSection(exclude_modules=["*.mlp.*"]))
    assert set(match.targets) == ATTENTION


def test_an_exclusion_of_nothing_is_an_error(tiny_model_dir: Path) -> None:
    with pytest.raises(RecipeError, match=r"(?s)matches no layer.*mpl"):
        match_layers(tiny(tiny_model_dir), PeftSection(exclude_modules=["*.mpl.*"]))


def test_no_match_is_an_error_that_names_the_nearest(tiny_model_dir: Path) -> None:
    with pytest.raises(RecipeError, match=r"(?s)nothing would be trained.*q_proj") as caught:
        match_layers(tiny(tiny_model_dir), PeftSection(target_modules=["q_prj"]))
    assert caught.value.fix == "peft.target_modules: [q_proj]"


@pytest.mark.both_ends
@pytest.mark.parametrize("options", [{}, {"use_rslora": True}, {"use_dora": True}])
def test_adapter_trains_alone_and_loads_in_peft(tiny_model_dir: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    from peft import PeftModel

    section = PeftSection(dim=4, **options)
    model: Any = apply_lora(tiny(tiny_model_dir), section)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(tmp_path)
    ids = torch.arange(10)[None]
    with torch.no_grad():
        wanted = model.eval()(ids).logits
        plain = PeftModel.from_pretrained(tiny(tiny_model_dir), str(tmp_path)).eval()(ids).logits
        again = load_adapter(tiny(tiny_model_dir), tmp_path, trainable=True, section=section).eval()(ids).logits
        base = tiny(tiny_model_dir)(ids).logits
    torch.testing.assert_close(plain, wanted, rtol=0, atol=1e-6)
    torch.testing.assert_close(again, wanted, rtol=0, atol=1e-6)
    assert (base - wanted).abs().max() > 1e-3
