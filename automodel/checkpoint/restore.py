"""Bringing a job back to the moment of a checkpoint."""

from __future__ import annotations

import json
import random
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from automodel.checkpoint.save import OPTIMIZER, PROGRESS, RNG, TRAINING
from automodel.errors import RunError

if TYPE_CHECKING:
    from torch import nn

    from automodel.mesh import World


def restore(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, world: World) -> tuple[dict[str, Any], list[str]]:
    """Load optimizer and random states into a job whose model already has the checkpoint's weights.

    Returns the saved progress and notes on what could not be exact.

    Raises:
        RunError: the optimizer state does not fit the model.
    """
    progress: dict[str, Any] = json.loads((folder / TRAINING / PROGRESS).read_text(encoding="utf-8"))
    _restore_optimizer(folder / TRAINING / OPTIMIZER, model, optimizer, world)
    return progress, _restore_rng(folder / TRAINING / RNG, world)


def _restore_optimizer(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, world: World) -> None:
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
    from torch.distributed.checkpoint.state_dict_loader import load

    state = {"optimizer": get_optimizer_state_dict(model, optimizer)}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)  # one process is what is meant
            load(state, checkpoint_id=str(folder), no_dist=world.size == 1)
        set_optimizer_state_dict(model, optimizer, optim_state_dict=state["optimizer"])
    except (RuntimeError, ValueError, KeyError, CheckpointException) as error:
        raise RunError(
            "The optimizer state of the checkpoint does not fit this job.",
            found=str(error).splitlines()[0],
            expected="the same model, trained parameters and optimizer as when it was saved",
            fix="resume the run unchanged with `automodel resume RUN`, or start a new run from the checkpoint's `model` folder",
        ) from error
    optimizer.zero_grad(set_to_none=True)


def _restore_rng(folder: Path, world: World) -> list[str]:
    from safetensors.torch import load_file

    path = folder / f"rank-{world.rank}.safetensors"
    if not path.is_file():
        return [f"the checkpoint has no random state for rank {world.rank}: dropout goes on with fresh numbers"]
    states = load_file(path)
    torch.set_rng_state(states["torch"])
    version, *inner = states["python"].tolist()
    random.setstate((version, tuple(inner), None))
    if "cuda" in states and world.device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], world.device)
    return []
