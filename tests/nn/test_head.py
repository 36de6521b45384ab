"""Logits: each switch of the head."""

import pytest
import torch
import torch.nn.functional as F

from automodel.nn.head import Head
from automodel.spec import HeadSpec


def build(**fields: object) -> Head:
    torch.manual_seed(0)
    return Head(HeadSpec(**fields), hidden=16, vocab=11)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, lambda h, w, b: h @ w.t()),
        ({"bias": True}, lambda h, w, b: h @ w.t() + b),
        ({"bias": True, "multiplier": 0.25}, lambda h, w, b: (h @ w.t() + b) * 0.25),
        ({"divide_hidden": 9.0}, lambda h, w, b: (h / 9.0) @ w.t()),
        ({"softcap": 1.5}, lambda h, w, b: 1.5 * torch.tanh(h @ w.t() / 1.5)),
        ({"multiplier": 3.0, "softcap": 1.5}, lambda h, w, b: 1.5 * torch.tanh(3.0 * (h @ w.t()) / 1.5)),
        ({"normalized": True}, lambda h, w, b: h @ (w / w.norm(dim=1, keepdim=True)).t()),
    ],
)
def test_logits(fields: dict[str, object], expected: object) -> None:
    head = build(**fields)
    hidden = torch.randn(2, 3, 16, requires_grad=True)
    found, target = head(hidden), expected(hidden, head.weight, head.bias)  # type: ignore[operator]
    torch.testing.assert_close(found, target, atol=1e-6, rtol=1e-6)
    mine, other = (torch.autograd.grad(y.square().sum(), (hidden, head.weight)) for y in (found, target))
    for a, b in zip(mine, other, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_masked_tokens_get_the_lowest_number_and_no_gradient(dtype: torch.dtype) -> None:
    head = build(masked=(2, 7), softcap=2.0).to(dtype)
    hidden = torch.randn(2, 3, 16, dtype=dtype)
    logits = head(hidden)
    assert (logits[..., [2, 7]] == torch.finfo(dtype).min).all()
    kept = [i for i in range(11) if i not in (2, 7)]
    assert (logits[..., kept].abs() <= 2.0).all()
    F.cross_entropy(logits.flatten(0, 1).float(), torch.zeros(6, dtype=torch.long)).backward()
    assert head.weight.grad is not None
    assert head.weight.grad[[2, 7]].abs().sum() == 0
    assert head.weight.grad[kept].abs().sum() > 0


def test_normalised_rows_leave_the_weight_alone() -> None:
    head = build(normalized=True).eval()
    before = head.weight.detach().clone()
    head(torch.randn(1, 16))
    assert torch.equal(head.weight, before)


def test_names_and_meta() -> None:
    assert list(build().state_dict()) == ["weight"]
    with torch.device("meta"):
        head = build(bias=True, masked=(1,))
    assert head(torch.randn(1, 16, device="meta")).shape == (1, 11)
