"""Supervised fine-tuning on a CPU: this library beside transformers' Trainer, same model, same rows, one after the other.

    python benchmarks/sft_cpu.py [--data PATH/xquad.en.json] [--steps 12] [--out results.json]

The model is a random Llama (hidden 512, 8 layers, 8/4 heads, MLP 1408, vocabulary 32,000) with a byte-level BPE tokenizer trained on the
data. Both sides train on the same batches of rows of like length, in the same order, so that losses can be compared step by step. Trainer
gets its rows already tokenised: it pays for neither reading nor tokenising. It runs in bf16, as the targets say, and once more in float32:
a CPU without bf16 instructions needs minutes for a bf16 step, so `--bf16-steps` is small. This library runs through its command line, with
its own choice of number types.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BATCH, RATE, SKIP = 8, 1e-4, 1
SIZES = {
    "vocab_size": 32000,
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 2048,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
    "tie_word_embeddings": False,
}


def make_model(folder: Path, data: Path) -> None:
    """Write the random model and its tokenizer."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    texts = [paragraph["context"] for article in json.loads(data.read_text())["data"] for paragraph in article["paragraphs"]]
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>", "<pad>"]
    core.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=SIZES["vocab_size"], special_tokens=special, show_progress=False))
    PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<pad>").save_pretrained(folder)
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**SIZES)).save_pretrained(folder)


def make_rows(folder: Path, data: Path, target: Path, steps: int) -> None:
    """Write the tokenised rows, and the order in which this library takes them."""
    from automodel.auto import build_tokenizer
    from automodel.data import GlobalBatchSampler, build_dataset
    from automodel.recipe.schema import DatasetSection, ModelSection

    tokenizer = build_tokenizer(None, ModelSection(pretrained_model_name_or_path=str(folder)))
    rows = build_dataset(DatasetSection(name="squad", path_or_dataset=str(data)), tokenizer)
    sampler = GlobalBatchSampler(
        rows.lengths,
        global_batch_size=BATCH,
        local_batch_size=BATCH,
        rank=0,
        world_size=1,
        seed=42,
        shuffle=True,
        group_by_length=True,
        drop_last=False,
    )
    order = [int(row) for batch in sampler for row in batch][: steps * BATCH]
    body = {"order": order, "rows": [{name: rows[i][name].tolist() for name in ("input_ids", "labels")} for i in range(len(rows))]}
    target.write_text(json.dumps(body))


def recipe(folder: Path, data: Path, steps: int, runs: Path) -> dict[str, Any]:
    """Return the recipe of this library's side."""
    return {
        "recipe": "TrainFinetuneRecipeForNextTokenPrediction",
        "model": {"pretrained_model_name_or_path": str(folder)},
        "dataset": {"name": "squad", "path_or_dataset": str(data)},
        "dataloader": {"group_by_length": True},
        "step_scheduler": {"global_batch_size": BATCH, "local_batch_size": BATCH, "max_steps": steps},
        "optimizer": {"name": "adamw", "lr": RATE},
        "clip_grad_norm": {"max_norm": 1.0},
        "checkpoint": {"enabled": False},
        "run": {"folder": str(runs)},
    }


def run_ours(work: Path, folder: Path, data: Path, steps: int) -> dict[str, Any]:
    """Run the command line as a person does and read its run folder."""
    runs = work / "runs"
    path = work / "recipe.yaml"
    path.write_text(json.dumps(recipe(folder, data, steps, runs)))  # JSON is YAML
    began = time.time()
    subprocess.run([sys.executable, "-m", "automodel", "finetune", "llm", "-c", str(path)], check=True, stdout=subprocess.DEVNULL)
    (run,) = [entry for entry in runs.iterdir() if (entry / "metrics.jsonl").is_file()]
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {
        "first_step_seconds": rows[0]["time"] - began,
        "tokens_per_second": sum(row["tokens"] for row in rows[SKIP:]) / sum(row["step_seconds"] for row in rows[SKIP:]),
        "peak_bytes": max(row["memory_bytes"] for row in rows),
        "losses": [row["loss"] for row in rows],
    }


def run_trainer(work: Path, folder: Path, rows: Path, steps: int, kind: str) -> dict[str, Any]:
    """Run transformers' Trainer in its own process."""
    out = work / "trainer.json"
    command = [sys.executable, str(HERE / "trainer_baseline.py"), str(folder), str(rows), str(steps), str(BATCH), str(RATE), str(out), kind]
    began = time.time()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    body: dict[str, Any] = json.loads(out.read_text())
    spent, tokens = body["step_seconds"][SKIP:], body["tokens"][SKIP:]
    return {
        "first_step_seconds": body["first_step_at"] - began,
        "tokens_per_second": sum(tokens) / sum(spent),
        "peak_bytes": body["peak_bytes"],
        "losses": body["losses"],
    }


def versions() -> dict[str, str]:
    """Return what the figures depend on."""
    from importlib.metadata import version

    from automodel.version import __version__

    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    names = ("torch", "transformers", "accelerate")
    return {
        "cpu": cpu,
        "cores": str(len(lines) and sum(line.startswith("processor") for line in lines)),
        "automodel": __version__,
        **{name: version(name) for name in names},
    }


def main() -> int:
    """Run both sides in turn, print the table, and return 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="a SQuAD-format file; absent: the questions that are shipped with the package")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--bf16-steps", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "sft_cpu.json")
    args = parser.parse_args()
    if args.data is None:
        from automodel.demo.files import TRAIN

        args.data = TRAIN
        print("no --data given: measuring on the questions that are shipped with the package", file=sys.stderr)
    if not args.data.is_file():
        print(f"no data at {args.data}: give a SQuAD-format file with --data", file=sys.stderr)
        return 2
    work = Path(tempfile.mkdtemp(prefix="automodel-bench-"))
    try:
        folder, rows = work / "model", work / "rows.json"
        make_model(folder, args.data)
        make_rows(folder, args.data, rows, args.steps)
        ours, theirs, plain = [], [], []
        for turn in range(args.repeats):
            shutil.rmtree(work / "runs", ignore_errors=True)
            theirs.append(run_trainer(work, folder, rows, args.bf16_steps, "bf16"))
            plain.append(run_trainer(work, folder, rows, args.steps, "float32"))
            ours.append(run_ours(work, folder, args.data, args.steps))
            print(f"round {turn + 1} of {args.repeats} done", file=sys.stderr)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return report(args.out, args.data, ours, theirs, plain)


def report(out: Path, data: Path, ours: list[dict[str, Any]], theirs: list[dict[str, Any]], plain: list[dict[str, Any]]) -> int:
    """Print medians, ratios and whether each target is met; write all of it to `out`."""

    def median(rows: list[dict[str, Any]], name: str) -> float:
        return statistics.median(row[name] for row in rows)

    speed = median(ours, "tokens_per_second") / median(theirs, "tokens_per_second")
    memory = median(ours, "peak_bytes") / median(theirs, "peak_bytes")
    first = median(ours, "first_step_seconds") / median(theirs, "first_step_seconds")
    loss = max(abs(a - b) / abs(b) for other in (theirs[0], plain[0]) for a, b in zip(ours[0]["losses"], other["losses"], strict=False))
    print(f"{'':24}{'automodel':>12}{'Trainer bf16':>14}{'ratio':>9}  {'target':14}{'Trainer float32':>16}{'ratio':>9}")
    for label, name, scale, ratio, target, met in (
        ("real tokens/s", "tokens_per_second", 1, speed, ">= 3", speed >= 3),
        ("peak memory, MB", "peak_bytes", 1e6, memory, "<= 0.8", memory <= 0.8),
        ("first step done, s", "first_step_seconds", 1, first, "<= 0.7", first <= 0.7),
    ):
        verdict = f"{target} {'met' if met else 'MISSED'}"
        other = median(plain, name)
        print(
            f"{label:24}{median(ours, name) / scale:12.1f}{median(theirs, name) / scale:14.1f}{ratio:9.2f}  {verdict:14}"
            f"{other / scale:16.1f}{median(ours, name) / other:9.2f}"
        )
    print(f"{'largest loss difference':24}{loss:35.1e}  <= 1e-2 {'met' if loss <= 1e-2 else 'MISSED'} (same rows, step by step, relative)")
    body = {"versions": versions(), "data": data.name, "ours": ours, "trainer_bf16": theirs, "trainer_float32": plain}
    body["ratios"] = {"tokens_per_second": speed, "peak_bytes": memory, "first_step_seconds": first, "loss_relative": loss}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(body, indent=1) + "\n")
    print(f"written: {out}")
    return 0 if speed >= 3 and memory <= 0.8 and first <= 0.7 and loss <= 1e-2 else 1


if __name__ == "__main__":
    raise SystemExit(main())
