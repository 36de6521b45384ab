"""The loss over supervised positions equals transformers' own loss, in value and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from automodel.train.head import SupervisedLoss

SMALL: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}


def build(kind: str) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    extra: dict[str, Any] = {"gemma2": {"head_dim": 8, "final_logit_softcapping": 3.0}, "granite": {"logits_scaling": 4.0}}.get(kind, {})
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 96, "n_positions": 64} if kind == "gpt2" else SMALL
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes, **extra), attn_implementation="eager").double()


def batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 96, (3, 12), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    labels = ids.masked_fill(mask == 0, -100)
    labels[0, :6], labels[1, :2], labels[2, :11] = -100, -100, -100
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


@pytest.mark.both_ends
@pytest.mark.parametrize("kind", ["llama", "gemma2", "granite", "gpt2", "cohere"])
def test_equals_the_loss_of_transformers(kind: str) -> None:
    model, rows = build(kind).eval(), batch()
    count = int((rows["labels"][:, 1:] != -100).sum())
    reference = model(**rows, use_cache=False).loss
    reference.backward()
    wanted = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()

    loss = SupervisedLoss(model)
    value = loss(rows) / count
    value.backward()

    assert loss.note == "logits for supervised positions only"
    # transformers computes its loss in float32, whatever the model's type
    assert value.item() == pytest.approx(reference.item(), rel=1e-6)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name], rtol=1e-4, atol=1e-6, msg=name)


def test_logits_are_computed_for_supervised_rows_only() -> None:
    model, rows = build("llama"), batch()
    loss = SupervisedLoss(model)
    seen: list[torch.Size] = []
    model.lm_head.register_forward_hook(lambda _m, _i, output: seen.append(output.shape))
    loss(rows)
    assert seen == [torch.Size([int((rows["labels"][:, 1:] != -100).sum()), 96])]


def test_a_batch_without_labels_gives_zero_and_gradients_of_zero() -> None:
    model, rows = build("llama"), batch()
    rows["labels"].fill_(-100)
    value = SupervisedLoss(model)(rows)
    value.backward()
    assert value.item() == 0
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_a_head_that_is_not_called_falls_back_to_full_logits_and_says_so() -> None:
    model, rows = build("llama"), batch()
    expected = SupervisedLoss(model)(rows).item()
    model.get_output_embeddings = lambda: torch.nn.Linear(1, 1)
    loss = SupervisedLoss(model)
    assert loss(rows).item() == pytest.approx(expected)
    assert loss.note.startswith("full logits")


def test_chunks_do_not_change_the_loss_and_the_hook_comes_off() -> None:
    model, rows = build("llama"), batch()
    whole, parts = SupervisedLoss(model), SupervisedLoss(model, chunk=3)
    assert parts(rows).item() == pytest.approx(whole(rows).item(), rel=1e-12)
    whole.close(), parts.close()
    assert model(**rows).logits.shape == (3, 12, 96)
