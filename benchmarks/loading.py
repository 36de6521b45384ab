"""Loading a checkpoint of 1.2 GB on a CPU: this library beside transformers, the same files, each load in its own process, in turn.

    python benchmarks/loading.py [--repeats 5] [--dtypes auto float32] [--out results.json]

The model is a random Llama (hidden 1536, 20 layers, 12/4 heads, MLP 4096, vocabulary 32,000) in bfloat16, in 4 shards, made in a temporary folder
and in the system's file cache when it is read. "auto" keeps the number type of the files, "float32" converts on the way. Every process first loads
a tiny model of the same class, so that imports are not part of the load.

"load" is the call of `from_pretrained`. Both sides may give back tensors whose bytes are still in the file only; "load and look" therefore goes on
until every page of every weight has been looked at once. Peak memory is the highest resident size of the process (VmHWM of the kernel: own pages
and pages of mapped files alike) until then, less what was resident before the load and less the size of the model.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SIDES = ("automodel", "transformers")
SIZES = {
    "vocab_size": 32000,
    "hidden_size": 1536,
    "intermediate_size": 4096,
    "num_hidden_layers": 20,
    "num_attention_heads": 12,
    "num_key_value_heads": 4,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
}
TINY = {**SIZES, "vocab_size": 64, "hidden_size": 96, "intermediate_size": 64, "num_hidden_layers": 1}
SHARDS, SHARD_SIZE = 4, "320MB"
TOKENS = [[1, 5, 9, 2, 700, 31999, 12, 3]]
# What the peak may be above the model's own size: a share of it, and this many bytes.
SHARE, MORE_BYTES = 0.15, 300e6


def make_checkpoint(folder: Path, sizes: dict[str, Any]) -> None:
    """Write a random Llama in bfloat16."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    LlamaForCausalLM(LlamaConfig(**sizes)).save_pretrained(folder, max_shard_size=SHARD_SIZE)


def memory(name: str) -> int:
    """Return a field of /proc/self/status in bytes; elsewhere than on Linux the highest resident size so far."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    line = next(line for line in status.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def forget_peak() -> None:
    """Let the highest resident size begin anew from here."""
    path = Path("/proc/self/clear_refs")
    if path.exists():
        path.write_text("5")


def load_once(side: str, folder: Path, tiny: Path, dtype: str) -> dict[str, Any]:
    """Load in this process and return what it took."""
    import torch

    if side == "automodel":
        from automodel import NeMoAutoModelForCausalLM as Model
    else:
        from transformers import AutoModelForCausalLM as Model  # type: ignore[assignment]
    wanted = "auto" if dtype == "auto" else getattr(torch, dtype)
    began = time.perf_counter()
    Model.from_pretrained(tiny, dtype=wanted)
    first = time.perf_counter() - began
    before = memory("VmRSS")
    forget_peak()
    began = time.perf_counter()
    model = Model.from_pretrained(folder, dtype=wanted)
    loaded = time.perf_counter() - began
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.reshape(-1)[:: 4096 // parameter.dtype.itemsize].sum()
        looked = time.perf_counter() - began
        peak = memory("VmHWM")
        logits = model(torch.tensor(TOKENS)).logits[0, -1, :16].float().tolist()
    size = sum(parameter.numel() * parameter.dtype.itemsize for parameter in model.parameters())
    return {
        "class": f"{type(model).__module__}.{type(model).__name__}",
        "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
        "load_seconds": loaded,
        "look_seconds": looked,
        "model_bytes": size,
        "peak_bytes": peak - before,
        "warm_up_seconds": first,
        "logits": logits,
    }


def run(side: str, folder: Path, tiny: Path, dtype: str) -> dict[str, Any]:
    """Load in a new process."""
    command = [sys.executable, __file__, "--side", side, "--folder", str(folder), "--tiny", str(tiny), "--dtypes", dtype]
    paths = [str(HERE.parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr}")
    body: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return body


def median(rows: list[dict[str, Any]], name: str) -> float:
    """Return the median of a field."""
    return statistics.median(row[name] for row in rows)


def report(dtype: str, found: dict[str, list[dict[str, Any]]]) -> bool:
    """Print one table and say whether the targets are met."""
    ours, theirs = (found[side] for side in SIDES)
    size = ours[0]["model_bytes"]
    above = {side: median(rows, "peak_bytes") - size for side, rows in found.items()}
    apart = max(abs(a - b) for a, b in zip(ours[0]["logits"], theirs[0]["logits"], strict=True))
    allowed = SHARE * size + MORE_BYTES
    time_met = median(ours, "load_seconds") <= median(theirs, "load_seconds")
    memory_met = max(row["peak_bytes"] for row in ours) - size <= allowed
    print(f"\n{dtype} ({ours[0]['dtype']}, {size / 1e9:.2f} GB in memory; {ours[0]['class']})")
    print(f"{'':28}{'automodel':>12}{'transformers':>14}{'ratio':>9}")
    for label, name in (("load, s", "load_seconds"), ("load and look, s", "look_seconds")):
        a, b = median(ours, name), median(theirs, name)
        verdict = f"  <= 1 {'met' if time_met else 'MISSED'}" if name == "load_seconds" else ""
        print(f"{label:28}{a:12.3f}{b:14.3f}{a / b:9.2f}{verdict}")
    verdict = f"<= {allowed / 1e6:.0f} {'met' if memory_met else 'MISSED'}"
    print(f"{'peak above the model, MB':28}{above['automodel'] / 1e6:12.0f}{above['transformers'] / 1e6:14.0f}{'':9}  {verdict}")
    print(f"{'largest logit difference':28}{apart:26.1e}")
    return time_met and memory_met


def versions() -> dict[str, str]:
    """Return what the figures depend on."""
    from importlib.metadata import version

    from automodel.version import __version__

    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    named = {name: version(name) for name in ("torch", "transformers", "safetensors")}
    return {"cpu": cpu, "cores": str(os.cpu_count()), "automodel": __version__, **named}


def main() -> int:
    """Run both sides in turn, print the tables, and return 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dtypes", nargs="+", default=["auto", "float32"])
    parser.add_argument("--out", type=Path, help="where to write all figures as JSON, such as benchmarks/results/loading.json")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--tiny", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        print(json.dumps(load_once(args.side, args.folder, args.tiny, args.dtypes[0])))
        return 0
    work = Path(tempfile.mkdtemp(prefix="automodel-bench-"))
    figures: dict[str, dict[str, list[dict[str, Any]]]] = {}
    met = []
    try:
        make_checkpoint(work / "model", SIZES)
        make_checkpoint(work / "tiny", TINY)
        files = sorted((work / "model").glob("*.safetensors"))
        assert len(files) == SHARDS, files
        os.sync()
        print(f"{sum(path.stat().st_size for path in files) / 1e9:.2f} GB in {len(files)} files", file=sys.stderr)
        for dtype in args.dtypes:
            found: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
            for turn in range(args.repeats + 1):
                for side in SIDES:
                    row = run(side, work / "model", work / "tiny", dtype)
                    if turn:  # the first of each brings files and modules into the cache
                        found[side].append(row)
                print(f"{dtype}: round {turn} of {args.repeats} done", file=sys.stderr)
            figures[dtype] = found
            met.append(report(dtype, found))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps({"versions": versions(), "figures": figures}, indent=1) + "\n")
        print(f"written: {args.out}")
    return 0 if all(met) else 1


if __name__ == "__main__":
    raise SystemExit(main())
