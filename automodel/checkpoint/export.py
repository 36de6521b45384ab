"""From a run or a checkpoint to a plain HF folder: copied, or with its adapter merged, and checked before it is called done."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automodel.checkpoint.files import newest, verify_manifest
from automodel.checkpoint.save import MODEL
from automodel.errors import ModelError, RunError
from automodel.hub.record import record_of, write_record
from automodel.run.folder import RunFolder
from automodel.run.launched import find_base, naming_places, run_around

if TYPE_CHECKING:
    import torch

TOLERANCE = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 5e-2}


def model_folder(source: str | Path) -> Path:
    """Return the HF or adapter folder meant by a run folder, a checkpoint folder, `latest`, `best`, or itself.

    Raises:
        RunError: the folder holds none of these.
    """
    path = Path(source)
    store = RunFolder(path).checkpoints_dir
    for candidate in (path, path / MODEL, store / "best" / MODEL, store / "latest" / MODEL):
        if (candidate / "config.json").is_file() or (candidate / "adapter_config.json").is_file():
            return candidate.resolve()
    found = newest(store)
    if found is not None:
        return found / MODEL
    raise RunError(
        "There is no model to take.",
        found=str(path),
        expected="a run folder with a checkpoint, a checkpoint folder, or a folder with config.json or adapter_config.json",
        fix="look at `automodel status RUN` for the checkpoints of a run",
    )


def export(source: str | Path, target: str | Path) -> Path:
    """Write a plain HF folder of the best (else newest) checkpoint of a run, merging an adapter where there is one; return the folder.

    Beside the model lies `automodel.json`, from which the card of the folder is written: run, checkpoint, data, settings and results.
    """
    folder, out = model_folder(source), _fresh(target)
    if (folder / "adapter_config.json").is_file():
        return merge_adapter(folder, out)
    from automodel.auto import verify_hf

    if (folder.parent / "manifest.json").is_file():
        verify_manifest(folder.parent)
    record = record_of(folder, made="copied")

    def write(aside: Path) -> None:
        shutil.copytree(folder, aside)
        verify_hf(aside)
        write_record(aside, record)

    return _written(out, write)


def merge_adapter(source: str | Path, target: str | Path, *, base: str | None = None) -> Path:
    """Write base weights with the adapter added as a plain HF folder and return it.

    The written folder is loaded again and must give the logits that base and adapter gave. `automodel.json` is written as by `export`.

    Args:
        source: a run folder, a checkpoint folder, or an adapter folder.
        target: a new folder.
        base: the base model; absent: the one that the adapter names, a relative path counted from where its run was launched.

    Raises:
        ModelError: there is no adapter, or the merged model computes something else.
        RunError: the target already exists, or the base model is not where it was.
    """
    import torch

    from automodel.auto import NeMoAutoTokenizer, class_that_writes, save_hf, verify_hf

    folder, out = model_folder(source), _fresh(target)
    origin = base or base_of(folder)
    model = load_model(folder, base=origin, run=run_around(folder), dtype=torch.float32)
    kept = _file_dtype(origin)
    record = record_of(folder, made="merged", base=base)
    expected = _probe(model)
    merged: Any = model.merge_and_unload(safe_merge=True)
    tokenizer = NeMoAutoTokenizer.from_pretrained(str(folder if (folder / "tokenizer_config.json").is_file() else origin))
    processor = _processor(folder, tokenizer)

    def write(aside: Path) -> None:
        save_hf(merged.to(kept), aside, tokenizer=tokenizer, processor=processor)
        verify_hf(aside)
        write_record(aside, record)
        again = class_that_writes(str(aside)).from_pretrained(str(aside), dtype=torch.float32).eval()
        _compare(expected, _probe(again), TOLERANCE.get(str(kept).removeprefix("torch."), 1e-4))

    return _written(out, write)


def load_model(folder: str | Path, *, base: str | None, run: RunFolder | None, dtype: Any, device: str | None = None) -> Any:
    """Return the model of a folder (or id), or the base model with the adapter of the folder, ready to compute.

    Args:
        folder: the weights, or the adapter where there is a `base`.
        base: folder or id of the base model of an adapter.
        run: where the model comes from; an error names the places that were tried for it.
        dtype: number type of the weights.
        device: where they go; absent: the CPU.
    """
    from automodel.auto import class_that_writes
    from automodel.peft import load_adapter

    named = base or str(folder)
    try:
        model: Any = class_that_writes(named).from_pretrained(named, dtype=dtype, **({"device": device} if device else {}))
    except ModelError as error:
        raise (error if Path(named).exists() else naming_places(error, named, run)) from error
    return (load_adapter(model, Path(folder), trainable=False) if base is not None else model).eval()


def _processor(folder: Path, tokenizer: Any) -> Any:
    """Return the processor that a job on images and text saved beside its adapter, or None."""
    if not (folder / "preprocessor_config.json").is_file():
        return None
    from automodel.auto import build_processor
    from automodel.recipe.schema import ModelSection

    return build_processor(None, ModelSection(pretrained_model_name_or_path=str(folder)), tokenizer=tokenizer)


def base_of(folder: Path) -> str:
    """Return the base model that an adapter folder names, as a folder where it is one.

    Raises:
        ModelError: the folder holds no adapter.
        RunError: the base model is a folder that is not there; see `find_base`.
    """
    import json

    if not (folder / "adapter_config.json").is_file():
        raise ModelError(
            "The folder holds no adapter to merge.",
            found=str(folder),
            expected="adapter_config.json, as LoRA runs write it",
            fix="use `automodel export` for a fully fine-tuned model",
        )
    named = str(json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"])
    return find_base(named, run_around(folder))


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
