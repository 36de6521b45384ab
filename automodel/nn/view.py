"""What all layers of one forward pass share: positions, cache, masks, packed segments, and tables that are made once.

Shape legend of this room: B rows, T queries of this pass, S keys (cached ones included), H hidden width or heads, K key-value heads, D width of a
head, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class KeyValueStore(Protocol):
    """A cache of keys and values by attention layer; the caches of transformers are such stores."""

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, cache_kwargs: dict[str, Any] | None = None) -> tuple[Tensor, Tensor]:
        """Append [B, K, T, D] to the layer's keys and values and return all that the queries may look at, [B, K, S, D]."""


@dataclass(eq=False)
class View:
    """The inputs of a forward pass apart from the hidden states.

    Args:
        positions: [B, T] or [1, T], integers.
        cache: where keys and values are kept between passes.
        cache_position: [T], columns of the cache that this pass writes; for caches that want them.
        masks: by window (None is full attention): bool [B, 1, T, S], True where a query may see a key, or None when nothing but causality
            (and the layer's own window) hides keys.
        segments: lengths of the documents that are packed in the single row; they add up to T. No mask and no cache go with it.
        causal: False lets every query see every key that its mask does not hide; windows are then those of the masks alone.
        collect: keep the hidden states of all layers.
        memo: tables made during this pass (rotary, biases), by what they depend on.
    """

    positions: Tensor
    cache: KeyValueStore | None = None
    cache_position: Tensor | None = None
    masks: Mapping[int | None, Tensor | None] = field(default_factory=dict)
    segments: tuple[int, ...] | None = None
    causal: bool = True
    collect: bool = False
    memo: dict[Hashable, Any] = field(default_factory=dict)

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return what `make` returned for this key earlier in this pass, or call it."""
        if key not in self.memo:
            self.memo[key] = make()
        return self.memo[key]


def part(root: nn.Module, path: str) -> nn.Module:
    """Return the module at a dotted path, as it is now: adapters and wrappers may have replaced it since it was built.

    Raises:
        KeyError: there is no such module.
    """
    found: nn.Module | None = root
    for name in path.split(".") if path else ():
        found = None if found is None else found._modules[name]
    if found is None:
        raise KeyError(f"no module at {path}")
    return found


def call(owner: nn.Module, name: str, *inputs: Tensor) -> Tensor:
    """Run the child of this name, as it is now, and return what it returns."""
    found: Tensor = owner._modules[name](*inputs)  # type: ignore[misc]  # None would be a module that was never added
    return found


def cut(x: Tensor, sizes: Sequence[int], dim: int) -> tuple[Tensor, ...]:
    """Return views of consecutive pieces; their gradients meet in one concatenation."""
    return torch.unsafe_split_with_sizes(x, sizes, dim)


def attach(root: nn.Module, path: str, module: nn.Module) -> None:
    """Put a module at a dotted path, with plain containers in between where there is nothing yet."""
    *above, last = path.split(".")
    for name in above:
        if root._modules.get(name) is None:
            root.add_module(name, nn.Module())
        root = root._modules[name]  # type: ignore[assignment]  # there is one now
    root.add_module(last, module)
