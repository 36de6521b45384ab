"""Answers kept with a run: read back as they were written, shown in the report and on the card, escaped and without places or secrets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from automodel.hub import model_card
from automodel.run import Run
from automodel.run.kept import KEPT, Cell, Result, read_kept, write_kept
from automodel.run.report import report_text
from tests.widgets.fake_runs import fake_run

ANSWERED: dict[str, Any] = {"checkpoint": "epoch_0_step_4", "step": 4, "settings": {"max_new_tokens": 64, "temperature": 0.0, "seed": 0}}
SECRET = "hf_" + "a" * 34


def done(text: str, **changes: Any) -> Cell:
    return Cell(text=text, state="done", **changes)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return fake_run(tmp_path, points=(2, 4))


def test_what_is_written_is_read(run: Run) -> None:
    assert read_kept(run.path) is None
    results = [Result("Who?", done("A bear"), done("A badger", finished=False)), Result("When?", Cell(state="refused"), done("Now"))]
    assert write_kept(run.path, ANSWERED, results) == run.path / KEPT
    kept = read_kept(run.path)
    assert kept is not None
    assert list(kept.results) == results
    assert (kept.checkpoint, kept.step, kept.how) == ("epoch_0_step_4", 4, "at most 64 tokens, always the likeliest token")
    assert [one.same for one in kept.results] == [False, None]
    assert [one.base.shown for one in kept.results] == ["A bear", "-"]
    assert kept.results[0].tuned.shown == "A badger […]"
    drawn = {**ANSWERED, "settings": {"max_new_tokens": 8, "temperature": 0.7, "seed": 3}}
    write_kept(run.path, drawn, results)
    again = read_kept(run.path)
    assert again is not None
    assert again.how == "at most 8 tokens, drawn at temperature 0.7 with seed 3"


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"results": [{}]}',
        '{"checkpoint": "c", "results": [{"prompt": "p", "base": {"text": 1}, "tuned": {}}]}',
        '{"checkpoint": "c", "settings": {"temperature": "hot"}, "results": []}',
    ],
)
def test_another_form_is_nothing(run: Run, text: str) -> None:
    (run.path / KEPT).write_text(text)
    assert read_kept(run.path) is None
    assert "tuned model" not in report_text(run)


def test_the_report_shows_them_escaped(run: Run) -> None:
    assert "Base model and tuned model" not in report_text(run)
    write_kept(run.path, ANSWERED, [Result("<b>Who?</b>", done("<script>x</script>"), done("A & B\nC"))])
    text = report_text(run)
    assert "Base model and tuned model" in text
    assert "Tuned model: epoch_0_step_4." in text
    assert "&lt;b&gt;Who?&lt;/b&gt;" in text
    assert "&lt;script&gt;x&lt;/script&gt;" in text
    assert "A &amp; B<br>C" in text
    assert "<script" not in text


def test_the_card_takes_those_of_its_own_checkpoint(run: Run) -> None:
    long = "word " * 100
    run.folder.event("sample", prompt="A row of the data", answer="x", step=2)
    results = [
        Result("Who | <b>?", done(f"see /home/ann/secret/notes.txt {SECRET}"), done("line\nline `code`")),
        Result("How long?", Cell(state="refused"), done(long)),
        Result("A row of the data", done("a"), done("b")),
        Result("Not answered", done("a"), Cell(state="cancelled")),
    ]
    write_kept(run.path, ANSWERED, results)
    text = model_card(run, checkpoint="epoch_0_step_4", write=False).text
    assert "at most 64 tokens, always the likeliest token" in text
    assert "<code>Who &#124; &lt;b&gt;?</code>" in text
    assert "<code>line<br>line `code`</code>" in text
    assert f"<code>{long[:200]}…</code>" in text
    assert "notes.txt" in text
    for hidden in ("/home/ann", SECRET, "A row of the data", "Not answered"):
        assert hidden not in text
    assert "base model | this model" not in model_card(run, checkpoint="epoch_0_step_2", write=False).text
