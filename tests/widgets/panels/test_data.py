"""The data panel, driven by actions without a browser."""

from __future__ import annotations

import json
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("anywidget")

from automodel_widgets.panels.data import DataView
from automodel_widgets.state import jobs
from automodel_widgets.state.answers import answer
from automodel_widgets.state.data import DEMO_DATA
from automodel_widgets.state.model import DEMO_MODEL
from automodel_widgets.state.session import Session
from tests.vision import chat_rows, make_image, make_llava


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Answer in this process, and note what was asked."""
    asked: list[dict[str, Any]] = []

    def submit(question: str, *args: Any, **kwargs: Any) -> Future[Any]:
        asked.append({"question": question, **kwargs})
        future: Future[Any] = Future()
        try:
            future.set_result(answer(question, args, kwargs))
        except Exception as error:
            future.set_exception(error)
        return future

    monkeypatch.setattr(jobs, "submit", submit)
    return asked


def settled(panel: DataView) -> DataView:
    end = time.monotonic() + 60
    while panel._busy and time.monotonic() < end:
        time.sleep(0.01)
    assert not panel._busy
    return panel


def demo(**dataset: Any) -> dict[str, Any]:
    return {
        "model": {"pretrained_model_name_or_path": str(DEMO_MODEL)},
        "dataset": {"path_or_dataset": str(DEMO_DATA), "split": "train[:40]", **dataset},
    }


def test_without_data_the_button_says_what_is_missing() -> None:
    panel = DataView()
    assert "Choose a dataset first" in panel.html()
    assert "not looked at yet" in panel.html()
    panel.handle("data.look", None, {})
    assert panel.state.answer is None


def test_the_demo_data_in_one_click() -> None:
    panel = DataView()
    panel.handle("data.demo", None, {})
    html = settled(panel).html()
    assert panel.session.get("dataset.path_or_dataset") == str(DEMO_DATA)
    assert panel.session.get("model.pretrained_model_name_or_path") == str(DEMO_MODEL)
    assert "ready to train on" in html
    assert 'class="am-token am-trained"' in html
    assert "Row 0: 94 tokens, 3 trained on" in html
    assert panel.session.facts["data"]["state"] == "ready"


def test_rows_pages_and_the_worst_first(here: list[dict[str, Any]]) -> None:
    panel = settled(DataView(demo()))
    panel.handle("data.page", 1, {})
    assert [row["index"] for row in settled(panel).state.rows] == list(range(8, 16))
    assert here[-1]["fresh"] is False
    panel.handle("data.order", "worst", {})
    shares = [row["trained_count"] / row["token_count"] for row in settled(panel).state.rows]
    assert shares == sorted(shares)
    assert "smallest share" in panel.html()
    panel.handle("data.row", str(panel.state.rows[2]["index"]), {})
    assert panel.state.open_row == panel.state.rows[2]
    panel.handle("data.shape", "text", {})
    assert "⟦" in panel.html()


def test_lengths_and_packing_have_tables() -> None:
    panel = settled(DataView(demo()))
    panel.handle("data.side", "lengths", {})
    assert "<svg" in panel.html()
    assert "Rows by length" in panel.html()
    panel.handle("data.side", "packing", {})
    assert "filling" in panel.html()
    assert "<caption" in panel.html()


def test_nothing_to_train_on_blocks_the_launch(tmp_path: Path) -> None:
    file = tmp_path / "empty.jsonl"
    file.write_text(json.dumps({"context": "c", "question": "q", "answers": {"text": []}}) + "\n")
    session = Session(demo(path_or_dataset=str(file), split="train"))
    panel = DataView(session=session)
    panel.handle("data.look", None, {})
    html = settled(panel).html()
    assert "The launch is blocked" in html
    assert 'role="alert"' in html
    assert "launch is blocked" in html
    assert session.facts["data"]["state"] == "blocked"
    session.set("dataset.path_or_dataset", str(DEMO_DATA))
    assert "data" not in session.facts
    assert "changed since" in panel.html()


def test_an_error_is_shown_in_place() -> None:
    panel = settled(DataView(demo(path_or_dataset="/nowhere/x.json")))
    assert "does not exist" in panel.html()
    assert "To mend it" in panel.html()


def test_fields_write_the_recipe() -> None:
    panel = DataView()
    for name, value in {"path": "a.json, b.json", "kind": "column_mapped", "split": "train[:5]", "length": "128", "answer": "output"}.items():
        panel.handle(f"data.{name}", value, {})
    assert panel.session.recipe == {
        "dataset": {
            "path_or_dataset": ["a.json", "b.json"],
            "name": "column_mapped",
            "split": "train[:5]",
            "seq_length": 128,
            "column_mapping": {"answer": "output"},
        }
    }
    assert "Column of the question" in panel.html()
    panel.handle("data.length", "many", {})
    assert "number of tokens" in panel.html()
    assert panel.session.get("dataset.seq_length") == 128
    for name in ("path", "length", "split"):
        panel.handle(f"data.{name}", "", {})
    panel.handle("data.kind", "squad", {})
    assert panel.session.recipe == {}


def test_plain_text_is_trained_on_whole(tmp_path: Path) -> None:
    file = tmp_path / "text.jsonl"
    file.write_text(json.dumps({"text": "The badger lives in <sandy> caves."}) + "\n")
    panel = settled(DataView(demo(name="text", path_or_dataset=str(file), split="train", seq_length=8)))
    assert panel.state.share > 0.7
    assert "&lt;" in panel.html()
    assert "<sandy>" not in panel.html()


def test_a_conversation_shows_each_answer_as_a_stretch(tmp_path: Path) -> None:
    file = tmp_path / "talk.jsonl"
    talk = [("user", "Who built it?"), ("assistant", "Anna."), ("user", "When?"), ("assistant", "In 1821.")]
    file.write_text(json.dumps({"messages": [{"role": role, "content": content} for role, content in talk]}) + "\n")
    panel = settled(DataView(demo(name="chat", path_or_dataset=str(file), split="train")))
    assert "need a chat template" in panel.html()
    template = "{% for m in messages %}<{{ m.role }}>{{ m.content + eos_token }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
    for name, value in {"template": template, "system": "Be brief.", "look": None}.items():
        panel.handle(f"data.{name}", value, {})
    html = settled(panel).html()
    assert html.count('<strong class="am-run">') == 2
    assert [token["text"] for token in panel.state.rows[0]["tokens"]].count("<|end|>") == 5
    assert panel.state.rows[0]["text"].startswith("<system>Be brief.<|end|><user>")
    panel.handle("data.shape", "text", {})
    assert "<strong>⟦In 1821.&lt;|end|&gt;⟧</strong>" in panel.html()
    file.write_text(json.dumps({"messages": [{"role": "user", "content": "Hello"}]}) + "\n")
    panel.handle("data.look", None, {})
    assert "The launch is blocked" in settled(panel).html()
    panel.handle("data.demo", None, {})
    assert settled(panel).session.recipe["dataset"] == {"path_or_dataset": str(DEMO_DATA)}


def test_kinds_that_are_not_built_say_so() -> None:
    panel = settled(DataView(demo(name="hellaswag")))
    assert "cannot run it yet" in panel.html()


def test_a_late_answer_of_older_settings_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    panel = settled(DataView(demo()))
    waiting: Future[Any] = Future()
    monkeypatch.setattr(jobs, "submit", lambda *args, **kwargs: waiting)
    panel.look()
    panel._turn += 1
    before = panel.state.answer
    waiting.set_result({"rows": []})
    time.sleep(0.1)
    assert panel.state.answer is before


@pytest.fixture
def pictures(tmp_path: Path) -> dict[str, Any]:
    return {
        "recipe": "FinetuneRecipeForVLM",
        "model": {"pretrained_model_name_or_path": str(make_llava(tmp_path / "llava"))},
        "dataset": {"name": "chat", "path_or_dataset": str(chat_rows(tmp_path))},
    }


def test_rows_with_images_show_pictures_and_one_chip_each(pictures: dict[str, Any]) -> None:
    panel = settled(DataView(pictures))
    assert "ready to train on" in panel.html()
    panel.handle("data.demo", None, {})
    assert panel.session.get("dataset.name") == "chat"
    assert "The demo data hold no images" in panel.html()
    panel.handle("data.row", 2, {})
    html = panel.html()
    assert html.count('<img src="data:image/jpeg;base64,') == 2
    assert 'alt="image 2, 4 tokens: 2-1.png, 80 × 68 pixels"' in html
    assert html.count(">image 1, 4 tokens</span>") == html.count(">image 2, 4 tokens</span>") == 1
    assert 'title="image 1, 4 tokens, only read"' in html
    assert "&lt;image&gt;" not in html
    panel.handle("data.shape", "text", {})
    assert "[image 1, 4 tokens][image 2, 4 tokens]Who built bridge 2?" in panel.html()
    panel.handle("data.row", 4, {})
    assert "<img" not in panel.html()


def test_the_form_offers_a_column_of_images(pictures: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "columns.jsonl"
    file.write_text(json.dumps({"picture": make_image(tmp_path / "a.png").name, "ask": "What is it?", "reply": "A bridge."}) + "\n")
    panel = settled(DataView(pictures))
    panel.handle("data.kind", "column_mapped", {})
    assert "Column of the image" in panel.html()
    assert "Plain text" not in panel.html()
    assert "longer rows are left out" in panel.html()
    panel.handle("data.path", str(file), {})
    for role, column in {"image": "picture", "question": "ask", "answer": "reply"}.items():
        panel.handle(f"data.{role}", column, {})
    panel.handle("data.look", None, {})
    html = settled(panel).html()
    assert panel.session.get("dataset.column_mapping") == {"image": "picture", "question": "ask", "answer": "reply"}
    assert "image 1, 4 tokens: a.png, 60 × 40 pixels" in html
    panel.session.set("recipe", None)
    assert "Column of the image" not in panel.html()


def test_a_job_on_text_says_which_job_reads_images(pictures: dict[str, Any]) -> None:
    html = settled(DataView({**pictures, "recipe": "TrainFinetuneRecipeForNextTokenPrediction"})).html()
    assert "launch is blocked" in html
    assert "FinetuneRecipeForVLM" in html
