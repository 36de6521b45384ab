"""Placement of a built model on the mesh, applied from outside in one fixed order: checkpointing, then sharding or replication."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from torch import nn

if TYPE_CHECKING:
    from automodel.mesh import World
    from automodel.recipe.schema import DistributedSection

__all__ = ["accumulate_locally", "apply", "decoder_layers", "unwrap"]


def apply(model: nn.Module, section: DistributedSection, world: World, *, strategy: str) -> nn.Module:
    """Return the model as the loop calls it; `unwrap` gives the original back.

    Order: activation checkpointing, then FSDP2 (each decoder layer, then the root) or DDP.
    """
    if section.activation_checkpointing:
        checkpoint_activations(model)
    if strategy == "fsdp2":
        return _fully_shard(model, world)
    if strategy == "ddp":
        from torch.nn.parallel import DistributedDataParallel

        ids = [world.device.index] if world.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=ids, find_unused_parameters=section.find_unused_parameters)
    return model


def checkpoint_activations(model: nn.Module) -> None:
    """Recompute activations in the backward pass (transformers' own layers, non-reentrant)."""
    face = cast(Any, model)
    face.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def decoder_layers(model: nn.Module) -> list[nn.Module]:
    """Return the repeated blocks of the model: the largest `ModuleList` inside it, or none; a vision tower may have more layers, but smaller ones."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    return list(max(lists, key=lambda module: sum(parameter.numel() for parameter in module.parameters()), default=[]))


def _fully_shard(model: nn.Module, world: World) -> nn.Module:
    from torch.distributed.fsdp import fully_shard

    mesh = world.mesh()
    for layer in decoder_layers(model):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def unwrap(model: nn.Module) -> nn.Module:
    """Return the model below a DDP wrapper (FSDP2 wraps nothing)."""
    from torch.nn.parallel import DistributedDataParallel

    return cast(nn.Module, model.module) if isinstance(model, DistributedDataParallel) else model


@contextmanager
def accumulate_locally(model: nn.Module, *, last: bool) -> Iterator[None]:
    """Hold back the exchange of gradients until the last micro-batch of a step."""
    from torch.distributed.fsdp import FSDPModule
    from torch.nn.parallel import DistributedDataParallel

    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(last)
        yield
    elif isinstance(model, DistributedDataParallel) and not last:
        with model.no_sync():
            yield
    else:
        yield
