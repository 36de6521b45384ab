"""NEFTune (arXiv:2310.05914): uniform noise on the embeddings while training."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def add_noise(model: nn.Module, alpha: float) -> None:
    """Add noise of size alpha / sqrt(T * H) to the input embeddings [B, T, H] in training mode."""
    embeddings: Any = model.get_input_embeddings()  # type: ignore[operator]  # a transformers model, typed as nn.Module

    def noisy(module: nn.Module, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        if not module.training:
            return output
        size = alpha / (output.shape[1] * output.shape[2]) ** 0.5
        return output + torch.empty_like(output).uniform_(-size, size)

    embeddings.register_forward_hook(noisy)
