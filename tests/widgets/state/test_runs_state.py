"""The table of runs: rows, order, the class, and the comparison."""

from __future__ import annotations

from pathlib import Path
from zlib import crc32

from automodel.run.files import append_line
from automodel_widgets.state.runs import SLOTS, RunsState
from tests.widgets.fake_runs import MEMORY, fake_run


def several(root: Path) -> RunsState:
    fake_run(root, "first", created=1000, losses=(3.0, 2.0), checks={2: 2.5}, lr=1e-4)
    fake_run(root, "second", created=2000, losses=(4.0,), state="failed", error=MEMORY)
    fake_run(root, "third", created=3000, losses=(3.0, 1.0, 0.5), checks={1: 2.0, 3: 1.5}, lr=2e-4, state="stopped")
    state = RunsState(root)
    state.look()
    return state


def names(state: RunsState) -> list[str]:
    return [row.label.split("-")[0] for row in state.in_order()]


def test_newest_first_with_what_matters(tmp_path: Path) -> None:
    state = several(tmp_path)
    assert names(state) == ["third", "second", "first"]
    row = state.in_order()[0]
    assert (row.word, row.step, row.status.loss, row.best, row.task) == ("Stopped", "3 / 10", 0.5, 1.5, "sft")
    assert row.model == "llama"
    assert state.in_order()[1].problem == "The GPU ran out of memory"


def test_every_column_sorts_and_turns(tmp_path: Path) -> None:
    state = several(tmp_path)
    state.sort_by("loss")
    assert names(state) == ["third", "first", "second"]
    state.sort_by("loss")
    assert names(state) == ["second", "first", "third"]
    state.sort_by("best")
    assert names(state) == ["third", "first", "second"], "a run without a validation comes last"
    state.sort_by("best")
    assert names(state)[-1] == "second"
    state.sort_by("nothing")
    assert state.sort == "best"


def test_an_ended_run_is_read_once_and_a_changed_one_again(tmp_path: Path) -> None:
    state = several(tmp_path)
    before = {row.key: row for row in state.rows}
    third = state.in_order()[0]
    append_line(third.run.path / "metrics.jsonl", {"step": 4, "split": "train", "loss": 0.25})
    state.look()
    after = {row.key: row for row in state.rows}
    assert after[third.key].status.loss == 0.25
    assert all(after[key] is before[key] for key in before if key != third.key)


def test_lines_keep_their_style_while_chosen(tmp_path: Path) -> None:
    state = several(tmp_path)
    a, b, c = (row.key for row in state.in_order())
    assert all(state.choose(key, True) for key in (a, b, c))
    before = [state.slot(key) for key in (a, b, c)]
    assert len(set(before)) == 3
    state.choose(b, False)
    assert [state.slot(key) for key in (a, b, c)] == [before[0], None, before[2]]
    state.choose(b, True)
    assert [state.slot(key) for key in (a, b, c)] == before
    assert [row.key for row in state.chosen] == [a, c, b], "in the order in which they were ticked"
    assert not state.choose("gone", True)
    state.rows[0].run.delete()
    state.look()
    assert len(state.chosen) == 2


def test_a_run_has_the_same_line_wherever_it_is_compared(tmp_path: Path) -> None:
    runs = several(tmp_path).in_order()
    alone = {}
    for row in runs:
        state = RunsState(tmp_path)
        state.look()
        state.choose(row.key, True)
        alone[row.key] = state.slot(row.key)
    for order in (runs, runs[::-1]):
        state = RunsState(tmp_path)
        state.look()
        state.choose(order[0].key, True)
        assert state.slot(order[0].key) == alone[order[0].key] == crc32(order[0].run.id.encode()) % SLOTS


def test_no_more_lines_than_can_be_told_apart(tmp_path: Path) -> None:
    for number in range(SLOTS + 1):
        fake_run(tmp_path, f"r{number}", created=number)
    state = RunsState(tmp_path)
    state.look()
    assert [state.choose(row.key, True) for row in state.rows] == [True] * SLOTS + [False]


def test_the_comparison_has_only_what_differs(tmp_path: Path) -> None:
    state = several(tmp_path)
    first, third = state.in_order()[2], state.in_order()[0]
    state.choose(first.key, True)
    state.choose(third.key, True)
    found = state.comparison()
    assert found.settings == {"optimizer.lr": ("0.0001", "0.0002")}
    assert found.outcome["best validation loss"] == ("2.5", "1.5")
    assert state.comparison() is found, "read again only when something changed"


def test_the_overlay_has_words_and_numbers(tmp_path: Path) -> None:
    state = several(tmp_path)
    for row in state.rows:
        state.choose(row.key, True)
    drawn = state.overlay()
    assert drawn.svg.startswith("<svg")
    checked = next(row for row in state.chosen if row.best is not None)
    assert f'class="am-line{state.slot(checked.key)}"' in drawn.svg
    assert f"am-line{state.slot(checked.key)} am-check mark" in drawn.svg
    assert any("fell from 3 at step 1 to 0.5 at step 3" in one for one in drawn.sentences)
    assert len(drawn.head) == len(drawn.table[0])
    state.curve = "tokens_per_second"
    assert state.overlay().svg == "", "nothing was logged"


def test_a_class_is_a_row_for_each_student(tmp_path: Path) -> None:
    fake_run(tmp_path / "ada", "old", created=1)
    fake_run(tmp_path / "ada", "new", created=2, state="failed", error=MEMORY)
    fake_run(tmp_path / "bob" / "runs", "only", created=3)
    (tmp_path / "cleo").mkdir()
    state = RunsState(tmp_path, by="student")
    state.look()
    assert [(one.name, one.count) for one in state.students] == [("ada", 2), ("bob", 1), ("cleo", 0)]
    assert state.students[0].newest is not None
    assert state.students[0].newest.problem == "The GPU ran out of memory"
    assert state.counts() == {"Failed": 1, "Finished": 1, "No run yet": 1}
    state.student = "bob"
    state.look()
    assert names(state) == ["only"]


def test_an_empty_place_is_no_error(tmp_path: Path) -> None:
    for by in (None, "student"):
        state = RunsState(tmp_path / "nowhere", by=by)
        state.look()
        assert not state.rows
        assert not state.alive
