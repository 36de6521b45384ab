"""Jobs of one and of two processes: the same losses, and the same numbers to the last bit after a kill."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.desk import ENVIRONMENT, ROOT, Desk

pytestmark = pytest.mark.slow
XQUAD = ROOT.parent / "shared" / "data" / "xquad" / "xquad.en.json"
GUIDE = ("finetune", "llm", "-c", str(ROOT / "examples" / "sft_guide.yaml"))
STEPS = 60
SECONDS = 90


@pytest.fixture
def questions(desk: Desk) -> Path:
    """A question set in SQuAD's own nested form, with rows of many lengths."""
    qas = [
        {"id": str(n), "question": f"Who built bridge {n}?", "answers": [{"text": f"Anna{' Vell' * (n % 4)}", "answer_start": 0}]} for n in range(12)
    ]
    articles = [
        {"title": f"bridge {a}", "paragraphs": [{"context": f"Anna{' Vell' * (n + a)} built bridge {n}.", "qas": [qas[n]]} for n in range(12)]}
        for a in range(20)
    ]
    path = desk.folder / "questions.json"
    path.write_text(json.dumps({"version": "1.1", "data": articles}))
    return path


def words(data: Path, *more: str) -> list[str]:
    settings = ["--model.pretrained_model_name_or_path=model", f"--dataset.path_or_dataset={data}", "--dataset.seq_length=128", "--optimizer.lr=1e-3"]
    return [*GUIDE, *settings, *more]


def metrics(run: Path, *keys: str) -> list[tuple[Any, ...]]:
    """Return these values of every training step that was written to its end."""
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True) if (run / "metrics.jsonl").exists() else []
    rows = [json.loads(line) for line in lines if line.endswith("\n")]
    return [tuple(row[key] for key in keys) for row in rows if row["split"] == "train"]


EXACT = ("step", "epoch", "loss", "grad_norm", "lr", "tokens", "label_tokens")


def wait(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, f"no {what} within {SECONDS} seconds"
        time.sleep(0.01)


def finish(desk: Desk, *line: str) -> Path:
    """Run a job to its end; gives its folder."""
    answer = desk.start(*line)
    assert answer.code == 0, answer.err
    run = Path(answer.out.strip().splitlines()[-1])
    assert json.loads((run / "run.json").read_text())["state"] == "finished"
    return run


def begin(desk: Desk, *line: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "automodel", *line],
        cwd=desk.folder,
        env={**os.environ, **ENVIRONMENT},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def newest(desk: Desk, root: str) -> Path | None:
    found = sorted(desk.folder.glob(f"{root}/[0-9]*"))
    return found[-1] if found else None


def state(run: Path) -> Any:
    from automodel.run import Run

    return Run(run).status


def test_two_processes_compute_the_losses_of_one(desk: Desk, questions: Path) -> None:
    data = XQUAD if XQUAD.is_file() else questions
    line = words(data, "--step_scheduler.max_steps=8", "--dataset.limit_dataset_samples=120", "--checkpoint.enabled=false")
    one = metrics(finish(desk, *line), "step", "loss", "grad_norm", "lr", "label_tokens")
    assert [row[0] for row in one] == list(range(1, 9))
    for strategy in ("ddp", "fsdp2"):
        two = metrics(
            finish(desk, *line, f"--distributed.strategy={strategy}", "--nproc-per-node", "2"), "step", "loss", "grad_norm", "lr", "label_tokens"
        )
        assert [row[:1] + row[3:] for row in two] == [row[:1] + row[3:] for row in one], strategy
        assert [row[1] for row in two] == pytest.approx([row[1] for row in one], rel=1e-4), strategy
        assert [row[2] for row in two] == pytest.approx([row[2] for row in one], rel=1e-3), strategy


LONG = (
    f"--step_scheduler.max_steps={STEPS}",
    "--step_scheduler.num_epochs=9",
    "--step_scheduler.ckpt_every_steps=7",
    "--step_scheduler.val_every_steps=40",
    "--step_scheduler.local_batch_size=2",  # 8 rows a step: accumulated 4 times by one process, twice by two
)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(desk: Desk, questions: Path, processes: int) -> None:
    line = words(questions, *LONG, "--nproc-per-node", str(processes))
    unbroken = finish(desk, *line, "--runs-root", "whole")
    job = begin(desk, *line, "--runs-root", "killed")
    at = random.randrange(8, STEPS * 2 // 3)
    wait(lambda: (run := newest(desk, "killed")) and len(metrics(run, "step")) >= at, f"step {at}")
    run = newest(desk, "killed")
    assert run is not None
    # One process: the command itself. Two: any of the workers that torchrun started.
    victim = job.pid if processes == 1 else json.loads((run / "status" / f"rank-{random.randrange(2)}.json").read_text())["pid"]
    os.kill(victim, signal.SIGKILL)
    wait(lambda: not state(run).alive, "end of the killed run")
    job.wait(timeout=SECONDS)
    assert job.returncode != 0
    assert state(run).state == "failed", (at, state(run))
    done = len(metrics(run, "step"))
    assert done < STEPS

    answer = desk.start("resume", str(run))
    assert answer.code == 0, answer.err
    assert "going on from" in answer.err
    assert metrics(run, *EXACT) == metrics(unbroken, *EXACT), f"killed at step {at}, {done} steps were written"
    assert weights(run) == weights(unbroken)
    assert state(run).state == "finished"


def weights(run: Path) -> bytes:
    return (run / "checkpoints" / "latest" / "model" / "model.safetensors").read_bytes()


def test_a_detached_run_is_stopped_and_goes_on(desk: Desk, questions: Path) -> None:
    line = words(questions, *LONG)
    answer = desk.start(*line, "--detach")
    assert answer.code == 0, answer.err
    run = Path(answer.out.strip())
    wait(lambda: len(metrics(run, "step")) >= 5, "step 5")
    answer = desk.start("stop", run.name)
    assert answer.code == 0, answer.err
    wait(lambda: not state(run).alive, "stop")
    stopped = state(run)
    assert (stopped.state, stopped.exit_code) == ("stopped", 3)
    saved = len(metrics(run, "step"))
    assert 5 <= saved < STEPS
    assert json.loads(next(run.glob(f"checkpoints/epoch_*_step_{saved}/manifest.json")).read_text())["verified"]

    answer = desk.start("resume", run.name)
    assert answer.code == 0, answer.err
    assert f"step_{saved}" in answer.err
    assert state(run).state == "finished"
    assert [row[0] for row in metrics(run, "step")] == list(range(1, STEPS + 1))
