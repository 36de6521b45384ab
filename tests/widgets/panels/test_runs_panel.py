"""The table of runs as HTML, and what its buttons do."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from automodel.run import Run
from automodel_widgets.panels.runs import Runs
from automodel_widgets.state.session import Session
from tests.widgets.fake_runs import MEMORY, fake_run


@pytest.fixture
def made(tmp_path: Path) -> list[Run]:
    return [
        fake_run(tmp_path, "alpha", created=3000, checks={3: 1.25}, points=(3,)),
        fake_run(tmp_path, "beta", created=2000, state="failed", error=MEMORY, lr=1e-3),
        fake_run(tmp_path, "gamma", created=1000, state="stopped"),
    ]


def panel(root: Path, *, session: Session | None = None) -> Runs:
    made = Runs(root=root, session=session)
    made.watch = lambda: None  # type: ignore[method-assign]
    made.later = lambda work: made.guarded(work)  # type: ignore[method-assign]
    return made


def buttons(html: str, act: str) -> list[str]:
    return re.findall(rf"<button[^>]*data-act=\"runs\.{act}\"[^>]*>.*?</button>", html)


def alive(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a run be one of this living process."""
    from automodel.run.folder import RunFolder

    RunFolder(run.path).claim(launcher="supervisor", world_size=1)
    RunFolder(run.path).set_state("training")


def test_rows_with_state_and_sorting(made: list[Run], tmp_path: Path) -> None:
    shown = panel(tmp_path)
    html = shown.html()
    assert [html.index(run.path.name) for run in made] == sorted(html.index(run.path.name) for run in made)
    assert 'aria-sort="descending"' in html
    assert "The GPU ran out of memory" in html
    assert "1.25" in html
    shown.handle("runs.sort", "loss", {})
    html = shown.html()
    assert len(re.findall('aria-sort="(?:as|des)cending"', html)) == 1
    assert re.search(r'<th[^>]*aria-sort="ascending"[^>]*><button[^>]*data-value="loss"', html)


def test_the_bar_works_on_the_ticked_run_and_says_why_not(made: list[Run], tmp_path: Path) -> None:
    shown = panel(tmp_path)
    assert 'title="Tick one run first"' in buttons(shown.html(), "open")[0]
    shown.handle("runs.choose", made[0].path.name, {})
    html = shown.html()
    assert "aria-disabled" not in buttons(html, "report")[0]
    assert "It has finished" in buttons(html, "resume")[0]
    shown.handle("runs.choose", made[1].path.name, {})
    html = shown.html()
    assert 'title="Tick only one run"' in buttons(html, "report")[0]
    shown.handle("runs.clear", None, {})
    assert "Tick one run to work with it" in shown.html()


def test_two_ticked_runs_are_compared(made: list[Run], tmp_path: Path) -> None:
    shown = panel(tmp_path)
    for run in made[:2]:
        shown.handle("runs.choose", run.path.name, {})
    html = shown.html()
    assert "Comparison of 2 runs" in html
    assert '<svg viewBox="0 0 760 320" role="img"' in html
    assert "<code>optimizer.lr</code>" in html
    assert "The chart in words and numbers" in html
    shown.handle("runs.curve", "tokens_per_second", {})
    assert "None of these runs has this curve yet" in shown.html()


def test_the_comparison_as_a_figure(made: list[Run], tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    shown = panel(tmp_path)
    for run in made[:2]:
        shown.handle("runs.choose", run.path.name, {})
    assert {trace.name.split()[0] for trace in shown.figure().data} == {run.path.name for run in made[:2]}


def test_a_failure_is_explained_below_its_row(made: list[Run], tmp_path: Path) -> None:
    shown = panel(tmp_path)
    assert "Likely cause" not in shown.html()
    shown.handle("runs.why", made[1].path.name, {})
    html = shown.html()
    assert "Likely cause" in html
    assert html.index(made[1].path.name) < html.index("Likely cause") < html.index(made[2].path.name)
    assert buttons(html, "rerun")
    shown.handle("runs.why", made[1].path.name, {})
    assert "Likely cause" not in shown.html()


def test_a_fix_starts_the_run_anew(made: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from automodel_widgets.state import jobs

    asked: list[tuple[Run, list[str]]] = []

    def rerun(run: Run, changes: list[str], *, root: Path) -> Run:
        asked.append((run, changes))
        return made[0]

    monkeypatch.setattr(jobs, "rerun", rerun)
    session = Session(root=tmp_path)
    shown = panel(tmp_path, session=session)
    shown.handle("runs.why", made[1].path.name, {})
    value = re.search(r'data-act="runs\.rerun" data-value="([^"]*)"', shown.html())
    assert value
    shown.handle("runs.rerun", value[1], {})
    assert asked[0][0].path == made[1].path
    assert asked[0][1][0].startswith("--")
    assert session.run is made[0]


def test_delete_asks_by_name_and_can_be_refused(made: list[Run], tmp_path: Path) -> None:
    session = Session(root=tmp_path)
    session.run = made[2]
    shown = panel(tmp_path, session=session)
    key = made[2].path.name
    shown.handle("runs.ask-delete", key, {})
    assert f"Delete {key}?" in shown.html()
    shown.handle("runs.delete", "cancel", {})
    assert made[2].path.is_dir()
    assert "<dialog" not in shown.html()
    shown.handle("runs.delete", key, {})
    assert made[2].path.is_dir(), "nothing was asked"
    shown.handle("runs.ask-delete", key, {})
    shown.handle("runs.delete", key, {})
    assert not made[2].path.exists()
    assert session.run is None
    assert key not in shown.html()


def test_a_living_run_is_not_deleted(made: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive(made[0], monkeypatch)
    shown = panel(tmp_path)
    shown.handle("runs.choose", made[0].path.name, {})
    html = shown.html()
    assert 'title="It is still training: stop it first"' in buttons(html, "ask-delete")[0]
    assert 'title="It is still running"' in buttons(html, "resume")[0]
    shown.handle("runs.ask-delete", made[0].path.name, {})
    shown.handle("runs.delete", made[0].path.name, {})
    assert made[0].path.is_dir()
    assert "still runs" in shown.html()


def test_open_goes_to_the_monitor(made: list[Run], tmp_path: Path) -> None:
    session, opened = Session(root=tmp_path), list[str]()
    shown = panel(tmp_path, session=session)
    shown.open_tab = opened.append
    shown.handle("runs.open", made[0].path.name, {})
    assert session.run is not None
    assert session.run.path == made[0].path
    assert opened == ["monitor"]


def test_alone_the_monitor_opens_below(made: list[Run], tmp_path: Path) -> None:
    shown = panel(tmp_path)
    shown.handle("runs.open", made[0].path.name, {})
    html = shown.html()
    assert 'data-panel="monitor"' in html
    shown.handle("runs.open", made[1].path.name, {})
    assert shown.html().count('data-panel="monitor"') == 1


def test_the_report_is_written_and_can_be_saved(made: list[Run], tmp_path: Path) -> None:
    shown = panel(tmp_path)
    shown.handle("runs.report", made[0].path.name, {})
    html = shown.html()
    assert (made[0].path / "report.html").is_file()
    assert f'download="{made[0].path.name}.html"' in html


def test_a_run_that_is_gone_is_said(made: list[Run], tmp_path: Path) -> None:
    shown = panel(tmp_path)
    shown.handle("runs.open", "nothing", {})
    assert "Look again" in shown.html()
    assert "no run" in shown.html()


def test_a_class(tmp_path: Path) -> None:
    for number in range(30):
        fake_run(tmp_path / f"student-{number:02}", "lesson", created=number, state="failed" if number % 3 == 0 else "finished", error=MEMORY)
    (tmp_path / "late").mkdir()
    began = time.perf_counter()
    shown = Runs(root=tmp_path, by="student")
    shown.watch = lambda: None  # type: ignore[method-assign]
    html = shown.html()
    assert time.perf_counter() - began < 5
    assert html.count('data-key="student:') == 31
    assert "No run yet" in html
    assert "Delete" not in html
    shown.handle("runs.student", "student-04", {})
    html = shown.html()
    assert "Runs of student-04" in html
    assert "Delete…" in html
    shown.handle("runs.student", "", {})
    assert "Class" in shown.html()


def test_text_of_others_is_escaped(tmp_path: Path) -> None:
    error = {"rank": 0, "type": "<img src=x>", "what": "<script>alert(1)</script>"}
    fake_run(tmp_path, "bad", state="failed", error=error, model="<b>model</b>")
    shown = panel(tmp_path)
    shown.handle("runs.why", shown.state.rows[0].key, {})
    html = shown.html()
    for part in ("<script>", "<img", "<b>"):
        assert part not in html


def test_the_static_copy_names_the_runs_and_has_nothing_to_press(made: list[Run], tmp_path: Path) -> None:
    copy = panel(tmp_path).twin()
    assert "<button" not in copy
    for word in ("alpha", "beta", "gamma", "Best validation"):
        assert word in re.sub(r"<[^>]*>", " ", copy)
    assert "Delete" not in copy


def test_the_question_says_where_checkpoints_stay(made: list[Run], tmp_path: Path) -> None:
    from automodel.run.files import write_json

    shown, run = panel(tmp_path), made[0]
    shown.handle("runs.ask-delete", run.path.name, {})
    assert "its 1 checkpoint" in shown.html()
    elsewhere = tmp_path.parent / "kept"
    (run.path / "checkpoints").rename(elsewhere)
    write_json(run.path / "run.json", {**run.folder.record(), "checkpoints_dir": str(elsewhere)})
    assert f"<code>{elsewhere}</code> and stay" in shown.html()
    shown.handle("runs.delete", run.path.name, {})
    assert not run.path.exists()
    assert elsewhere.is_dir()


def test_a_class_of_thirty_with_twenty_runs_each_is_there_within_a_second(tmp_path: Path) -> None:
    for student in range(30):
        for number in range(20):
            fake_run(tmp_path / f"student-{student:02}", f"r{number}", created=1000.0 + number, losses=(2.0,) * 50, checks={50: 1.5})
    began = time.perf_counter()
    html = Runs(root=tmp_path, by="student").html()
    assert time.perf_counter() - began < 1
    assert html.count("student-") >= 30
