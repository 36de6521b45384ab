from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from automodel.cli.arguments import split
from automodel.cli.jobs import app
from automodel.errors import RequestError
from automodel.run import RunFolder

ROOT = Path(__file__).parents[2]
RECIPE = """\
recipe: TrainFinetuneRecipeForNextTokenPrediction
model: {pretrained_model_name_or_path: MODEL, torch_dtype: float32}
dataset: {name: squad, path_or_dataset: DATA, seq_length: 64}
step_scheduler: {global_batch_size: 4, local_batch_size: 2, max_steps: 4, ckpt_every_steps: 2}
"""


def call(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run([sys.executable, "-m", "automodel", *words], cwd=cwd, env=env, capture_output=True, text=True, check=False)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder.create(
        tmp_path / "runs", recipe_yaml="seed: 1\n", user_yaml="", command=["automodel"], model="org/m", task="sft", launch={"nproc_per_node": 1}
    )
    folder.metric(step=3, split="train", loss=2.5)
    folder.set_state("finished", total_steps=3)
    folder.rank_log(0).write_text("one\ntwo\nthree\n")
    return folder


@pytest.fixture
def recipe(tmp_path: Path, tiny_model_dir: Path) -> Path:
    question = {"id": "1", "question": "Who built the bridge?", "answers": [{"text": "Anna Vell", "answer_start": 21}]}
    paragraphs = [{"context": "The bridge was built by Anna Vell.", "qas": [{**question, "id": str(number)} for number in range(16)]}]
    (tmp_path / "data.json").write_text(json.dumps({"version": "1.1", "data": [{"title": "bridge", "paragraphs": paragraphs}]}))
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.replace("MODEL", str(tiny_model_dir)).replace("DATA", str(tmp_path / "data.json")))
    return path


def test_help_is_quick_and_loads_nothing_heavy(tmp_path: Path) -> None:
    times = []
    for _ in range(3):
        begun = time.perf_counter()
        done = call("--help", cwd=tmp_path)
        times.append(time.perf_counter() - begun)
    assert done.returncode == 0
    assert "finetune" in done.stdout
    assert min(times) < 0.5
    script = "import sys; import automodel.cli; import automodel.launch, automodel.run; print(sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for heavy in ("'torch'", "'transformers'", "'datasets'", "'peft'", "'numpy'", "'rich'"):
        assert heavy not in loaded


def test_every_command_has_help() -> None:
    assert all(command.callback is not None and command.callback.__doc__ for command in app.registered_commands)


@pytest.mark.parametrize(
    ("words", "kept", "overrides"),
    [
        (["finetune", "--a.b", "1", "llm", "-c", "f"], ["finetune", "llm", "--config", "f"], ["--a.b=1"]),
        (["finetune", "llm", "-c", "f", "--a.b=x=y", "--lr", "-1"], ["finetune", "llm", "--config", "f"], ["--a.b=x=y", "--lr=-1"]),
        (["f.yaml", "--nproc_per_node=2", "--peft.use_dora"], ["run", "f.yaml", "--nproc-per-node=2"], ["--peft.use_dora"]),
        (["run", "f.yaml", "--nproc-per-node", "2", "--detach", "--a.b", "--c.d", "2"], None, ["--a.b", "--c.d=2"]),
        (["finetune", "llm", "-c", "f", "--devices", "0,2", "--a.b=1"], ["finetune", "llm", "--config", "f", "--devices", "0,2"], ["--a.b=1"]),
        (["logs", "--tail", "3"], ["logs", "--tail", "3"], []),
        (["validate", "f.yaml", "--json"], ["validate", "f.yaml", "--json"], []),
    ],
)
def test_overrides_are_told_from_options(words: list[str], kept: list[str] | None, overrides: list[str]) -> None:
    parts = split(words)
    assert list(parts.overrides) == overrides
    assert kept is None or list(parts.words) == kept


def test_a_misspelt_option_is_not_taken_for_a_setting() -> None:
    with pytest.raises(RequestError, match="no such option") as caught:
        split(["finetune", "llm", "-c", "f", "--nproc-per-nod", "2"])
    assert "--nproc-per-node" in caught.value.fix


def test_data_goes_to_stdout_and_json_is_stable(run: RunFolder, tmp_path: Path) -> None:
    done = call("runs", "--json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    (facts,) = json.loads(done.stdout)
    assert (facts["id"], facts["state"], facts["step"], facts["total_steps"], facts["loss"]) == (run.id, "finished", 3, 3, 2.5)
    assert call("status", run.id, cwd=tmp_path).stdout.splitlines()[1].split() == ["state:", "finished"]
    assert call("logs", "latest", "-n", "2", "-f", cwd=tmp_path).stdout == "two\nthree\n"
    assert "finished at step 3 of 3" in call("explain", cwd=tmp_path).stdout
    assert "ended already" in call("stop", cwd=tmp_path).stderr


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["status", "nothing"], 2, "No run answers"),
        (["resume"], 2, "has finished"),
        (["finetune", "llm"], 2, "--config"),
        (["finetune", "llm", "-c", "missing.yaml"], 2, "missing.yaml"),
        (["finetune", "llm", "-c", "missing.yaml", "--nproc-per-node", "two"], 2, "not a number"),
        (["finetune", "llm", "-c", "missing.yaml", "--nproc-per-node", "0"], 2, "1 or more"),
        (["finetune", "llm", "-c", "missing.yaml", "--executor", "slurm"], 2, "not built"),
        (["finetune", "llm", "-c", "missing.yaml", "--devices", "0,gpu1"], 2, "begins with GPU-"),
        (["no-such-command"], 2, "no-such-command"),
    ],
)
def test_wrong_requests_return_two_without_a_traceback(run: RunFolder, tmp_path: Path, words: list[str], code: int, text: str) -> None:
    done = call(*words, cwd=tmp_path)
    assert done.returncode == code
    assert text in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert len(list((tmp_path / "runs").iterdir())) == 1


def test_validate(recipe: Path, tmp_path: Path) -> None:
    assert call("validate", str(recipe), cwd=tmp_path).returncode == 0
    facts = json.loads(call("validate", str(recipe), "--json", "--optimizer.lr", "3e-5", cwd=tmp_path).stdout)
    assert facts["valid"]
    assert facts["recipe"]["optimizer"]["lr"] == 3e-5
    assert call("validate", str(recipe), "--optimizer.lr=-1", cwd=tmp_path).returncode == 2
    (tmp_path / "unclear.yaml").write_text("[")
    assert call("validate", "unclear.yaml", cwd=tmp_path).returncode == 2


def test_jobs_that_are_not_built_yet_say_so(recipe: Path, tmp_path: Path) -> None:
    recipe.write_text(recipe.read_text().partition("\n")[2])
    for words in (["kd", "llm"], ["benchmark", "llm"], ["finetune", "vlm"], ["finetune", "seq_cls"]):
        done = call(*words, "-c", str(recipe), cwd=tmp_path)
        assert done.returncode == 2
        assert "yet" in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_real_run_in_the_foreground_and_detached(recipe: Path, tmp_path: Path) -> None:
    done = call("finetune", "llm", "-c", str(recipe), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    path = Path(done.stdout.strip().splitlines()[-1])
    assert json.loads((path / "run.json").read_text())["state"] == "finished"
    assert "step 4/4" in done.stderr
    detached = call(str(recipe), "--detach", cwd=tmp_path)
    assert detached.returncode == 0
    ended = call("attach", detached.stdout.strip(), cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    losses = [
        [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (path, Path(detached.stdout.strip()))
    ]
    assert losses[0] == losses[1]
