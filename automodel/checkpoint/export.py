"""From a run or a checkpoint to a plain HF folder: copied, or with its adapter merged, and checked before it is called done."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automodel.checkpoint.files import newest, verify_manifest
from automodel.checkpoint.save import MODEL
from automodel.errors import ModelError, RunError

if TYPE_CHECKING:
    import torch

TOLERANCE = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 5e-2}


def model_folder(source: str | Path) -> Path:
    """Return the HF or adapter folder meant by a run folder, a checkpoint folder, `latest`, `best`, or itself.

    Raises:
        RunError: the folder holds none of these.
    """
    path = Path(source)
    for candidate in (path, path / MODEL, path / "checkpoints" / "best" / MODEL, path / "checkpoints" / "latest" / MODEL):
        if (candidate / "config.json").is_file() or (candidate / "adapter_config.json").is_file():
            return candidate.resolve()
    found = newest(path / "checkpoints")
    if found is not None:
        return found / MODEL
    raise RunError(
        "There is no model to take.",
        found=str(path),
        expected="a run folder with a checkpoint, a checkpoint folder, or a folder with config.json or adapter_config.json",
        fix="look at `automodel status RUN` for the checkpoints of a run",
    )


def export(source: str | Path, target: str | Path) -> Path:
    """Write a plain HF folder of the best (else newest) checkpoint of a run, merging an adapter where there is one; return the folder."""
    folder, out = model_folder(source), _fresh(target)
    if (folder / "adapter_config.json").is_file():
        return merge_adapter(folder, out)
    from automodel.auto import verify_hf

    if (folder.parent / "manifest.json").is_file():
        verify_manifest(folder.parent)
    return _written(out, lambda aside: (shutil.copytree(folder, aside), verify_hf(aside)))


def merge_adapter(source: str | Path, target: str | Path, *, base: str | None = None) -> Path:
    """Write base weights with the adapter added as a plain HF folder and return it.

    The written folder is loaded again and must give the logits that base and adapter gave.

    Raises:
        ModelError: there is no adapter, or the merged model computes something else.
        RunError: the target already exists.
    """
    import torch

    from automodel.auto import NeMoAutoTokenizer, class_that_writes, save_hf, verify_hf
    from automodel.peft import load_adapter

    folder, out = model_folder(source), _fresh(target)
    origin = base or base_of(folder)
    maker = class_that_writes(origin)
    started = maker.from_pretrained(origin, dtype=torch.float32)
    kept = _file_dtype(origin)
    model = load_adapter(started, folder, trainable=False).eval()
    expected = _probe(model)
    merged: Any = model.merge_and_unload(safe_merge=True)
    tokenizer = NeMoAutoTokenizer.from_pretrained(str(folder if (folder / "tokenizer_config.json").is_file() else origin))
    processor = _processor(folder, tokenizer)

    def write(aside: Path) -> None:
        save_hf(merged.to(kept), aside, tokenizer=tokenizer, processor=processor)
        verify_hf(aside)
        again = maker.from_pretrained(str(aside), dtype=torch.float32).eval()
        _compare(expected, _probe(again), TOLERANCE.get(str(kept).removeprefix("torch."), 1e-4))

    return _written(out, write)


def _processor(folder: Path, tokenizer: Any) -> Any:
    """Return the processor that a job on images and text saved beside its adapter, or None."""
    if not (folder / "preprocessor_config.json").is_file():
        return None
    from automodel.auto import build_processor
    from automodel.recipe.schema import ModelSection

    return build_processor(None, ModelSection(pretrained_model_name_or_path=str(folder)), tokenizer=tokenizer)


def base_of(folder: Path) -> str:
    """Return the base model that an adapter folder names; raises ModelError when it holds no adapter."""
    import json

    if not (folder / "adapter_config.json").is_file():
        raise ModelError(
            "The folder holds no adapter to merge.",
            found=str(folder),
            expected="adapter_config.json, as LoRA runs write it",
            fix="use `automodel export` for a fully fine-tuned model",
        )
    return str(json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"])


def _fresh(target: str | Path) -> Path:
    path = Path(target)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise RunError("The target already exists.", found=str(path), expected="a new or empty folder", fix="choose another name, or remove it")
    return path


def _written(out: Path, write: Any) -> Path:
    """Let `write` fill a folder beside `out`, then rename it: a failure leaves nothing behind."""
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = out.with_name(f".{out.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        write(aside)
        if out.exists():
            out.rmdir()
        aside.rename(out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return out


def _probe(model: Any) -> torch.Tensor:
    import torch

    vocabulary = model.get_input_embeddings().weight.shape[0]
    ids = torch.arange(24, device=model.device).remainder(vocabulary).unsqueeze(0)
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=ids).logits.float()
    return logits


def _compare(expected: torch.Tensor, found: torch.Tensor, limit: float) -> None:
    worst = float((expected - found).abs().max() / expected.abs().max().clamp(min=1.0))
    if not worst <= limit:
        raise ModelError(
            "The merged model does not compute what base and adapter computed; nothing was written.",
            found=f"logits differ by {worst:.2g} of their size",
            expected=f"at most {limit}",
            fix="merge from a base model in float32",
        )


def _file_dtype(origin: str) -> torch.dtype:
    """Return the number type of the base model's files, as its config says; the merged model keeps it."""
    import torch
    from transformers import AutoConfig

    name = AutoConfig.from_pretrained(origin).to_dict().get("dtype") or AutoConfig.from_pretrained(origin).to_dict().get("torch_dtype")
    found = getattr(torch, str(name).removeprefix("torch."), torch.float32)
    return found if isinstance(found, torch.dtype) else torch.float32
