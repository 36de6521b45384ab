"""Feed-forward parts: gated, plain and linear, with every activation of the spec.

Shapes: `..` leading dimensions, H hidden, W width.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from automodel.nn.linear import FusedLinear
from automodel.spec import Activation, MLPSpec, Names, Unsupported

QUICK = 1.702  # the slope of the sigmoid that stands in for the normal distribution (Hendrycks and Gimpel, 2016, section 2)


def _quick(x: Tensor) -> Tensor:
    return x * torch.sigmoid(QUICK * x)


def _relu2(x: Tensor) -> Tensor:
    return F.relu(x).square()


ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "gelu_quick": _quick,
    "relu": F.relu,
    "relu2": _relu2,
}
# From the gradient of an activation's value to that of its input.
BACKWARD: dict[Activation, Callable[..., Tensor]] = {
    "silu": torch.ops.aten.silu_backward.grad_input,
    "gelu": torch.ops.aten.gelu_backward.grad_input,
    "gelu_tanh": partial(torch.ops.aten.gelu_backward.grad_input, approximate="tanh"),
}


class MLP(nn.Module):
    """A feed-forward part; its modules have the names of the checkpoint.

    Args:
        spec: kind, width, activation, biases, how gate and up lie on disk.
        hidden: H.
        names: `gate_up`, `gate`, `up`, `down`, `linear_mlp`.

    A gated part that lies in two matrices on disk is one `FusedLinear` at `names.gate_up` with children `names.gate` and `names.up`; one that lies
    in one matrix is a linear layer at `names.gate_up` with the rows of the disk.
    """

    def __init__(self, spec: MLPSpec, *, hidden: int, names: Names) -> None:
        super().__init__()
        self.spec = spec
        self.names = names
        if spec.kind == "linear":
            self.add_module(names.linear_mlp, nn.Linear(hidden, hidden, bias=False))
            return
        if spec.activation == "gegelu" and spec.kind != "gated":
            raise Unsupported("gegelu is the activation of a gated MLP")
        if spec.kind == "plain":
            self.add_module(names.up, nn.Linear(hidden, spec.width, bias=spec.up_bias))
        elif spec.gate_up == "split":
            fused = FusedLinear(hidden, (spec.width, spec.width), bias=spec.up_bias)
            self.add_module(names.gate_up, fused)
            for name, child in fused.slices((names.gate, names.up)).items():
                self.add_module(name, child)
        else:
            self.add_module(names.gate_up, nn.Linear(hidden, 2 * spec.width, bias=spec.up_bias))
        self.add_module(names.down, nn.Linear(spec.width, hidden, bias=spec.down_bias))

    def forward(self, x: Tensor) -> Tensor:
        """Return [.., H] for x [.., H]."""
        spec, names = self.spec, self.names
        if spec.kind == "linear":
            return self._call(names.linear_mlp, x)
        y = ACTIVATIONS[spec.activation](self._call(names.up, x)) if spec.kind == "plain" else self._gated(x)
        y = self._call(names.down, y)
        return F.dropout(y, spec.dropout, self.training) if spec.dropout else y

    def _call(self, name: str, x: Tensor) -> Tensor:
        found: Tensor = self._modules[name](x)  # type: ignore[misc]  # never None: added by __init__
        return found

    def _gated(self, x: Tensor) -> Tensor:
        spec, names = self.spec, self.names
        if spec.gate_up == "split":
            fused = cast(FusedLinear, self._modules[names.gate_up])
            y, pieces = fused.project(x, (self._modules[names.gate], self._modules[names.up]))
            return gated_halves(y, spec) if pieces is None else gated(pieces[0], pieces[1], spec)
        y = self._call(names.gate_up, x)
        return gated(y[..., ::2], y[..., 1::2], spec) if spec.gate_up == "interleaved" else gated_halves(y, spec)


def gated_halves(y: Tensor, spec: MLPSpec) -> Tensor:
    """Return act(gate) * up [.., W] for y [.., 2 W] = gate | up, or up | gate with the layout "up_first"."""
    up_first = spec.gate_up == "up_first"
    if spec.activation in BACKWARD and y.requires_grad and torch.is_grad_enabled() and not torch.compiler.is_compiling():
        found: Tensor = _GatedHalves.apply(y, spec.activation, up_first)  # type: ignore[no-untyped-call]  # torch types it so
        return found
    first, second = torch.unsafe_chunk(y, 2, -1)
    return gated(second, first, spec) if up_first else gated(first, second, spec)


def gated(gate: Tensor, up: Tensor, spec: MLPSpec) -> Tensor:
    """Return act(gate) * up [.., W]."""
    if spec.activation == "gegelu":
        return _gegelu(gate, up, spec.limit)
    return ACTIVATIONS[spec.activation](gate) * up


def _gegelu(gate: Tensor, up: Tensor, limit: float | None) -> Tensor:
    if limit is not None:
        gate = torch.where(gate.isinf(), gate, gate.clamp(max=limit))
        up = torch.where(up.isinf(), up, up.clamp(min=-limit, max=limit))
    return _quick(gate) * (up + 1)


class _GatedHalves(torch.autograd.Function):
    """Keeps the product alone for the backward, which writes the gradients of both halves where they belong."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, activation: Activation, up_first: bool) -> Tensor:
        ctx.save_for_backward(y)
        ctx.activation, ctx.gate = activation, int(up_first)
        halves = y.chunk(2, -1)
        return ACTIVATIONS[activation](halves[ctx.gate]).mul_(halves[1 - ctx.gate])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (y,) = ctx.saved_tensors
        halves = y.chunk(2, -1)
        gate, up = halves[ctx.gate], halves[1 - ctx.gate]
        whole = torch.empty_like(y)
        parts = whole.chunk(2, -1)
        for_gate = parts[ctx.gate]
        torch.mul(ACTIVATIONS[ctx.activation](gate), grad, out=parts[1 - ctx.gate])
        torch.mul(grad, up, out=for_gate)
        BACKWARD[ctx.activation](for_gate, gate, grad_input=for_gate)
        return whole, None, None
