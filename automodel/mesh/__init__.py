"""The processes of a job: who this one is, where it computes, and how it agrees with the others.

This is the only room besides `launch` that reads the environment; torchrun's variables are its input.
"""

from __future__ import annotations

import datetime as dt
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from automodel.errors import RequestError

if TYPE_CHECKING:
    import torch
    from torch.distributed.device_mesh import DeviceMesh

    from automodel.recipe.schema import DistEnvSection, DistributedSection

__all__ = ["World", "inside_torchrun", "start_world", "strategy_for"]


@dataclass
class World:
    """This process among its peers; every method works with one process too, without communication."""

    rank: int
    local_rank: int
    size: int
    device: torch.device
    backend: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def main(self) -> bool:
        """Return whether this process writes the shared files."""
        return self.rank == 0

    def sum(self, *values: float) -> list[float]:
        """Return each value summed over all processes, in float64."""
        return self._reduce(values, "sum")

    def max(self, *values: float) -> list[float]:
        """Return the largest of each value over all processes."""
        return self._reduce(values, "max")

    def _reduce(self, values: tuple[float, ...], how: str) -> list[float]:
        if self.size == 1:
            return [float(value) for value in values]
        import torch
        import torch.distributed as dist

        packed = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(packed, op=dist.ReduceOp.SUM if how == "sum" else dist.ReduceOp.MAX)
        return [float(value) for value in packed.tolist()]

    def barrier(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            self.max(0.0)

    @property
    def axes(self) -> dict[str, int]:
        """Return axis -> processes of the mesh: one axis, `dp`, over all of them."""
        return {"dp": self.size}

    def mesh(self) -> DeviceMesh:
        """Return the mesh of `axes`."""
        from torch.distributed.device_mesh import init_device_mesh

        return init_device_mesh(self.device.type, tuple(self.axes.values()), mesh_dim_names=tuple(self.axes))

    def close(self) -> None:
        """Leave the process group."""
        if self.size > 1:
            import torch.distributed as dist

            if dist.is_initialized():
                dist.destroy_process_group()


def inside_torchrun() -> bool:
    """Return whether torchrun (or a scheduler that speaks its variables) started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def start_world(section: DistEnvSection) -> World:
    """Join the other processes of the job; alone, no process group is made.

    Raises:
        RequestError: nccl is asked for with several processes but there is no GPU for each.
    """
    import torch

    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    local_size = int(os.environ.get("LOCAL_WORLD_SIZE", str(size)))
    use_gpu = gpus >= max(local_size, 1)
    device = torch.device("cuda", local_rank) if use_gpu else torch.device("cpu")
    notes: list[str] = []
    if gpus and not use_gpu:
        notes.append(f"{local_size} processes but {gpus} GPU(s) on this host: computing on the CPU")
    if use_gpu:
        torch.cuda.set_device(device)
    world = World(rank, local_rank, size, device, notes=notes)
    if size > 1:
        world.backend = _backend(section.backend, use_gpu=use_gpu, notes=notes)
        _join(world, section)
    return world


def _backend(asked: str, *, use_gpu: bool, notes: list[str]) -> str:
    best = "nccl" if use_gpu else "gloo"
    if asked == "nccl" and not use_gpu:
        notes.append("dist_env.backend is nccl, which needs a GPU for each process: gloo is used on the CPU")
        return best
    return best if asked == "auto" else asked


def _join(world: World, section: DistEnvSection) -> None:
    import torch.distributed as dist

    if dist.is_initialized():
        return
    timeout = dt.timedelta(minutes=section.timeout_minutes)
    try:
        dist.init_process_group(world.backend, init_method=section.init_method, timeout=timeout)
    except (ValueError, RuntimeError) as error:
        raise RequestError(
            "The processes of the job could not find each other.",
            found=f"rank {world.rank} of {world.size}: {error}",
            expected="torchrun's variables MASTER_ADDR, MASTER_PORT, RANK and WORLD_SIZE in every process",
            fix="start the job with `automodel finetune llm -c recipe.yaml --nproc-per-node N`",
        ) from error


def strategy_for(section: DistributedSection, world: World) -> tuple[str, str]:
    """Return how weights are held (`single`, `ddp` or `fsdp2`) and the sentence that says why."""
    if world.size == 1:
        return "single", "one process holds everything"
    if section.strategy in ("ddp", "fsdp2"):
        return section.strategy, f"distributed.strategy is {section.strategy}"
    if world.device.type == "cuda":
        return "fsdp2", "several GPUs: fsdp2 splits weights, gradients and optimizer state"
    return "ddp", "several CPU processes share the host's memory: ddp needs the fewest messages"
