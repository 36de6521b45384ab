"""RMS and layer normalisation over the last dimension, in the variants that checkpoints have.

Shapes: `..` leading dimensions, D the normed dimension.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from automodel.spec import NormSpec


class Norm(nn.Module):
    """A normalisation of the last dimension, with a weight of `shape` (and a bias of the same) that broadcasts against the input.

    Args:
        spec: kind and switches.
        shape: of the weight; the last entry is D. More than one entry: every leading index has its own weight (QK norms by head).
    """

    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(self, spec: NormSpec, *shape: int) -> None:
        super().__init__()
        self.spec = spec
        self.eps = spec.eps
        self.width = shape[-1:]
        self.weight = nn.Parameter(torch.empty(shape)) if spec.affine else None
        self.bias = nn.Parameter(torch.empty(shape)) if spec.affine and spec.bias else None
        self.layer = spec.kind == "layer"
        self.offset = spec.offset
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fill with the identity."""
        if self.weight is not None:
            nn.init.constant_(self.weight, 0.0 if self.offset else 1.0)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the normed x [.., D] in its dtype."""
        weight: Tensor | None = self.weight
        if x.dtype is not torch.float32 or (weight is not None and weight.dtype is not torch.float32):
            return self._half(x)
        if weight is not None and self.offset:
            weight = weight + 1.0
        if weight is None or weight.dim() == 1:
            if self.layer:
                return F.layer_norm(x, self.width, weight, self.bias, self.eps)
            y = self._rms(x, weight)
            return y if self.bias is None else y + self.bias
        y = self._plain(x) * weight
        return y if self.bias is None else y + self.bias

    def _rms(self, x: Tensor, weight: Tensor | None) -> Tensor:
        if weight is None or not x.is_cpu or torch.compiler.is_compiling():
            return F.rms_norm(x, self.width, weight, self.eps)
        if torch.is_grad_enabled():
            return _trained(x, weight, self.eps) if self.bias is None else F.rms_norm(x, self.width, weight, self.eps)
        if x.numel() == self.width[0]:
            # One row, as when a single text is generated: three small calls cost half of the composite one.
            mean = float(torch.linalg.vector_norm(x)) ** 2 / self.width[0]
            return torch.mul(x, (mean + self.eps) ** -0.5).mul_(weight)
        return F.rms_norm(x, self.width, weight, self.eps)

    def _plain(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.width, None, None, self.eps) if self.layer else F.rms_norm(x, self.width, None, self.eps)

    def _half(self, x: Tensor) -> Tensor:
        weight, bias = self.weight, self.bias
        if weight is None:
            return self._plain(x)
        if weight.dtype is not x.dtype or self.spec.float_weight:
            y = self._plain(x.float()) * (weight.float() + 1.0 if self.offset else weight.float())
            return (y if bias is None else y + bias.float()).to(x.dtype)
        scale = weight + 1.0 if self.offset else weight
        if self.layer and scale.dim() == 1:
            return F.layer_norm(x, self.width, scale, bias, self.eps)
        # The normed value is rounded before the weight multiplies it.
        y = self._plain(x) * scale
        return y if bias is None else y + bias

    def extra_repr(self) -> str:
        """Return kind and sizes for `print(model)`."""
        return f"{self.spec.kind}, {self.width[0]}, eps={self.eps}"


def _trained(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    found: Tensor = _RMSNorm.apply(x, weight, eps)  # type: ignore[no-untyped-call]  # torch types it so
    return found


class _RMSNorm(torch.autograd.Function):
    """RMS norm for training on CPU: keeps one number a row for the backward, which then makes two passes instead of a dozen."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        rows = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, rows)
        return torch.mul(x, rows).mul_(weight)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight, rows = ctx.saved_tensors
        work = grad * x
        flat = work.reshape(-1, x.shape[-1])
        for_weight = torch.mv(flat.t(), rows.reshape(-1)) if ctx.needs_input_grad[1] else None
        if not ctx.needs_input_grad[0]:
            return None, for_weight, None
        share = torch.mv(flat, weight).view_as(rows).mul_(rows).mul_(rows).div_(x.shape[-1])
        for_x = torch.mul(grad, weight, out=work).addcmul_(x, share, value=-1).mul_(rows)
        return for_x, for_weight, None
