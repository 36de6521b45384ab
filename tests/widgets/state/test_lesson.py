"""Checks, the bundle without secrets, and the fresh start."""

from __future__ import annotations

import socket
import zipfile
from pathlib import Path
from typing import Any

import pytest

from automodel.errors import RequestError
from automodel.run import Run
from automodel.run.folder import RunFolder
from automodel_widgets.state import lesson
from automodel_widgets.state.devices import Device, Machine, User
from automodel_widgets.state.lesson import LessonState, make_bundle, preflight, scrub
from automodel_widgets.state.session import Session

RECIPE: dict[str, Any] = {"model": {"pretrained_model_name_or_path": "/data/models/tiny"}, "dataset": {"path_or_dataset": "d.jsonl"}}
KEY = "hf_" + "A1b2C3d4E5f6G7h8"


def run_folder(root: Path) -> RunFolder:
    made = RunFolder.create(root, recipe_yaml="model: x", user_yaml="model: x", command=["automodel", f"--token={KEY}"], model="m", task="sft")
    made.claim(launcher="supervisor", world_size=1)
    made.set_state("training")
    made.rank_status(0, phase="training")
    (made.path / "logs").mkdir(exist_ok=True)
    made.rank_log(0).write_text(f"loading {Path.home()}/models\nHF_TOKEN={KEY}\nOK\n")
    return made


@pytest.mark.parametrize(
    "secret",
    [
        KEY,
        f"Authorization: Bearer {KEY}",
        "https://ada:pass123@example.org/x",
        "api_key='0123456789abcdef'",
        '"wandb_api_key": "0123456789abcdef"',
        "password = correcthorse",
        "AWS_SECRET_ACCESS_KEY=abc/def+ghijklmnop",
        "ghp_0123456789abcdefABCDEF0123456789abcd",
        "sk-proj-0123456789abcdefABCDEF",
    ],
)
def test_secrets_are_taken_out(secret: str) -> None:
    clean, count = scrub(f"before {secret} after")
    assert count >= 1
    for part in ("A1b2C3d4", "pass123", "0123456789abcdef", "correcthorse", "abc/def"):
        assert part not in clean
    assert clean.startswith("before ")
    assert clean.endswith(" after")


@pytest.mark.parametrize(
    "plain", ["eos_token: <|endoftext|>", "tokens: 266,600", "token_count=123456", "label_tokens: 99640000", "1500 tok/s", "a secret garden"]
)
def test_what_is_no_secret_stays(plain: str) -> None:
    assert scrub(plain) == (plain, 0)


def test_people_and_machines_have_no_names() -> None:
    clean, _ = scrub(f"{Path.home()}/x /home/ada/y /Users/ben/z on {socket.gethostname()}")
    assert "ada" not in clean
    assert "ben" not in clean
    assert clean.startswith("~/x ~/y ~/z")


def test_a_bundle_holds_what_helps_and_no_secret(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "ada")
    recipe = {**RECIPE, "wandb": {"api_key": "0123456789abcdef"}}
    made = make_bundle(tmp_path / "help", run=Run(folder.path), recipe=recipe, checks=preflight(tmp_path))
    with zipfile.ZipFile(made.path) as archive:
        texts = {name: archive.read(name).decode() for name in archive.namelist()}
    assert {"checks.txt", "form.json", "versions.json", "recipe.yaml", "log-rank-0.txt", "explanation.txt", "run.json"} <= set(texts)
    assert texts.keys() == made.files.keys()
    everything = "\n".join(texts.values())
    assert KEY not in everything
    assert "0123456789abcdef" not in everything
    assert f"{Path.home()}/" not in everything
    assert "OK" in texts["log-rank-0.txt"]
    assert made.removed >= 3


def test_a_bundle_without_a_run(tmp_path: Path) -> None:
    assert "form.json" in make_bundle(tmp_path, run=None, recipe={}, checks=[]).files


def test_the_checks_cover_what_a_lesson_needs(tmp_path: Path) -> None:
    found = {check.name: check for check in preflight(tmp_path)}
    assert {"Python", "torch", "transformers", "Free disk", "Free memory", "Folder of the runs", "Hub login", "Model cache", "Widgets"} <= set(found)
    assert all(check.fix for check in found.values() if check.kind != "good")


def test_little_room_is_seen_and_the_fix_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lesson, "_free_memory", lambda: 0.5e9)
    found = {check.name: check for check in preflight(tmp_path)}
    assert found["Free memory"].kind == "bad"
    assert "close other notebooks" in found["Free memory"].fix


def test_a_missing_package_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = lesson._version
    monkeypatch.setattr(lesson, "_version", lambda name: None if name in ("torch", "anywidget") else real(name))
    found = {check.name: check for check in preflight(tmp_path)}
    assert found["torch"].kind == found["Widgets"].kind == "bad"


def test_a_ticket_starts_when_it_is_its_turn(tmp_path: Path) -> None:
    state = LessonState(Session(RECIPE, root=tmp_path), tmp_path, student="ada")
    asked: list[tuple[Any, ...]] = []

    def start(recipe: dict[str, Any], *, processes: int, devices: list[str] | None, root: Path) -> Run:
        asked.append((recipe, processes, root))
        return Run(run_folder(root).path)

    assert state.step(start) is None
    state.join(RECIPE)
    run = state.step(start)
    assert run is not None
    assert asked == [(RECIPE, 1, tmp_path / "ada")]
    assert not state.waiting
    assert state.queue.tickets()[0].run == str(run.path)


def test_jobs_of_the_queue_take_gpus_that_no_other_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = tuple(Device(f"cuda:{number}", "H200", 100, 90, 0.0, (User(7, "python3", 9),) * (number == 0)) for number in range(3))
    monkeypatch.setattr(lesson, "machine", lambda: Machine(Device("cpu", "CPU", 1, 1), 8, gpus))
    got: list[Any] = []

    def start(_recipe: dict[str, Any], *, processes: int, devices: list[str] | None, root: Path) -> Run:
        got.append(devices)
        made = run_folder(root)
        made.update(launch={"nproc_per_node": processes, "devices": devices})
        return Run(made.path)

    states = [LessonState(Session(RECIPE, root=tmp_path), tmp_path, student=name) for name in ("ada", "ben", "cleo")]
    states[0].queue.set(slots=3)
    for state in states:
        state.join(RECIPE)
    first = states[0].queue.claim([states[0].mine[0]])
    assert first is not None, "it is being started and has no run yet"
    states[1].step(start)
    assert got == [["2"]], "the first of those that nobody uses is left to the job that started before"
    states[0].queue.started(first.id, run_folder(tmp_path / "ada").path)
    states[2].step(start)
    assert got == [["2"], ["1"]]
    assert all(state._devices(first, 3) is None for state in states), "all of them: there is no choice"


def test_a_job_that_cannot_start_gives_its_slot_back(tmp_path: Path) -> None:
    state = LessonState(Session(RECIPE, root=tmp_path), tmp_path, student="ada")
    state.join(RECIPE)

    def start(*_args: Any, **_more: Any) -> Run:
        raise RequestError("No such model.")

    with pytest.raises(RequestError):
        state.step(start)
    assert [(one.state, one.why) for one in state.queue.tickets()] == [("failed", "No such model.")]


def test_a_fresh_start_stops_my_runs_and_nobody_elses(tmp_path: Path) -> None:
    mine, other = run_folder(tmp_path / "ada"), run_folder(tmp_path / "ben")
    session = Session(RECIPE, root=tmp_path / "ada")
    state = LessonState(session, tmp_path, student="ada")
    session.set("optimizer.lr", 1.0)
    state.join(session.recipe)
    assert state.reset() == [mine.path.name]
    assert mine.requests().stop
    assert not other.requests().stop
    assert session.recipe == RECIPE
    assert state.queue.tickets()[0].state == "left"
