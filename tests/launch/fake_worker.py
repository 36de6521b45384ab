"""A worker without a model: counts steps, saves points, and misbehaves as the first word of its recipe says."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from automodel.launch import worker
from automodel.run.folder import RunFolder

STEP_SECONDS = 0.03


def save(folder: RunFolder, step: int) -> None:
    point = folder.checkpoints_dir / f"epoch_0_step_{step}"
    (point / "training").mkdir(parents=True)
    (point / "training" / "step").write_text(str(step))
    (point / "manifest.json").write_text(json.dumps({"verified": True, "files": {"training/step": {"size": len(str(step))}}}))


def body(mode: str, folder: RunFolder, resume: Path | None) -> int:
    rank = worker.this_rank()
    print("mode", mode, "rank", rank, "GPUs", os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
    start = int((resume / "training" / "step").read_text()) if resume else 0
    if rank == 0:
        folder.set_state("training", total_steps=20)
    if mode == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for step in range(start + 1, 21 if mode in ("finish", "die", "raise", "echo") else 10**6):
        time.sleep(STEP_SECONDS)
        folder.rank_status(rank, phase="training", step=step)
        if rank == 0:
            folder.metric(step=step, split="train", loss=100.0 / step)
            folder.heartbeat()
            if step % 5 == 0:
                save(folder, step)
        misbehave(mode, folder, rank, step)
        if mode != "stubborn" and folder.requests().stop:
            if rank == 0:
                folder.set_state("stopped")
            return 3
    if rank == 0:
        folder.set_state("finished")
    return 0


def misbehave(mode: str, folder: RunFolder, rank: int, step: int) -> None:
    if mode == "die" and step == 7 and not (folder.path / "died").exists():
        (folder.path / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if mode == "raise" and step == 3:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
    if mode == "echo" and rank == 1 and step == 3:
        raise ValueError("row 17 is <broken>")
    if mode == "echo" and rank == 0 and step == 12:
        raise RuntimeError("Connection closed by peer")


if __name__ == "__main__":
    worker.read_recipe = lambda folder: folder.recipe_path.read_text().strip()
    sys.exit(worker.main(sys.argv[1:], body=body))
