"""Decoders built straight from an architecture's spec and filled from a checkpoint on disk, without the transformers face."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from automodel.archs.base import Architecture
from automodel.archs.config import Config
from automodel.nn.decoder import build_decoder
from automodel.nn.view import View, part
from automodel.spec import DecoderSpec
from automodel.weights.derive import decoder_rules
from automodel.weights.load import load_into
from automodel.weights.plan import plan_save
from automodel.weights.rules import Rule


def rules(entry: Architecture, spec: DecoderSpec) -> tuple[Rule, ...]:
    """Return every weight rule."""
    return decoder_rules(spec, *(entry.rules(spec) if entry.rules else ()))


def shapes(entry: Architecture, config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of a checkpoint, found without memory for a model."""
    spec = spec_of(entry, config)
    with torch.device("meta"):
        root = nn.Module()
        build_decoder(root, spec)
    names = {name: tuple(tensor.shape) for name, tensor in root.named_parameters()}
    return {name: tuple(shape) for name, shape in plan_save(rules(entry, spec), names).disk.items()}


def spec_of(entry: Architecture, config: Mapping[str, Any]) -> DecoderSpec:
    """Return the spec of a config.json."""
    assert entry.spec is not None
    return entry.spec(Config(config))


def random_checkpoint(entry: Architecture, config: Mapping[str, Any], *, seed: int = 0) -> dict[str, Tensor]:
    """Return random tensors of every name that the checkpoint has; wide enough that a fault shows in the logits."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, shape in shapes(entry, config).items():
        noise = torch.randn(shape, generator=generator)
        found[name] = noise * 0.15 if len(shape) > 1 else noise * 0.1 + (1.0 if name.endswith("weight") else 0.0)
    return found


def opened(entry: Architecture, config: Mapping[str, Any], tensors: Mapping[str, Tensor], folder: Path) -> nn.Module:
    """Return the decoder of a config with these tensors, which go through a file and the rules; in eval mode."""
    spec = spec_of(entry, config)
    root = nn.Module()
    build_decoder(root, spec)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    load_into(root, folder / "model.safetensors", rules(entry, spec), base=spec.names.base)
    return root.eval()


def logits(root: nn.Module, spec: DecoderSpec, ids: Tensor) -> Tensor:
    """Return the logits [B, T, V] of rows without padding."""
    view = View(positions=torch.arange(ids.shape[1])[None])
    with torch.no_grad():
        found: Tensor = part(root, spec.names.head)(part(root, spec.names.base)(ids, view=view).last)
    return found
