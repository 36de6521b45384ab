"""Several linear layers as one matrix, with children that stock peft can wrap as if they were separate.

Shapes: `..` leading dimensions, I input features, O output features of one slice, S their sum.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from automodel.errors import ModelError

# Where peft keeps the model that it wraps.
ADAPTED = "base_model.model."


class FusedLinear(nn.Module):
    """One matrix [S, I] whose rows are those of several linear layers, one after the other.

    It is no `nn.Linear`, so that adapters aimed at linear layers find its `SliceLinear` children and not the whole. The state dict has `weight`
    and `bias` of the whole only.

    Args:
        in_features: I.
        sizes: rows of each slice, in order.
        bias: whether there is a bias [S].
    """

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, in_features: int, sizes: Sequence[int], *, bias: bool = False) -> None:
        super().__init__()
        self.in_features = in_features
        self.sizes = tuple(sizes)
        self.out_features = sum(self.sizes)
        self.weight = nn.Parameter(torch.empty(self.out_features, in_features))
        self.bias = nn.Parameter(torch.empty(self.out_features)) if bias else None
        self.stamp = 0  # counts writes through a slice
        self.used = 0  # the stamp that the last product saw
        self.trained: frozenset[int] | None = None  # first rows of the slices whose biases are trained; None: all alike
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fill with the values that `nn.Linear` starts from."""
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features)
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """Return [.., S] for x [.., I]."""
        if self.used != self.stamp:  # setting an attribute of a module costs more than looking at it
            self.used = self.stamp
        return F.linear(x, self.weight, self.bias if self.trained is None else self._partly_trained())

    def cut(self, y: Tensor) -> tuple[Tensor, ...]:
        """Return the slices [.., O] of a product [.., S].

        Their gradients meet in one concatenation, and each may be changed in place (peft does for batches of mixed adapters), which autograd
        forbids for the outputs of `split`.
        """
        return torch.unsafe_split_with_sizes(y, self.sizes, -1)

    def project(self, x: Tensor, children: Sequence[nn.Module | None]) -> tuple[Tensor, tuple[Tensor, ...] | None]:
        """Return the product [.., S] for x [.., I] and None, or, when an adapter or a hook sits on a child, the slices after their children."""
        y = self(x)
        if all(child is None or is_plain(child) for child in children):
            return y, None
        pairs = zip(children, self.cut(y), strict=True)
        return y, tuple(part if child is None or is_plain(child) else child(x, part) for child, part in pairs)

    def slices(self, names: Sequence[str]) -> dict[str, SliceLinear]:
        """Return a new child for each slice, under its name."""
        return {name: SliceLinear(self, index) for index, name in enumerate(names)}

    def train_bias(self, start: int) -> None:
        """Let the bias of the slice that begins at row `start` be trained, and of the others only if they are already."""
        if self.bias is None or (self.bias.requires_grad and self.trained is None):
            return
        self.bias.requires_grad_(True)
        self.trained = (self.trained or frozenset()) | {start}

    def _partly_trained(self) -> Tensor | None:
        if self.bias is None or not self.bias.requires_grad:
            return self.bias
        parts, start = [], 0
        for size in self.sizes:
            part = self.bias.narrow(0, start, size)
            parts.append(part if start in (self.trained or ()) else part.detach())
            start += size
        return torch.cat(parts)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if prefix.startswith(ADAPTED):
            destination.pop(f"{prefix}bias", None)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, local: Any, strict: bool, missing: list[str], *others: Any) -> None:
        found: list[str] = []
        super()._load_from_state_dict(state_dict, prefix, local, strict, found, *others)
        missing += [name for name in found if not (prefix.startswith(ADAPTED) and name == f"{prefix}bias")]

    def extra_repr(self) -> str:
        """Return the sizes for `print(model)`."""
        return f"in_features={self.in_features}, sizes={self.sizes}, bias={self.bias is not None}"


class SliceLinear(nn.Linear):
    """A linear layer without parameters of its own: its weight and bias are rows of a `FusedLinear`.

    Called with the slice of the fused product it returns that slice, so it costs nothing; called with x alone, or after a write to the fused rows
    since the product (an adapter that unmerges itself inside its forward), it computes its own product. `weight.data = t` writes to the fused rows.
    """

    fused: FusedLinear

    def __init__(self, fused: FusedLinear, index: int) -> None:
        nn.Module.__init__(self)
        self.in_features = fused.in_features
        self.out_features = fused.sizes[index]
        self.start = sum(fused.sizes[:index])
        # Past nn.Module.__setattr__: a registered submodule would list the fused parameters a second time.
        self.__dict__["fused"] = fused

    @property
    def weight(self) -> Tensor:
        """Rows [O, I] of the fused weight; what is assigned is copied into them."""
        return _rows(self.fused, self.fused.weight, self.start, self.out_features)

    @weight.setter
    def weight(self, value: Tensor) -> None:
        self.register_parameter("weight", value)

    @property  # type: ignore[override]  # rows or nothing, where nn.Linear has a parameter
    def bias(self) -> Tensor | None:
        """Entries [O] of the fused bias; what is assigned is copied into them."""
        fused = self.fused
        return None if fused.bias is None else _rows(fused, fused.bias, self.start, self.out_features)

    @bias.setter
    def bias(self, value: Tensor | None) -> None:
        self.register_parameter("bias", value)

    def register_parameter(self, name: str, param: Tensor | None) -> None:
        """Copy a weight or bias that somebody assigns into the fused rows."""
        rows = self.weight if name == "weight" else self.bias
        if rows is not None and param is not None and param.shape == rows.shape:
            if param.data_ptr() != rows.data_ptr():
                rows.data = param.detach()
        elif rows is not param:
            expected = "none" if rows is None else str(tuple(rows.shape))
            found = "none" if param is None else str(tuple(param.shape))
            fix = "change the fused layer that these rows belong to"
            raise ModelError(f"the {name} of a slice cannot take this value", found=found, expected=expected, fix=fix)

    def reset_parameters(self) -> None:
        """Do nothing: the fused layer owns the values."""

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return [.., O]: the slice `y` of the fused product when it is given and still true, else the product of x with these rows."""
        fused = self.fused
        if y is not None and fused.used == fused.stamp:
            return y
        weight = fused.weight.narrow(0, self.start, self.out_features)
        bias = None if fused.bias is None else fused.bias.narrow(0, self.start, self.out_features)
        return F.linear(x, weight, bias)

    def __deepcopy__(self, memo: dict[int, Any]) -> nn.Module:
        if id(self.fused) in memo:
            copied = SliceLinear.__new__(SliceLinear)
            memo[id(self)] = copied
            copied.__dict__.update({name: copy.deepcopy(value, memo) for name, value in self.__dict__.items()})
            return copied
        # Copied without the whole (peft does so for modules_to_save): the copy is trained by itself.
        alone = OwnLinear(self.in_features, self.out_features, bias=self.bias is not None, device=self.weight.device, dtype=self.weight.dtype)
        with torch.no_grad():
            for name, parameter in alone.named_parameters():
                parameter.copy_(getattr(self, name))
        return alone.train(self.training)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        # In an adapter file every bias has the name that it has in transformers.
        if prefix.startswith(ADAPTED) and self.bias is not None:
            destination[f"{prefix}bias"] = self.bias if keep_vars else self.bias.detach()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, local: Any, strict: bool, missing: list[str], *others: Any) -> None:
        given = state_dict.get(f"{prefix}bias")
        if given is not None and self.bias is not None:
            self.bias.data = given
        elif prefix.startswith(ADAPTED) and self.bias is not None:
            missing.append(f"{prefix}bias")

    def extra_repr(self) -> str:
        """Return the sizes for `print(model)`."""
        return f"in_features={self.in_features}, out_features={self.out_features}, rows={self.start}:{self.start + self.out_features}"


class OwnLinear(nn.Linear):
    """A linear layer in the place of a slice: called with the slice of the fused product too, it ignores it."""

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return [.., O] for x [.., I]."""
        return F.linear(x, self.weight, self.bias)


class RowView(Tensor):
    """Rows of a fused parameter; `view.data = t` copies t into them instead of pointing elsewhere. Results of operations are plain tensors.

    `view.requires_grad = True` on a bias (peft's `bias="lora_only"`) trains those entries of the fused one and no others.
    """

    fused: FusedLinear
    start: int
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]  # typed as a method

    @property
    def data(self) -> Tensor:
        """The rows without gradient history, in the same memory."""
        found: Tensor = torch.Tensor.data.__get__(self)  # type: ignore[attr-defined]  # the getter of the parent class
        return found

    @data.setter
    def data(self, value: Tensor) -> None:
        with torch.no_grad():
            torch.Tensor.data.__get__(self).copy_(value)  # type: ignore[attr-defined]  # as above
        self.fused.stamp += 1

    @property
    def requires_grad(self) -> bool:
        """Whether the fused parameter is trained."""
        found: bool = torch.Tensor.requires_grad.__get__(self)  # type: ignore[attr-defined]  # the getter of the parent class
        return found

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if value and self.dim() == 1:
            self.fused.train_bias(self.start)
        elif value != self.requires_grad:
            found = f"requires_grad = {value} on {tuple(self.shape)} rows of a fused parameter"
            raise ModelError("rows of a fused weight are trained together", found=found, expected="the fused layer", fix="set it on the fused layer")


def is_plain(child: nn.Module) -> bool:
    """Return whether calling a child could only give back its slice: it is not wrapped and nobody hooked it."""
    return type(child) is SliceLinear and not (child._forward_hooks or child._forward_pre_hooks or child._backward_hooks or child._backward_pre_hooks)


def _rows(fused: FusedLinear, whole: Tensor, start: int, size: int) -> RowView:
    view: RowView = whole.narrow(0, start, size).as_subclass(RowView)
    view.fused, view.start = fused, start
    return view
