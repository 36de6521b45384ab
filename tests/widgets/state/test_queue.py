"""The queue of a class: whose turn it is, what happens to the dead, and that two notebooks never take one slot."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from automodel.errors import RequestError
from automodel.run.folder import RunFolder
from automodel.run.process import identify
from automodel_widgets.state.queue import RUNNING, STARTING, STOPPING, WAITING, ClassQueue, Ticket, folder_name, turns

ME = identify().as_dict()
DEAD = {**ME, "start": 1.0}


def ticket(student: str, created: float, state: str = WAITING, **more: Any) -> Ticket:
    return Ticket(f"{student}{created:g}", student, "model", created, ME, state=state, **more)


def run_folder(root: Path, state: str = "training") -> RunFolder:
    made = RunFolder.create(root, recipe_yaml="{}", user_yaml="{}", command=["x"], model="m", task="sft")
    made.claim(launcher="supervisor", world_size=1)
    made.set_state(state)
    return made


def names(tickets: list[Ticket]) -> list[str]:
    return [one.student for one in tickets]


def test_everybody_gets_a_turn_before_anybody_gets_a_second() -> None:
    waiting = [ticket("ada", 1), ticket("ada", 2), ticket("ben", 3), ticket("cleo", 4), ticket("ben", 5)]
    assert names(turns(waiting)) == ["ada", "ben", "cleo", "ada", "ben"]


def test_who_ran_least_recently_goes_first_and_who_runs_goes_last() -> None:
    past = [ticket("ada", 0, "finished", started=50.0, ended=60.0), ticket("ben", 0, "finished", started=20.0, ended=30.0)]
    running = [ticket("cleo", 0, RUNNING, started=10.0)]
    waiting = [ticket("ada", 70), ticket("ben", 71), ticket("cleo", 69), ticket("dan", 72)]
    assert names(turns([*past, *running, *waiting])) == ["dan", "ben", "ada", "cleo"]


def test_a_slot_is_taken_only_in_turn(tmp_path: Path) -> None:
    queue = ClassQueue(tmp_path)
    first, second = queue.join("ada", "m"), queue.join("ben", "m")
    assert queue.claim([second.id]) is None
    claimed = queue.claim([first.id])
    assert claimed is not None
    assert (claimed.state, names(queue.order())) == (STARTING, ["ben"])
    assert queue.claim([second.id]) is None, "the only slot is taken"
    queue.failed(first.id, "no such model")
    assert queue.claim([second.id]) is not None


def test_more_slots_let_more_start(tmp_path: Path) -> None:
    queue = ClassQueue(tmp_path)
    queue.set(slots=2, minutes=5)
    mine = [queue.join(name, "m").id for name in ("ada", "ben", "cleo")]
    assert [queue.claim(mine) is not None for _ in range(3)] == [True, True, False]
    assert (queue.slots, queue.minutes) == (2, 5)


def test_thirty_notebooks_at_once_fill_the_slots_exactly(tmp_path: Path) -> None:
    queue = ClassQueue(tmp_path)
    queue.set(slots=4)
    got: list[Ticket | None] = []

    def student(number: int) -> None:
        mine = ClassQueue(tmp_path)
        made = mine.join(f"s{number}", "m")
        got.append(mine.claim([made.id]))

    threads = [threading.Thread(target=student, args=(number,)) for number in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(one is not None for one in got) == 4
    assert len(queue.tickets()) == 30


def test_a_closed_notebook_loses_its_place(tmp_path: Path) -> None:
    queue = ClassQueue(tmp_path)
    gone, here = queue.join("ada", "m"), queue.join("ben", "m")
    queue._change(gone.id, lambda one: replace(one, owner=DEAD))
    states = {one.student: one.state for one in queue.look([here.id])}
    assert states == {"ada": "gone", "ben": WAITING}
    assert queue.claim([here.id]) is not None


def test_a_notebook_of_another_container_counts_while_it_looks(tmp_path: Path) -> None:
    queue = ClassQueue(tmp_path)
    made = queue.join("ada", "m")
    queue._change(made.id, lambda one: replace(one, owner={**ME, "host": "elsewhere"}))
    assert queue.look()[0].state == WAITING
    queue._change(made.id, lambda one: replace(one, seen=time.time() - 1000))
    assert queue.look()[0].state == "gone"


def test_a_job_that_ends_frees_its_slot(tmp_path: Path) -> None:
    queue, folder = ClassQueue(tmp_path), run_folder(tmp_path / "ada")
    made = queue.join("ada", "m")
    assert queue.claim([made.id]) is not None
    queue.started(made.id, folder.path)
    assert queue.look()[0].state == RUNNING
    folder.set_state("finished")
    folder.update(pid=ME["pid"], start=1.0)
    assert queue.look()[0].state == "finished"


def test_a_job_over_its_time_is_stopped_and_saved(tmp_path: Path) -> None:
    queue, folder = ClassQueue(tmp_path), run_folder(tmp_path / "ada")
    made = queue.join("ada", "m")
    queue.claim([made.id])
    queue.started(made.id, folder.path)
    queue._change(made.id, lambda one: replace(one, started=time.time() - 3600))
    assert queue.look()[0].state == STOPPING
    assert folder.requests().stop
    assert folder.requests().save_on_stop
    queue.set(minutes=0)
    assert queue.look()[0].state == STOPPING, "it still holds its slot until it has saved"


def test_a_deleted_run_frees_its_slot(tmp_path: Path) -> None:
    queue = ClassQueue(tmp_path)
    made = queue.join("ada", "m")
    queue.claim([made.id])
    queue.started(made.id, tmp_path / "nowhere")
    assert queue.look()[0].state == "gone"


def test_only_a_waiting_ticket_can_be_given_back(tmp_path: Path) -> None:
    queue = ClassQueue(tmp_path)
    first, second = queue.join("ada", "m"), queue.join("ada", "m")
    queue.claim([first.id])
    queue.leave(first.id)
    queue.leave(second.id)
    assert [one.state for one in queue.tickets()] == [STARTING, "left"]


def test_the_file_is_hidden_and_open_to_who_may_write_the_class_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o770)
    queue = ClassQueue(tmp_path)
    queue.join("ada", "m")
    assert queue.folder.name.startswith(".")
    assert (queue.folder / "lock").stat().st_mode & 0o777 == 0o660
    assert queue.folder.stat().st_mode & 0o777 == 0o770


@pytest.mark.parametrize("change", [{"slots": 0}, {"slots": 1000}, {"minutes": -1.0}])
def test_settings_that_make_no_sense_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        ClassQueue(tmp_path).set(**change)


def test_a_name_becomes_a_folder() -> None:
    assert [folder_name(name) for name in ("Ada Lovelace", " ../ben ", "Zoë")] == ["Ada-Lovelace", "ben", "Zoë"]
    with pytest.raises(RequestError):
        folder_name(" ../ ")
