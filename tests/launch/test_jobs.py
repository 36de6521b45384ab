from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from automodel.errors import DataError, JobFailed, RunError
from automodel.launch import resume
from automodel.run import Run, attach, runs
from tests.launch.launch_help import until

Start = Callable[..., Run]


def kinds(run: Run) -> list[str]:
    return [event["kind"] for event in run.events()]


def test_a_job_runs_to_its_end(start: Start) -> None:
    run = start("finish")
    assert run.status.state in ("created", "preparing", "training")
    status = run.wait(20)
    assert (status.state, status.step, status.total_steps, status.exit_code) == ("finished", 20, 20, 0)
    assert [row["step"] for row in run.metrics("train")] == list(range(1, 21))
    assert "mode finish rank 0" in run.log()
    assert (run.path / "command.txt").read_text() == "automodel 'x y'\n"
    assert (run.path / "recipe.user.yaml").read_text() == "mode: finish\n"
    launching = next(event for event in run.events() if event["kind"] == "launching")
    assert "MALLOC_TRIM_THRESHOLD_" in launching["environment"]
    assert "OMP_NUM_THREADS" not in launching["environment"], "the user has set it"


def test_a_refused_request_leaves_nothing(start: Start, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="The dataset is empty") as caught:
        start("refused")
    assert caught.value.fix == "add rows"
    with pytest.raises(JobFailed, match="broke off"):
        start("crash")
    assert not (tmp_path / "runs").exists()


def test_stop_saves_and_other_processes_may_ask(start: Start, tmp_path: Path) -> None:
    run = start("steady")
    until(lambda: (run.status.step or 0) >= 2)
    script = f"from automodel.run import attach; r = attach('latest', {str(tmp_path / 'runs')!r}); print(r.id, r.status.state); r.stop(timeout=15)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [run.id, "training"]
    assert run.status.state == "stopped"
    until(lambda: not run.status.alive)
    assert "escalation" not in kinds(run)


def test_sigterm_to_the_supervisor_is_a_stop_request(start: Start) -> None:
    run = start("steady")
    until(lambda: (run.status.step or 0) >= 2)
    os.kill(run.folder.record()["pid"], signal.SIGTERM)
    assert run.wait(15).state == "stopped"
    assert run.status.exit_code == 3


def test_a_stubborn_worker_is_ended_step_by_step(start: Start) -> None:
    run = start("stubborn", grace=0.5)
    until(lambda: (run.status.step or 0) >= 2)
    run.stop()
    assert run.wait(15).state == "stopped"
    assert [event["signal"] for event in run.events() if event["kind"] == "escalation"] == ["SIGTERM", "SIGKILL"]
    assert run.folder.record()["ended_by"] == "SIGKILL"


def test_stop_with_a_timeout_ends_a_stubborn_worker_whose_supervisor_is_dead(start: Start) -> None:
    run = start("stubborn")
    until(lambda: (run.status.step or 0) >= 2)
    os.kill(run.folder.record()["pid"], signal.SIGKILL)
    assert run.status.state == "training", "the worker lives on"
    assert run.stop(timeout=0.3).state == "stopped"
    assert not run.status.alive


def test_a_killed_worker_reads_failed_and_is_explained(start: Start) -> None:
    run = start("die")
    assert run.wait(20).state == "failed"
    answer = run.explain()
    assert answer.key == "oom_host"
    assert "memory" in answer.cause


def test_everything_killed_at_once_reads_failed(start: Start) -> None:
    run = start("steady")
    until(lambda: (run.status.step or 0) >= 2)
    os.kill(run.folder.record()["pid"], signal.SIGKILL)
    os.kill(run.folder.ranks()[0]["pid"], signal.SIGKILL)
    until(lambda: not run.status.alive)
    assert run.folder.record()["state"] == "training"
    assert run.status.state == "failed"
    assert "without saying why" in run.status.reason


def test_an_exception_is_kept_with_its_traceback(start: Start) -> None:
    run = start("raise")
    status = run.wait(20)
    assert (status.state, status.exit_code) == ("failed", 1)
    assert "Tried to allocate 2 GiB" in run.folder.ranks()[0]["error"]["traceback"]
    answer = run.explain()
    assert (answer.key, answer.rank) == ("oom_gpu", 0)
    assert any("local_batch_size" in fix for fix in answer.fixes)
    assert "Traceback" in run.log()


def test_resume_goes_on_from_the_newest_intact_point(start: Start) -> None:
    run = start("die")
    run.wait(20)
    until(lambda: not run.status.alive)
    with (run.path / "metrics.jsonl").open("a") as out:
        out.write('{"step": 8, "spl')
    broken = run.path / "checkpoints" / "epoch_0_step_6"
    (broken / "training").mkdir(parents=True)
    (broken / "manifest.json").write_text('{"verified": true, "files": {"training/step": {"size": 1}}}')
    assert run.resume_point is not None
    assert run.resume_point.step == 5
    again = resume(run)
    assert again.path == run.path
    with pytest.raises(RunError, match="still runs"):
        resume(run)
    assert run.wait(20).state == "finished"
    assert [row["step"] for row in run.metrics()] == list(range(1, 21))
    dropped = (run.path / "metrics.dropped.jsonl").read_text()
    assert '"step": 7' in dropped
    assert '"spl' in dropped
    assert kinds(run).count("resumed") == 1
    until(lambda: not run.status.alive)
    with pytest.raises(RunError, match="has finished"):
        resume(run)


def test_two_ranks_under_torchrun_stop_cleanly(start: Start) -> None:
    run = start("steady", nproc=2)
    until(lambda: len(run.folder.ranks()) == 2 and (run.status.step or 0) >= 2, 60)
    run.stop()
    assert run.wait(30).state == "stopped"
    until(lambda: not run.status.alive)
    until(lambda: "exit_code" in run.folder.record())
    assert run.folder.record()["exit_code"] == 0
    assert "mode steady rank 1" in run.log(1)


def test_the_first_failing_rank_is_named(start: Start) -> None:
    run = start("echo", nproc=2)
    assert run.wait(60).state == "failed"
    until(lambda: not run.status.alive)
    answer = run.explain()
    assert answer.rank == 1
    assert "row 17 is <broken>" in answer.sentence
    assert "<broken>" not in answer._repr_html_()


def test_workers_whose_agent_was_killed_save_and_stop(start: Start) -> None:
    run = start("steady", nproc=2)
    until(lambda: len(run.folder.ranks()) == 2 and (run.status.step or 0) >= 2, 60)
    supervisor = run.folder.record()["pid"]
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(supervisor)], capture_output=True, text=True, check=True).stdout.split()
    os.kill(int(children[0]), signal.SIGKILL)
    assert run.wait(30).state == "stopped"
    until(lambda: not run.status.alive)
    assert "agent died" in kinds(run)


def test_runs_lists_the_newest_first(start: Start, tmp_path: Path) -> None:
    first, second = start("finish"), start("finish")
    first.wait(20)
    second.wait(20)
    assert [run.id for run in runs(tmp_path / "runs")] == [second.id, first.id]
    assert attach(first.id, tmp_path / "runs").path == first.path
