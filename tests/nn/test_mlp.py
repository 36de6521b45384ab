"""Feed-forward parts: every layout on disk and every activation."""

import pytest
import torch
from torch import nn

from automodel.nn.mlp import ACTIVATIONS, MLP, gated, gated_halves
from automodel.spec import MLPSpec, Names, Unsupported

HIDDEN, WIDTH = 24, 40
FROM_TRANSFORMERS = {"silu": "silu", "gelu": "gelu", "gelu_tanh": "gelu_new", "gelu_quick": "quick_gelu", "relu": "relu", "relu2": "relu2"}


def build(**fields: object) -> MLP:
    torch.manual_seed(0)
    return MLP(MLPSpec(width=WIDTH, **fields), hidden=HIDDEN, names=Names())  # type: ignore[arg-type]


@pytest.mark.both_ends
@pytest.mark.parametrize("name", FROM_TRANSFORMERS)
def test_activations_are_those_of_transformers(name: str) -> None:
    from transformers.activations import ACT2FN

    x = torch.linspace(-9, 9, 301)
    torch.testing.assert_close(ACTIVATIONS[name](x), ACT2FN[FROM_TRANSFORMERS[name]](x), atol=1e-6, rtol=1e-6)  # type: ignore[index]


@pytest.mark.both_ends
@pytest.mark.parametrize("bias", [False, True])
def test_split_layout_is_llama(bias: bool) -> None:
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaMLP

    mlp = build(up_bias=bias, down_bias=bias)
    theirs = LlamaMLP(LlamaConfig(hidden_size=HIDDEN, intermediate_size=WIDTH, num_attention_heads=4, mlp_bias=bias))
    with torch.no_grad():
        for name in ("gate_proj", "up_proj", "down_proj"):
            for kind in ("weight", "bias") if bias else ("weight",):
                getattr(getattr(theirs, name), kind).copy_(getattr(getattr(mlp, name), kind))
    x = torch.randn(2, 5, HIDDEN, requires_grad=True)
    found, expected = mlp(x), theirs(x)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    grads = [torch.autograd.grad(y.square().sum(), (x, *module.parameters())) for y, module in ((found, mlp), (expected, theirs))]
    torch.testing.assert_close(grads[0][0], grads[1][0], atol=1e-5, rtol=1e-5)
    gate, up = (dict(zip((n for n, _ in theirs.named_parameters()), grads[1][1:], strict=True))[f"{n}_proj.weight"] for n in ("gate", "up"))
    torch.testing.assert_close(mlp.gate_up.weight.shape, (2 * WIDTH, HIDDEN))
    ours = dict(zip((n for n, _ in mlp.named_parameters()), grads[0][1:], strict=True))["gate_up.weight"]
    torch.testing.assert_close(ours, torch.cat((gate, up)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("activation", FROM_TRANSFORMERS)
@pytest.mark.parametrize("layout", ["concat", "up_first", "interleaved"])
def test_one_matrix_on_disk_keeps_its_rows(layout: str, activation: str) -> None:
    split = build(activation=activation)
    fused = build(activation=activation, gate_up=layout)
    assert isinstance(fused.gate_up, nn.Linear)
    gate, up = split.gate_up.weight.detach().chunk(2)
    rows = {"concat": torch.cat((gate, up)), "up_first": torch.cat((up, gate)), "interleaved": torch.stack((gate, up), 1).flatten(0, 1)}[layout]
    fused.load_state_dict({"gate_up.weight": rows, "down_proj.weight": split.down_proj.weight})
    x = torch.randn(2, 3, HIDDEN, requires_grad=True)
    found, expected = fused(x), split(x)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    a, b = (torch.autograd.grad(y.square().sum(), x)[0] for y in (found, expected))
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("activation", FROM_TRANSFORMERS)
def test_gradients_are_those_of_autograd(activation: str, dtype: torch.dtype) -> None:
    for layout in ("concat", "up_first"):
        spec = MLPSpec(width=WIDTH, activation=activation, gate_up=layout)  # type: ignore[arg-type]
        y = torch.randn(3, 5, 2 * WIDTH, dtype=dtype, requires_grad=True)
        first, second = y.chunk(2, -1)
        plain = gated(first, second, spec) if layout == "concat" else gated(second, first, spec)
        for a, b in zip(*((out, *torch.autograd.grad(out.sum(), y)) for out in (gated_halves(y, spec), plain)), strict=True):
            torch.testing.assert_close(a, b)


def test_plain_and_linear() -> None:
    plain = build(kind="plain", activation="relu2", up_bias=True, down_bias=True)
    assert sorted(plain.state_dict()) == ["down_proj.bias", "down_proj.weight", "up_proj.bias", "up_proj.weight"]
    x = torch.randn(4, HIDDEN)
    torch.testing.assert_close(plain(x), plain.down_proj(torch.relu(plain.up_proj(x)) ** 2))
    linear = build(kind="linear")
    assert {name: tuple(t.shape) for name, t in linear.state_dict().items()} == {"linear_mlp.weight": (HIDDEN, HIDDEN)}
    torch.testing.assert_close(linear(x), x @ linear.linear_mlp.weight.t())


@pytest.mark.parametrize("limit", [None, 0.5])
def test_gegelu_cuts_all_but_infinities(limit: float | None) -> None:
    mlp = build(activation="gegelu", gate_up="interleaved", limit=limit)
    mlp.gate_up = nn.Identity()
    mlp.down_proj = nn.Identity()
    gate, up = torch.tensor([-3.0, 0.2, 2.0, float("inf")]), torch.tensor([-2.0, 0.3, 4.0, 0.1])
    a, b = (gate, up) if limit is None else (torch.tensor([-3.0, 0.2, 0.5, float("inf")]), torch.tensor([-0.5, 0.3, 0.5, 0.1]))
    torch.testing.assert_close(mlp(torch.stack((gate, up), -1).flatten()), a * torch.sigmoid(1.702 * a) * (b + 1))


def test_gegelu_needs_a_gate() -> None:
    with pytest.raises(Unsupported, match="gated"):
        build(kind="plain", activation="gegelu")


def test_dropout_only_in_training() -> None:
    mlp = build(dropout=0.5)
    x = torch.randn(50, HIDDEN)
    assert (mlp(x) == 0).float().mean() > 0.3
    mlp.eval()
    torch.testing.assert_close(mlp(x), mlp(x))
    assert (mlp(x) == 0).sum() == 0


def test_names_of_the_checkpoint() -> None:
    mlp = MLP(MLPSpec(width=8), hidden=4, names=Names(gate="w1", up="w3", down="w2"))
    assert [name for name, _ in mlp.named_children()] == ["gate_up", "w1", "w3", "w2"]
    assert sorted(mlp.state_dict()) == ["gate_up.weight", "w2.weight"]


def test_evaluation_gives_the_values_of_training() -> None:
    mlp = build()
    x = torch.randn(2, 3, HIDDEN)
    with torch.no_grad():
        evaluated = mlp(x)
    torch.testing.assert_close(mlp(x), evaluated)
