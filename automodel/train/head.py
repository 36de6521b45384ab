"""Logits only where a token is trained: at a vocabulary of 32,000 the head is most of a small model's work.

Shapes: B rows, T positions, H hidden size, V vocabulary, N supervised positions.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from automodel.parallel import unwrap

IGNORE = -100
LOW = (torch.bfloat16, torch.float16)


class SupervisedLoss:
    """Sum of the cross entropy over supervised positions, of any transformers model with an output layer.

    The hidden states [B, T, H] that reach the output layer are replaced by the N rows that are trained [N, H]; whatever the model does
    after its output layer (soft caps, scales) then works on [N, V]. Where a model does not let that happen, full logits are computed and
    `note` says so.
    """

    def __init__(self, model: nn.Module, *, chunk: int | None = None, upcast: bool = True) -> None:
        self.model = model
        self.upcast = upcast
        self.chunk = chunk
        self.note = "logits for supervised positions only"
        head = self._find_head()
        self._rows: torch.Tensor | None = None
        self._used = False
        self.hook = head.register_forward_pre_hook(self._keep_rows) if head is not None else None
        if head is None:
            self.note = "full logits: the model names no output layer"

    def _find_head(self) -> nn.Module | None:
        face: Any = unwrap(self.model)
        head = face.get_output_embeddings() if hasattr(face, "get_output_embeddings") else None
        return head if isinstance(head, nn.Module) else None

    def _keep_rows(self, _module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if self._rows is None:
            return None
        hidden = inputs[0]
        self._used = True
        return (hidden.reshape(-1, hidden.shape[-1]).index_select(0, self._rows), *inputs[1:])

    def __call__(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the summed loss (a scalar) of a micro-batch with aligned `labels` [B, T]."""
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        shifted = F.pad(batch["labels"][:, 1:], (0, 1), value=IGNORE).reshape(-1)
        rows = (shifted != IGNORE).nonzero().squeeze(1)
        targets = shifted.index_select(0, rows)
        self._rows, self._used = (rows if self.hook is not None else None), False
        try:
            logits = self.model(**inputs, use_cache=False).logits
        finally:
            self._rows = None
        flat = logits.reshape(-1, logits.shape[-1])
        if not self._used:
            self._fall_back()
            flat = flat.index_select(0, rows)
        return self._cross_entropy(flat, targets)

    def _fall_back(self) -> None:
        if self.hook is not None:
            self.note = "full logits: the model does not call the output layer it names"
            self.hook.remove()
            self.hook = None

    def _cross_entropy(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if self.chunk is None or len(targets) <= self.chunk:
            return self._sum(logits, targets)
        # recomputed in the backward pass, so that only one chunk's log-softmax is held at a time
        pairs = zip(torch.split(logits, self.chunk), torch.split(targets, self.chunk), strict=True)
        parts: list[torch.Tensor] = [checkpoint(self._sum, *pair, use_reentrant=False) for pair in pairs]
        return torch.stack(parts).sum()

    def _sum(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits.float() if self.upcast and logits.dtype in LOW else logits, targets, reduction="sum")

    def close(self) -> None:
        """Take the hook off the model again."""
        if self.hook is not None:
            self.hook.remove()
