"""Norms against transformers' own, value and gradient."""

import pytest
import torch
from torch import nn

from automodel.nn.norm import Norm
from automodel.spec import NormSpec

WIDTH = 48


def reference(name: str) -> nn.Module:
    if name == "llama":
        from transformers.models.llama.modeling_llama import LlamaRMSNorm

        return LlamaRMSNorm(WIDTH, eps=1e-5)
    if name == "gemma":
        from transformers.models.gemma.modeling_gemma import GemmaRMSNorm

        return GemmaRMSNorm(WIDTH, eps=1e-5)
    if name == "cohere":
        from transformers.models.cohere.modeling_cohere import CohereLayerNorm

        return CohereLayerNorm(WIDTH, eps=1e-5)
    if name == "nemotron":
        from transformers.models.nemotron.modeling_nemotron import NemotronLayerNorm1P

        return NemotronLayerNorm1P(WIDTH, eps=1e-5)
    if name == "olmo":
        from transformers.models.olmo.modeling_olmo import OlmoLayerNorm

        return OlmoLayerNorm(WIDTH)
    return nn.LayerNorm(WIDTH, eps=1e-5)


SPECS = {
    "llama": NormSpec(eps=1e-5),
    "gemma": NormSpec(eps=1e-5, offset=True, float_weight=True),
    "cohere": NormSpec(kind="layer", eps=1e-5, float_weight=True),
    "nemotron": NormSpec(kind="layer", eps=1e-5, bias=True, offset=True),
    "olmo": NormSpec(kind="layer", eps=1e-5, affine=False),
    "torch": NormSpec(kind="layer", eps=1e-5, bias=True),
}


def pair(name: str, dtype: torch.dtype) -> tuple[Norm, nn.Module]:
    torch.manual_seed(0)
    theirs = reference(name)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.5)
    ours = Norm(SPECS[name], WIDTH)
    ours.load_state_dict(theirs.state_dict())
    return ours.to(dtype), theirs.to(dtype)


@pytest.mark.both_ends
@pytest.mark.parametrize("name", SPECS)
def test_equal_to_transformers_with_gradients(name: str) -> None:
    ours, theirs = pair(name, torch.float32)
    x = (torch.randn(3, 7, WIDTH) * 3 + 1).requires_grad_()
    grad = torch.randn(3, 7, WIDTH)
    results = []
    for norm in (ours, theirs):
        y = norm(x)
        grads = torch.autograd.grad(y, (x, *norm.parameters()), grad)
        results.append((y, *grads))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, atol=2e-6, rtol=2e-6)


@pytest.mark.both_ends
@pytest.mark.parametrize("name", SPECS)
def test_equal_to_transformers_in_bfloat16(name: str) -> None:
    ours, theirs = pair(name, torch.bfloat16)
    x = torch.randn(5, 9, WIDTH, dtype=torch.bfloat16)
    found, expected = ours(x), theirs(x)
    assert found.dtype is torch.bfloat16
    # A few values may fall on the other side of a rounding; a missing or misplaced rounding step moves a tenth of them.
    assert (found != expected).float().mean() < 0.01
    torch.testing.assert_close(found, expected, atol=1e-2, rtol=1e-2)


def test_training_and_evaluation_give_one_value() -> None:
    ours, _ = pair("llama", torch.float32)
    x = torch.randn(4, 6, WIDTH)
    with torch.no_grad():
        evaluated = ours(x)
    torch.testing.assert_close(ours(x.requires_grad_()), evaluated, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", ["rms", "layer"])
def test_a_weight_for_each_head(kind: str) -> None:
    norm = Norm(NormSpec(kind=kind), 4, 16)
    nn.init.normal_(norm.weight)
    x = torch.randn(2, 5, 4, 16)
    for head in range(4):
        alone = Norm(NormSpec(kind=kind), 16)
        alone.load_state_dict({"weight": norm.weight[head]})
        torch.testing.assert_close(norm(x)[:, :, head], alone(x[:, :, head]), atol=1e-6, rtol=1e-6)


def test_norm_of_a_strided_view_and_a_frozen_weight() -> None:
    norm = Norm(NormSpec(), 16)
    nn.init.normal_(norm.weight)
    norm.requires_grad_(False)
    whole = torch.randn(3, 5, 48, requires_grad=True)
    view = whole[..., 16:32].unflatten(1, (1, 5)).transpose(1, 2)
    (grad,) = torch.autograd.grad(norm(view).square().sum(), whole)
    plain = whole[..., 16:32] * torch.rsqrt(whole[..., 16:32].square().mean(-1, keepdim=True) + 1e-6) * norm.weight
    (expected,) = torch.autograd.grad(plain.square().sum(), whole)
    torch.testing.assert_close(grad, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("spec", "names"), [(NormSpec(affine=False), []), (NormSpec(), ["weight"]), (NormSpec(bias=True), ["bias", "weight"])])
def test_a_norm_owns_what_its_spec_says(spec: NormSpec, names: list[str]) -> None:
    assert sorted(Norm(spec, 8).state_dict()) == names
    assert Norm(spec, 8)(torch.ones(2, 8)).shape == (2, 8)
