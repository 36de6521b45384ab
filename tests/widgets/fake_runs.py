"""Run folders as a job would leave them, made in a millisecond."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from automodel.run import Run, RunFolder
from automodel.run.files import append_line, write_json

RECIPE = """recipe: TrainFinetuneRecipeForNextTokenPrediction
model:
  pretrained_model_name_or_path: {model}
optimizer:
  lr: {lr}
dataset:
  path_or_dataset: rows.jsonl
samples:
  prompts:
    - Who lives in the caves?
"""
MEMORY = {
    "rank": 0,
    "type": "OutOfMemoryError",
    "what": "CUDA out of memory. Tried to allocate 2.00 GiB.",
    "traceback": "torch.OutOfMemoryError: CUDA out of memory.",
}


def fake_run(
    root: Path,
    name: str = "one",
    *,
    state: str = "finished",
    losses: tuple[float, ...] = (3.0, 2.0, 1.5),
    checks: dict[int, float] | None = None,
    lr: float = 1e-4,
    created: float = 1_000_000.0,
    error: dict[str, Any] | None = None,
    model: str = "tiny/llama",
    points: tuple[int, ...] = (),
    adapter: bool = False,
) -> Run:
    """Write a run; `points` are the steps of its checkpoints, of which the last is the best and the newest."""
    text = RECIPE.format(model=model, lr=lr)
    folder = RunFolder.create(root, recipe_yaml=text, user_yaml=text, command=["automodel"], model=model, task="sft", name=name)
    for step, loss in enumerate(losses, 1):
        append_line(
            folder.path / "metrics.jsonl",
            {"step": step, "split": "train", "loss": loss, "lr": lr, "epoch": step / len(losses), "time": created + step},
        )
    for step, loss in (checks or {}).items():
        append_line(folder.path / "metrics.jsonl", {"step": step, "split": "validation", "loss": loss, "time": created + step})
    for step in points:
        _checkpoint(folder.path, step, model=model, adapter=adapter)
    if points:
        for pointer in ("latest", "best"):
            (folder.path / "checkpoints" / pointer).symlink_to(f"epoch_0_step_{points[-1]}")
    ended = {"ended": created + 90.0} if state in ("finished", "stopped", "failed") else {}
    record = {**folder.record(), "state": state, "created": created, "total_steps": 10, **ended, **({"error": error} if error else {})}
    write_json(folder.path / "run.json", record)
    return Run(folder.path)


def _checkpoint(path: Path, step: int, *, model: str, adapter: bool) -> None:
    folder = path / "checkpoints" / f"epoch_0_step_{step}"
    (folder / "model").mkdir(parents=True)
    (folder / "training").mkdir()
    name = "adapter" if adapter else "model"
    (folder / "model" / f"{name}.safetensors").write_bytes(b"0" * 2048)
    config = "adapter_config.json" if adapter else "config.json"
    write_json(folder / "model" / config, {"base_model_name_or_path": model} if adapter else {"model_type": "llama"})
    files = {f"model/{part.name}": {"size": part.stat().st_size} for part in (folder / "model").iterdir()}
    write_json(folder / "manifest.json", {"verified": True, "files": files})
