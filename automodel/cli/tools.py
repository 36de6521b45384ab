"""Commands around a run: the demo, model folders, answers, and a look at this machine."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from automodel.cli.app import app
from automodel.cli.output import put, put_json, put_table, say
from automodel.launch.env import hub_settings
from automodel.run import environment, runs_root
from automodel.run.location import RECORD

Source = Annotated[str, typer.Argument(metavar="RUN|FOLDER", help="A run (latest, id, name, path), a checkpoint, or a model folder.")]
Root = Annotated[Path | None, typer.Option("--runs-root", help="Folder of the runs; else $AUTOMODEL_RUNS, else ./runs.")]


class Method(str, Enum):
    """How the demo trains."""

    sft = "sft"
    lora = "lora"


@app.command()
def demo(method: Annotated[Method, typer.Option("--method", help="Train all weights, or small adapters only.")] = Method.sft) -> int:
    """Fine-tune the model that is shipped with this package, and show its answers before and after."""
    from automodel.demo import run_demo

    answer: Any = run_demo(method=method.value)
    return answer if isinstance(answer, int) else 0


@app.command()
def merge(
    source: Source,
    out: Annotated[Path, typer.Option("--out", "-o", help="New folder for the merged model.")],
    base: Annotated[str | None, typer.Option("--base", help="Base model; else the one the adapter names.")] = None,
    runs_root: Root = None,
) -> int:
    """Add a run's adapter to its base model and write a plain Hugging Face folder."""
    from automodel.checkpoint import merge_adapter

    put(str(merge_adapter(_folder(source, runs_root), out, base=base)))
    return 0


@app.command()
def export(source: Source, out: Annotated[Path, typer.Option("--out", "-o", help="New folder.")], runs_root: Root = None) -> int:
    """Write the best checkpoint of a run as a plain Hugging Face folder, merged if it is an adapter."""
    from automodel.checkpoint import export as write

    put(str(write(_folder(source, runs_root), out)))
    return 0


def _folder(source: str, root: Path | None) -> Path:
    from automodel.run import attach

    path = Path(source).expanduser()
    if path.is_dir() and not (path / RECORD).is_file():
        return path
    return attach(source, root).path


@app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False, runs_root: Root = None) -> int:
    """Look at this machine: versions, processor, GPUs, disk, hub."""
    found = examine(runs_root)
    if as_json:
        put_json(found)
    else:
        put_table(("WHAT", "FOUND"), [(key, str(value)) for key, value in found.items()])
    if not found["torch"]:
        say("torch cannot be imported: install this package again in a fresh environment")
        return 1
    return 0


def examine(root: Path | None) -> dict[str, Any]:
    """Return what `automodel doctor` shows."""
    facts = environment()
    base = runs_root(root).absolute()
    near = next(path for path in (base, *base.parents) if path.exists())
    flags, hub = _cpu_flags(), hub_settings()
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": facts["platform"],
        "processor": facts["cpu"],
        "cores": facts["cores"],
        "memory": f"{(facts['memory_bytes'] or 0) / 1e9:.1f} GB",
        "bfloat16 on the processor": "fast" if {"avx512_bf16", "amx_bf16"} & flags else "emulated" if flags else "unknown",
        "torch": facts["packages"].get("torch", ""),
        "transformers": facts["packages"].get("transformers", ""),
        "peft": facts["packages"].get("peft", ""),
        "datasets": facts["packages"].get("datasets", ""),
        "liger-kernel": facts["packages"].get("liger-kernel", "not installed"),
        "runs": str(base),
        "runs can be written": os.access(near, os.W_OK),
        "free disk": f"{shutil.disk_usage(near).free / 1e9:.1f} GB",
        "hub": hub["mode"],
        "hub cache": hub["cache"],
    }
    if importlib.util.find_spec("torch") is None:
        return {**found, "torch": ""}
    import torch

    found["gpus"] = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return found


def _cpu_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return set(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), []))
