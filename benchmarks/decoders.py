"""Native decoders beside the classes of transformers: the same weights, the same rows, in turn in one process, for every architecture.

    python benchmarks/decoders.py [--only LlamaForCausalLM ...] [--rounds 15] [--device cpu|cuda] [--out results.json]

Each architecture is its tiny config of the registry, made `--times` (4) times as wide: about 256 wide, head dimension 64. The vocabulary is 1,024,
so that the layers are measured and not the head, which is the same product on both sides. "step" is forward, backward and an AdamW step on 2 rows
of 128 tokens; "generate" is greedy, 32 tokens after a prompt of 32, with the default cache. On a CPU one thread runs and its own time is counted,
which another process can disturb least. Medians over rounds in which the two sides take turns; a ratio above 1 means that the native decoder is
faster. Peak memory is the most that torch's allocator held at one time while the model was built and three steps were made. Transformers' class
runs as its from_config makes it (SDPA where it has it).
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any

WIDTHS = {"hidden_size", "intermediate_size", "n_embd", "n_inner", "head_dim", "ffn_hidden_size", "rotary_dim"}
WIDTHS |= {"q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"}
SCORE_SCALES = {"query_pre_attn_scalar"}
VOCABULARY, BATCH, LENGTH, PROMPT, NEW = 1024, 2, 128, 32, 32
LEAST_MEAN, LEAST_EACH, MOST_MEMORY = 1.1, 0.95, 1.0


def names() -> list[str]:
    """Return the architectures that the installed transformers has too."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    from automodel.registry import ModelRegistry

    entries = [ModelRegistry.get(name) for name in ModelRegistry]
    return [entry.name for entry in entries if entry.spec is not None and MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(entry.model_type or "") == entry.name]


def config_of(name: str, times: int) -> Any:
    """Return the widened tiny config of an architecture."""
    from transformers import AutoConfig

    from automodel.registry import ModelRegistry

    entry = ModelRegistry.get(name)
    fields = {key: value * times if key in WIDTHS | SCORE_SCALES and value else value for key, value in entry.tiny.items()}
    length = {key: max(int(value or 0), 512) for key, value in fields.items() if key in ("max_position_embeddings", "n_positions")}
    return AutoConfig.for_model(entry.model_type, **{**fields, **length, "vocab_size": VOCABULARY}), entry.name


def build(side: str, name: str, *, times: int, device: str) -> Any:
    """Return a random model of one side."""
    import torch
    from transformers import AutoModelForCausalLM

    from automodel import NeMoAutoModelForCausalLM

    config, architecture = config_of(name, times)
    config.architectures = [architecture]
    torch.manual_seed(0)
    if side == "transformers":
        return AutoModelForCausalLM.from_config(config).to(device)
    model = NeMoAutoModelForCausalLM.from_config(config).to(device)
    if model.resolution.implementation != "native":
        raise SystemExit(f"{name} is not native: {model.resolution}")
    return model


def same_weights(ours: Any, theirs: Any) -> float:
    """Give the native model the other's weights; return the largest relative difference of the logits."""
    import tempfile

    import torch
    from safetensors.torch import load_file

    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder, max_shard_size="10GB")
        ours.load_state_dict(load_file(Path(folder) / "model.safetensors"), strict=False)
    ours.eval(), theirs.eval()
    ids = torch.randint(5, VOCABULARY, (2, 64), device=ours.device)
    with torch.no_grad():
        wanted, found = theirs(ids).logits, ours(ids).logits
    return float((found - wanted).abs().max() / wanted.abs().max())


def stepper(model: Any) -> Any:
    """Return a function that does one training step."""
    import torch

    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    ids = torch.randint(5, VOCABULARY, (BATCH, LENGTH), device=model.device, generator=torch.Generator(model.device).manual_seed(1))

    def step() -> None:
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def generator(model: Any) -> Any:
    """Return a function that answers one prompt."""
    import torch

    ids = torch.randint(5, VOCABULARY, (1, PROMPT), device=model.device, generator=torch.Generator(model.device).manual_seed(2))
    wish = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False, "pad_token_id": 0}

    def answer() -> None:
        model.generate(ids, attention_mask=torch.ones_like(ids), **wish)

    return answer


def seconds(work: Any, device: str) -> float:
    """Return how long some work takes."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()
    clock = time.perf_counter if device == "cuda" else time.process_time
    started = clock()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - started


def compare(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure one architecture; the sides take turns, and the one that begins changes."""
    models = {side: build(side, name, times=arguments.times, device=arguments.device) for side in ("automodel", "transformers")}
    found: dict[str, Any] = {"architecture": name, "logits": same_weights(models["automodel"], models["transformers"])}
    for kind, make in (("generate", generator), ("step", stepper)):
        for model in models.values():
            model.eval()
        works = {side: make(model) for side, model in models.items()}
        for work in works.values():
            for _ in range(2):
                work()
        taken: dict[str, list[float]] = {side: [] for side in works}
        for turn in range(arguments.rounds):
            order = list(works) if turn % 2 == 0 else list(works)[::-1]
            for side in order:
                taken[side].append(seconds(works[side], arguments.device))
        medians = {side: statistics.median(times) for side, times in taken.items()}
        found[kind] = {**{f"{side}_ms": 1e3 * value for side, value in medians.items()}, "ratio": medians["transformers"] / medians["automodel"]}
    return found


def peak(name: str, side: str, arguments: argparse.Namespace) -> float:
    """Return the megabytes that building one side and three steps of it take at most."""
    import torch

    gc.collect()
    if arguments.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step = stepper(build(side, name, times=arguments.times, device="cuda"))
        for _ in range(3):
            step()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    return cpu_peak(lambda: stepper(build(side, name, times=arguments.times, device="cpu"))) / 1e6


def cpu_peak(make: Any) -> float:
    """Return the most bytes that torch held at one time while a step was made and run three times, counted by its own allocator."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        step = make()
        for _ in range(3):
            step()
    changes = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = most = 0.0
    for change in sorted(changes, key=lambda event: event.start_ns()):
        held += change.nbytes()
        most = max(most, held)
    return most


def main() -> int:
    """Measure, print the table, and say whether the targets are met."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--times", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.device == "cpu":
        torch.set_num_threads(1)
    rows = []
    print(f"{'architecture':<26}{'step':>8}{'generate':>10}{'memory':>8}   (native against transformers; step and generate: times faster)")
    for name in arguments.only or names():
        row = compare(name, arguments)
        sides = {side: peak(name, side, arguments) for side in ("automodel", "transformers")}
        row["memory"] = {**{f"{side}_mb": value for side, value in sides.items()}, "ratio": sides["automodel"] / sides["transformers"]}
        rows.append(row)
        print(f"{name:<26}{row['step']['ratio']:>8.2f}{row['generate']['ratio']:>10.2f}{row['memory']['ratio']:>8.2f}", flush=True)
    return report(rows, arguments)


def report(rows: list[dict[str, Any]], arguments: argparse.Namespace) -> int:
    """Print the means against the targets, and write them down when asked."""
    import torch
    import transformers

    ratios = [row[kind]["ratio"] for row in rows for kind in ("step", "generate")]
    mean = math.exp(statistics.fmean(math.log(ratio) for ratio in ratios))
    memory = max(row["memory"]["ratio"] for row in rows)
    met = {"mean": mean >= LEAST_MEAN, "each": min(ratios) >= LEAST_EACH, "memory": memory <= MOST_MEMORY}
    print(f"geometric mean {mean:.3f} (>= {LEAST_MEAN}), least {min(ratios):.3f} (>= {LEAST_EACH}), most memory {memory:.3f} (<= {MOST_MEMORY})")
    print("met" if all(met.values()) else f"not met: {', '.join(name for name, ok in met.items() if not ok)}")
    if arguments.out:
        facts = {"torch": torch.__version__, "transformers": transformers.__version__, "python": platform.python_version()}
        facts |= {"device": torch.cuda.get_device_name() if arguments.device == "cuda" else platform.processor() or platform.machine()}
        facts |= {"cores": str(os.cpu_count()), "threads": str(torch.get_num_threads())}
        whole = {"versions": facts, "mean": mean, "least": min(ratios), "most_memory": memory, "met": met, "rows": rows}
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(whole, indent=1) + "\n")
        print(f"written: {arguments.out}")
    return 0 if all(met.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
