"""Looking at every number of a checkpoint: which tensors hold NaN or infinity."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from automodel.errors import ModelError
from automodel.weights.files import inspect_folder


@dataclass(frozen=True, kw_only=True)
class NotFinite:
    """One tensor with numbers that are none."""

    name: str
    nan: int
    infinite: int
    size: int


def not_finite(folder: str | Path) -> tuple[NotFinite, ...]:
    """Return the tensors of a folder of safetensors files that hold NaN or infinity; one tensor is in memory at a time.

    Raises:
        ModelError: there are no weights, or a file is damaged.
    """
    import torch
    from safetensors import safe_open

    report = inspect_folder(folder)
    report.check()
    if not report.files:
        raise ModelError(f"{folder} holds no weights to check", found="no safetensors file", expected="model.safetensors", fix="check the path")
    found = []
    for file in report.files:
        with safe_open(str(report.directory / file), "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  not a mapping
                tensor = tensors.get_tensor(name)
                if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                    nan, infinite = int(torch.isnan(tensor).sum()), int(torch.isinf(tensor).sum())
                    found.append(NotFinite(name=name, nan=nan, infinite=infinite, size=tensor.numel()))
    return tuple(found)


def check_finite(folder: str | Path) -> int:
    """Return how many tensors were looked at.

    Raises:
        ModelError: some hold NaN or infinity; the message names them.
    """
    bad = not_finite(folder)
    if bad:
        told = ", ".join(f"{one.name} ({one.nan} NaN, {one.infinite} infinite of {one.size:,})" for one in bad[:5])
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise ModelError(
            f"the weights of {folder} are not all finite", found=told + more, expected="finite numbers", fix="take an earlier checkpoint"
        )
    return len(inspect_folder(folder).tensors)
