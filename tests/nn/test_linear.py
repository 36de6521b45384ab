"""Fused linear layers and the children that adapters wrap."""

import copy
import io
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from automodel.errors import ModelError
from automodel.nn.linear import FusedLinear, OwnLinear, SliceLinear, is_plain
from automodel.nn.mlp import MLP
from automodel.spec import MLPSpec, Names

SIZES = (6, 4, 2)


class Three(nn.Module):
    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.qkv = FusedLinear(5, SIZES, bias=bias)
        for name, child in self.qkv.slices(("q", "k", "v")).items():
            self.add_module(name, child)

    def forward(self, x: Tensor) -> Tensor:
        y, pieces = self.qkv.project(x, (self.q, self.k, self.v))
        return y if pieces is None else torch.cat(pieces, -1)


class Doubled(nn.Module):
    """What an adapter looks like: it calls what it wraps with all that it got."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, *args: Tensor) -> Tensor:
        return 2 * self.inner(x, *args)


@pytest.fixture
def three() -> Three:
    torch.manual_seed(0)
    return Three()


X = torch.linspace(-1, 1, 15).reshape(3, 5)


def test_the_state_dict_is_that_of_the_whole(three: Three) -> None:
    assert list(three.state_dict()) == ["qkv.weight", "qkv.bias"]
    assert [name for name, _ in three.named_parameters()] == ["qkv.weight", "qkv.bias"]
    assert all(isinstance(child, nn.Linear) for child in (three.q, three.k, three.v))
    assert not isinstance(three.qkv, nn.Linear)
    other = Three()
    other.load_state_dict(three.state_dict())
    assert torch.equal(other(X), three(X))


@pytest.mark.parametrize("bias", [True, False])
def test_children_are_rows_of_the_whole(bias: bool) -> None:
    three = Three(bias)
    parts = torch.cat([child(X) for child in (three.q, three.k, three.v)], -1)
    torch.testing.assert_close(parts, three(X), atol=1e-6, rtol=1e-6)
    assert [tuple(child.weight.shape) for child in (three.q, three.k, three.v)] == [(6, 5), (4, 5), (2, 5)]
    assert (three.q.bias is None) is not bias
    assert (three.q.in_features, three.q.out_features) == (5, 6)


def test_a_wrapped_child_changes_its_slice_only(three: Three) -> None:
    plain = three(X)
    three.k = Doubled(three.k)
    found = three(X)
    torch.testing.assert_close(found[:, 6:10], 2 * plain[:, 6:10])
    torch.testing.assert_close(found[:, :6], plain[:, :6])
    torch.testing.assert_close(found[:, 10:], plain[:, 10:])


def test_gradients_through_wrapped_children(three: Three) -> None:
    three.q, three.v = Doubled(three.q), Doubled(three.v)
    weight, bias = three.qkv.weight, three.qkv.bias
    scale = torch.tensor([2.0] * 6 + [1.0] * 4 + [2.0] * 2)
    found = torch.autograd.grad(three(X).square().sum(), (weight, bias))
    expected = torch.autograd.grad((F.linear(X, weight, bias) * scale).square().sum(), (weight, bias))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_slices_may_be_changed_in_place(three: Three) -> None:
    slices = three.qkv.cut(three.qkv(X))
    slices[1][:2] += 3.0
    (grad,) = torch.autograd.grad(torch.cat(slices, -1).sum(), three.qkv.bias)
    assert torch.equal(grad, torch.full((12,), 3.0))


def test_writing_to_a_child_reaches_the_whole(three: Three) -> None:
    before = three.qkv.weight.detach().clone()
    three.k.weight.data = torch.ones(4, 5)
    three.v.weight.data += 1.0
    three.q.bias.data = torch.zeros(6)
    torch.testing.assert_close(three.qkv.weight[6:10], torch.ones(4, 5))
    torch.testing.assert_close(three.qkv.weight[10:], before[10:] + 1)
    assert torch.equal(three.qkv.weight[:6], before[:6])
    assert three.qkv.bias[:6].abs().sum() == 0
    with torch.no_grad():
        nn.init.constant_(three.q.weight, 7.0)
    assert (three.qkv.weight[:6] == 7).all()
    assert type(three.q.weight * 2) is Tensor
    assert type(three.q.weight.data) is Tensor


def test_gradients_reach_the_whole_through_a_view(three: Three) -> None:
    (three.k.weight.square().sum() + three.k.bias.sum()).backward()
    assert three.qkv.weight.grad[6:10].abs().sum() > 0
    assert three.qkv.weight.grad[:6].abs().sum() == 0
    assert three.qkv.bias.grad.tolist() == [0.0] * 6 + [1.0] * 4 + [0.0] * 2


def test_a_child_notices_a_write_after_the_product(three: Three) -> None:
    y = three.qkv.cut(three.qkv(X))[1]
    assert three.k(X, y) is y
    three.k.weight.data = torch.zeros(4, 5)
    torch.testing.assert_close(three.k(X, y), three.qkv.bias[6:10].expand(3, 4))
    three.qkv(X)
    assert three.k(X, y) is y


def test_hooks_on_a_child_are_called(three: Three) -> None:
    assert is_plain(three.q)
    seen = []
    handle = three.q.register_forward_hook(lambda module, args, output: seen.append(output.shape))
    three(X)
    assert seen == [(3, 6)]
    handle.remove()
    three(X)
    assert len(seen) == 1


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), lambda m: _through_torch_save(m)])
def test_a_copy_has_its_own_rows(three: Three, copier: object) -> None:
    again: Three = copier(three)  # type: ignore[operator]
    assert again.q.fused is again.qkv
    assert again.qkv.weight.data_ptr() != three.qkv.weight.data_ptr()
    again.q.weight.data = torch.zeros(6, 5)
    assert three.q.weight.abs().sum() > 0
    assert again.qkv.weight[:6].abs().sum() == 0


def _through_torch_save(module: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    loaded: nn.Module = torch.load(file, weights_only=False)
    return loaded


def test_dtype_device_and_meta(three: Three) -> None:
    assert three.to(torch.bfloat16).q.weight.dtype is torch.bfloat16
    with torch.device("meta"):
        empty = Three()
    assert empty.k.weight.is_meta
    assert empty(torch.empty(2, 5, device="meta")).shape == (2, 12)
    state = Three().state_dict()
    empty.load_state_dict(state, assign=True)
    assert torch.equal(empty.k.weight, state["qkv.weight"][6:10])
    replaced = Three()
    replaced.qkv.weight = nn.Parameter(torch.zeros(12, 5))
    assert replaced.k.weight.abs().sum() == 0


@pytest.mark.parametrize("wrapped", [False, True])
def test_compiled_equals_eager(wrapped: bool) -> None:
    mlp = MLP(MLPSpec(width=8, up_bias=True), hidden=5, names=Names())
    if wrapped:
        mlp.up_proj = Doubled(mlp.up_proj)
    expected = torch.autograd.grad(mlp(X).square().sum(), list(mlp.parameters()))
    compiled = torch.compile(mlp, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(X), mlp(X))
    for a, b in zip(torch.autograd.grad(compiled(X).square().sum(), list(mlp.parameters())), expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-6)


def test_children_have_no_values_of_their_own(three: Three) -> None:
    before = three.qkv.weight.detach().clone()
    three.q.reset_parameters()
    assert torch.equal(three.qkv.weight, before)
    assert isinstance(three.q, SliceLinear)
    assert "rows=6:10" in repr(three.k)


def test_assigning_to_a_child_copies_into_the_whole(three: Three) -> None:
    three.k.weight = nn.Parameter(torch.ones(4, 5))
    three.k.bias = torch.zeros(4)
    three.q.weight = three.q.weight
    assert [name for name, _ in three.named_parameters()] == ["qkv.weight", "qkv.bias"]
    torch.testing.assert_close(three(X)[:, 6:10], X.sum(1, keepdim=True).expand(3, 4))
    with pytest.raises(ModelError, match="cannot take"):
        three.k.weight = nn.Parameter(torch.ones(3, 5))
    with pytest.raises(ModelError, match="cannot take"):
        three.k.bias = None


def test_a_child_copied_alone_is_a_layer_of_its_own(three: Three) -> None:
    plain = three(X)
    three.k = copy.deepcopy(three.k)
    assert isinstance(three.k, OwnLinear)
    torch.testing.assert_close(three(X), plain)
    with torch.no_grad():
        three.k.weight.zero_()
        three.k.bias.zero_()
    assert three(X)[:, 6:10].abs().sum() == 0
    assert three.qkv.weight[6:10].abs().sum() > 0


def test_the_biases_of_some_children_are_trained(three: Three) -> None:
    three.requires_grad_(False)
    three.k.bias.requires_grad = True
    three(X).sum().backward()
    assert three.qkv.bias.grad.tolist() == [0.0] * 6 + [3.0] * 4 + [0.0] * 2
    with pytest.raises(ModelError, match="together"):
        three.q.weight.requires_grad = True


def test_names_of_biases_inside_an_adapted_model(three: Three) -> None:
    outer = nn.Module()
    outer.base_model = nn.Module()
    outer.base_model.model = three
    state = {name: tensor.clone() for name, tensor in outer.state_dict().items()}
    assert sorted(name.removeprefix("base_model.model.") for name in state) == ["k.bias", "q.bias", "qkv.weight", "v.bias"]
    wanted = three.qkv.bias.detach().clone()
    nn.init.zeros_(three.qkv.bias)
    outer.load_state_dict(state)
    assert torch.equal(three.qkv.bias, wanted)
