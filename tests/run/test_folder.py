from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from automodel.errors import RunError
from automodel.run import Run, RunFolder, attach, compare, make_reporter, runs
from automodel.run.files import LineReader, tail_text
from automodel.run.location import folder_name
from automodel.run.process import ProcessIdentity, identify, is_alive
from automodel.run.reporter import Pace, PlainReporter, RichReporter


def make(root: Path, **changes: Any) -> RunFolder:
    settings: dict[str, Any] = {
        "recipe_yaml": "seed: 1\nmodel:\n  torch_dtype: auto\n",
        "user_yaml": "",
        "command": ["automodel"],
        "model": "org/m",
        "task": "sft",
    }
    return RunFolder.create(root, **{**settings, **changes})


def test_a_new_folder_holds_what_is_known(tmp_path: Path) -> None:
    folder = make(tmp_path / "a" / "b", name="my run/1")
    names = {path.name for path in folder.path.iterdir()}
    assert {
        "run.json",
        "recipe.yaml",
        "recipe.user.yaml",
        "command.txt",
        "environment.json",
        "metrics.jsonl",
        "events.jsonl",
        "status",
        "logs",
        "requests",
    } <= names
    assert folder.path.name.endswith(f"my_run_1-sft-{folder.id}")
    assert "torch" in json.loads((folder.path / "environment.json").read_text())["packages"]
    assert Run(folder.path).status.state == "created"
    assert folder_name(model="a/B-2", task="sft", identity="x", now=0).endswith("-B-2-sft-x")


def test_an_unwritable_root_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="cannot be made") as caught:
        make(tmp_path / "file" / "runs")
    assert caught.value.exit_code == 2
    assert str(tmp_path / "file" / "runs") in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_disk_that_fills_up_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: object, **_more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("automodel.run.folder.write_json", full)
    with pytest.raises(RunError, match="cannot be made") as caught:
        make(tmp_path / "new" / "runs")
    assert caught.value.found == "No space left on device"
    assert list(tmp_path.iterdir()) == []


def test_nonfinite_numbers_become_null_and_are_named(tmp_path: Path) -> None:
    folder = make(tmp_path)
    folder.metric(step=1, split="train", loss=math.nan, grad_norm=math.inf, lr=0.1)
    row = Run(folder.path).metrics()[0]
    assert (row["loss"], row["grad_norm"], row["lr"], row["nonfinite"]) == (None, None, 0.1, ["loss", "grad_norm"])


def test_metrics_are_cut_for_a_resume_and_the_rest_is_kept(tmp_path: Path) -> None:
    folder = make(tmp_path)
    run = Run(folder.path)
    for step in range(1, 6):
        folder.metric(step=step, split="train", loss=float(step))
    before = (folder.path / "metrics.jsonl").read_bytes()
    assert run.status.step == 5
    with (folder.path / "metrics.jsonl").open("a") as out:
        out.write('{"step": 3, "lo')
    assert folder.truncate_metrics(3) == 3
    assert before.startswith((folder.path / "metrics.jsonl").read_bytes()), "kept lines are the same bytes"
    assert [row["step"] for row in run.metrics()] == [1, 2, 3]
    assert run.status.step == 3
    assert len((folder.path / "metrics.dropped.jsonl").read_text().splitlines()) == 3
    assert folder.truncate_metrics(3) == 0
    assert folder.truncate_metrics(0) == 3
    assert run.status.step is None


def test_a_follower_keeps_half_lines_and_survives_a_cut(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    reader = LineReader(path)
    assert reader.read() == []
    path.write_text('{"a": 1}\n{"a": ')
    assert reader.read() == [{"a": 1}]
    with path.open("a") as out:
        out.write('2}\nnot json\n[1]\n{"a": 3}\n')
    assert reader.read() == [{"a": 2}, {"a": 3}]
    path.write_text('{"a": 9}\n')
    assert reader.read() == [{"a": 9}]
    assert reader.restarts == 1


def test_a_line_after_a_torn_one_is_whole(tmp_path: Path) -> None:
    folder = make(tmp_path)
    with (folder.path / "metrics.jsonl").open("a") as out:
        out.write('{"step": 1, "lo')
    folder.metric(step=2, split="train", loss=1.0)
    assert [row["step"] for row in Run(folder.path).metrics()] == [2]


def test_tail_reads_the_last_lines_across_blocks(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("".join(f"line {number}\n" for number in range(1000)))
    assert tail_text(path, 2, block=7) == "line 998\nline 999\n"
    assert tail_text(path, 0) == ""
    assert tail_text(path).count("\n") == 1000
    assert tail_text(tmp_path / "none", 3) == ""


def test_two_writers_of_the_record_do_not_lose_each_others_fields(tmp_path: Path) -> None:
    folder = make(tmp_path)

    def write(prefix: str) -> None:
        for number in range(25):
            RunFolder(folder.path).update(**{f"{prefix}{number}": number})

    threads = [threading.Thread(target=write, args=(prefix,)) for prefix in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([key for key in folder.record() if key[0] in "ab" and key[1:].isdigit()]) == 50


def test_requests(tmp_path: Path) -> None:
    folder = make(tmp_path)
    assert not folder.requests().stop
    folder.request_stop()
    assert (folder.requests().stop, folder.requests().save_on_stop) == (True, True)
    folder.request_stop(save=False)
    folder.request_stop(save=True)
    assert folder.requests().save_on_stop is False, "a late click on save does not undo discard"
    folder.request_save()
    assert folder.requests().save
    folder.clear_request("stop")
    folder.clear_request("save")
    assert not folder.requests().stop
    assert not folder.requests().save


def test_a_process_is_known_by_more_than_its_pid() -> None:
    me = identify()
    assert is_alive(me) is True
    fields = me.as_dict()
    assert is_alive(ProcessIdentity(**{**fields, "start": -1.0})) is False, "a reused pid"
    assert is_alive(ProcessIdentity(**{**fields, "boot_id": "before"})) is False
    assert is_alive(ProcessIdentity(**{**fields, "host": "elsewhere"})) is None
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    who = identify(child.pid)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert is_alive(who) is False, "a zombie"
    child.wait()


def test_a_run_of_another_host_lives_by_its_heartbeat(tmp_path: Path) -> None:
    folder = make(tmp_path)
    folder.set_state("training")
    folder.update(host="elsewhere")
    assert Run(folder.path).status.state == "training"
    folder.update(heartbeat=1.0)
    status = Run(folder.path).status
    assert status.state == "failed"
    assert "no sign of life from elsewhere" in status.reason


def test_a_foreground_run_that_has_ended_does_not_hold_on_while_its_notebook_lives(tmp_path: Path) -> None:
    folder = make(tmp_path)
    folder.claim(launcher="foreground", world_size=1)
    folder.set_state("training")
    assert Run(folder.path).status.alive
    folder.set_state("failed")
    assert not Run(folder.path).status.alive
    folder.update(launcher="supervisor")
    assert Run(folder.path).status.alive


def test_the_first_error_counts(tmp_path: Path) -> None:
    folder = make(tmp_path)
    folder.rank_status(1, phase="failed", error={"what": "row 3 is broken", "time": 1.0})
    folder.rank_status(0, phase="failed", error=ConnectionError("Connection closed by peer"))
    folder.rank_status(0, phase="failed", error=ValueError("later"))
    first = folder.first_error()
    assert first is not None
    assert (first["rank"], first["what"]) == (1, "row 3 is broken")
    assert folder.ranks()[0]["error"]["type"] == "ConnectionError"
    folder.set_state("failed", error=first)
    assert Run(folder.path).explain().rank == 1


@pytest.mark.parametrize(
    ("message", "key"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory.", "oom_gpu"),
        ("exitcode  : -9 (pid: 77)", "oom_host"),
        ("OSError: [Errno 28] No space left on device", "disk"),
        ("huggingface_hub.errors.GatedRepoError: 403", "gated"),
        ("429 Client Error: Too Many Requests", "rate_limit"),
        ("Watchdog caught collective operation timeout", "collective"),
        ("[Errno 98] Address already in use", "port"),
        ("Cannot re-initialize CUDA in forked subprocess", "fork"),
        ("something new", ""),
    ],
)
def test_known_failures_are_put_in_words(tmp_path: Path, message: str, key: str) -> None:
    folder = make(tmp_path)
    folder.set_state("failed", error={"what": "it broke", "traceback": message})
    answer = Run(folder.path).explain()
    assert answer.key == key
    assert answer.fixes


def test_checkpoints_and_their_pointers(tmp_path: Path) -> None:
    folder = make(tmp_path)
    for step, verified in ((5, True), (10, True), (15, False)):
        point = folder.checkpoints_dir / f"epoch_0_step_{step}"
        (point / "training").mkdir(parents=True)
        (point / "manifest.json").write_text(json.dumps({"verified": verified}))
    (folder.checkpoints_dir / "epoch_0_step_20.tmp").mkdir()
    (folder.checkpoints_dir / "latest").symlink_to("epoch_0_step_10")
    (folder.checkpoints_dir / "best.txt").write_text("epoch_0_step_5\n")
    run = Run(folder.path)
    assert [(one.step, one.verified, one.latest, one.best) for one in run.checkpoints] == [
        (5, True, False, True),
        (10, True, True, False),
        (15, False, False, False),
    ]
    assert run.resume_point is not None
    assert run.resume_point.step == 10


def test_attach_by_latest_id_name_and_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RunError, match="no runs"):
        attach(root=tmp_path)
    old, new = make(tmp_path, model="alpha"), make(tmp_path, model="beta")
    new.update(created=old.record()["created"] + 5)
    (tmp_path / "not-a-run").mkdir()
    assert [run.id for run in runs(tmp_path)] == [new.id, old.id]
    monkeypatch.setenv("AUTOMODEL_RUNS", str(tmp_path))
    assert attach().id == new.id
    assert attach(old.id).path == old.path
    assert attach("alpha").path == old.path
    assert attach(old.path).id == old.id
    with pytest.raises(RunError, match="Several"):
        attach("-sft-")
    with pytest.raises(RunError, match="No run"):
        attach("gamma")


def test_a_run_shows_as_text_and_as_safe_html(tmp_path: Path) -> None:
    folder = make(tmp_path / "<b>root", model="m")
    run = Run(folder.path)
    html = run._repr_html_()
    assert "&lt;b&gt;root" in html
    assert "<b>" not in html
    assert "http" not in html
    assert "state:" in str(run)
    assert run.id in repr(run)


def test_compare_shows_only_what_differs(tmp_path: Path) -> None:
    first = make(tmp_path, recipe_yaml="seed: 1\noptimizer:\n  lr: 0.1\n")
    second = make(tmp_path, recipe_yaml="seed: 1\noptimizer:\n  lr: 0.2\npeft:\n  dim: 8\n")
    second.metric(step=3, split="validation", loss=1.25)
    table = compare(Run(first.path), second.path)
    assert table.settings == {"optimizer.lr": ("0.1", "0.2"), "peft.dim": ("-", "8")}
    assert table.outcome["best validation loss"] == ("-", "1.25")
    assert "optimizer.lr" in str(table)


def test_time_left_counts_this_session_only() -> None:
    pace = Pace()
    assert pace.eta(500, 1000, now=10.0) is None
    assert pace.eta(510, 1000, now=20.0) == pytest.approx(490)


def test_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = make_reporter(sys.stdout)
    assert isinstance(reporter, PlainReporter)
    reporter.step({"step": 1, "loss": 2.31, "lr": 1e-4, "tokens_per_second": 1200.4}, 3)
    reporter.step({"step": 2, "loss": 2.0}, 3)
    reporter.step({"step": 3, "loss": 1.5}, 3)
    reporter.validation({"step": 3, "split": "validation", "loss": 1.25})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "step 1/3 loss 2.31 lr 0.0001 1200 tok/s"
    assert lines[1].startswith("step 3/3 loss 1.5 eta 0:00"), "the second came too soon after the first"
    assert lines[2] == "validation at step 3: loss 1.25"


def test_a_bar_on_a_terminal() -> None:
    import io

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    reporter = make_reporter(stream)
    assert isinstance(reporter, RichReporter)
    reporter.step({"step": 1, "loss": 2.0}, 2)
    reporter.event("warning", "[red]not markup")
    reporter.step({"step": 2, "loss": 1.0}, 2)
    reporter.close()
    assert "step 2/2 loss 1" in stream.getvalue()
    assert "[red]not markup" in stream.getvalue()


def test_a_job_with_a_failed_rank_has_failed_however_the_others_ended(tmp_path: Path) -> None:
    folder = make(tmp_path)
    folder.rank_status(1, phase="failed", error=ValueError("row 17"))
    folder.set_state("stopped", step=4)
    assert folder.record()["state"] == "failed"
    assert folder.record()["error"]["rank"] == 1
    folder.prepare_resume(step=0)
    folder.set_state("stopped")
    assert folder.record()["state"] == "stopped"
