"""Writing a checkpoint: aside, verified, then renamed, so that a killed save leaves the previous one whole."""

from __future__ import annotations

import json
import random
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from automodel.checkpoint.files import point, prune, write_manifest
from automodel.parallel import unwrap

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from automodel.mesh import World

MODEL, TRAINING = "model", "training"
OPTIMIZER, RNG, PROGRESS = "optimizer", "rng", "progress.json"


@dataclass(frozen=True)
class Snapshot:
    """The parts of a job that a checkpoint holds; `model` may be wrapped."""

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    optimizer: torch.optim.Optimizer
    world: World
    progress: dict[str, Any]
    processor: Any = None

    @property
    def is_adapter(self) -> bool:
        """Return whether only adapters are trained and saved."""
        return hasattr(unwrap(self.model), "peft_config")


def save_checkpoint(root: Path, name: str, snapshot: Snapshot, *, run: Path | None = None, best: str | None = None, keep: int | None = None) -> Path:
    """Write `root/name` with all processes and move `latest` (and `best`) to it; return its path.

    Layout: `model/` (HF folder or PEFT adapter), `training/` (optimizer shards, random states, progress), `manifest.json`, which
    names the folder of the `run`: a checkpoint may lie elsewhere.
    """
    world, target, aside = snapshot.world, root / name, root / f".{name}.partial"
    if world.main:
        shutil.rmtree(aside, ignore_errors=True)
        (aside / TRAINING / RNG).mkdir(parents=True)
    world.barrier()
    _write_model(aside / MODEL, snapshot)
    _write_optimizer(aside / TRAINING / OPTIMIZER, snapshot)
    _write_rng(aside / TRAINING / RNG, world)
    world.barrier()
    if world.main:
        (aside / TRAINING / PROGRESS).write_text(json.dumps(snapshot.progress, indent=1), encoding="utf-8")
        kind = "adapter" if snapshot.is_adapter else "full"
        write_manifest(aside, {"step": snapshot.progress["step"], "kind": kind, "world_size": world.size, "run": str(run.resolve()) if run else None})
        shutil.rmtree(target, ignore_errors=True)
        aside.rename(target)
        point(root, "latest", name)
        if best is not None and (root / best).is_dir():
            point(root, "best", best)
        prune(root, keep=keep, best=best)
    world.barrier()
    return target


def _write_model(folder: Path, snapshot: Snapshot) -> None:
    from automodel.auto import save_hf, verify_hf

    model = cast(Any, unwrap(snapshot.model))
    full = _gathered_state(snapshot)
    if not snapshot.world.main:
        return
    with quiet_bars():
        save_hf(model, folder, tokenizer=snapshot.tokenizer, processor=snapshot.processor, state_dict=full)
    verify_hf(folder, _adapter_names(model, full) if snapshot.is_adapter else None)


@contextmanager
def quiet_bars() -> Iterator[None]:
    """Keep transformers' progress bars, one a file, out of the job's log."""
    from transformers.utils import logging as untyped

    logging: Any = untyped
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _gathered_state(snapshot: Snapshot) -> dict[str, torch.Tensor] | None:
    """Return whole weights on the CPU where the model is split over processes, else None (the model has them)."""
    from torch.distributed.fsdp import FSDPModule

    if not isinstance(snapshot.model, FSDPModule):
        return None
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    return cast("dict[str, torch.Tensor]", get_model_state_dict(snapshot.model, options=options))


def _adapter_names(model: Any, state: dict[str, torch.Tensor] | None) -> set[str]:
    """Return the names that an adapter file must hold."""
    from peft import get_peft_model_state_dict

    return set(get_peft_model_state_dict(model, state_dict=state))


def _write_optimizer(folder: Path, snapshot: Snapshot) -> None:
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict
    from torch.distributed.checkpoint.state_dict_saver import save

    state = get_optimizer_state_dict(snapshot.model, snapshot.optimizer)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)  # one process is what is meant
        save({"optimizer": state}, checkpoint_id=str(folder), no_dist=snapshot.world.size == 1)


def _write_rng(folder: Path, world: World) -> None:
    from safetensors.torch import save_file

    version, inner, _ = random.getstate()
    states = {"torch": torch.get_rng_state(), "python": torch.tensor([version, *inner], dtype=torch.int64)}
    if world.device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(world.device)
    save_file(states, folder / f"rank-{world.rank}.safetensors")
