"""Which backends torch's scaled_dot_product_attention may use, by name and by device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.attention import SDPBackend

NAMES = {
    "flash_attention": SDPBackend.FLASH_ATTENTION,
    "efficient_attention": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
    "cudnn_attention": SDPBackend.CUDNN_ATTENTION,
}
CPU = ("flash_attention", "math")


def backend_names(method: Sequence[str | SDPBackend] | str | SDPBackend | None) -> tuple[str, ...] | None:
    """Return the lower-case names of the asked backends, in order, or None when none were asked.

    Raises:
        ValueError: a name is not a backend; the message lists those that are.
    """
    if method is None:
        return None
    items = [method] if isinstance(method, (str, SDPBackend)) else list(method)
    names = []
    for item in items:
        name = (item if isinstance(item, str) else item.name).lower().removeprefix("sdpbackend.")
        if name not in NAMES:
            raise ValueError(f"sdpa_method: unknown SDPA backend {item!r}; valid names are {', '.join(NAMES)}")
        names.append(name)
    return tuple(dict.fromkeys(names))


def usable(names: tuple[str, ...], *, device: torch.device) -> tuple[tuple[str, ...], dict[str, str]]:
    """Split the asked backends into those that this device has, and the others with their reason.

    On a CPU `math` is put last when it is missing: the CPU flash kernel alone fails with dropout or a mask that needs a gradient.
    """
    if device.type != "cpu":
        return names, {}
    kept = tuple(name for name in names if name in CPU)
    refused = {name: "has no CPU kernel" for name in names if name not in CPU}
    if kept and "math" not in kept:
        kept = (*kept, "math")
    return kept, refused
