"""The model panel, driven by actions without a browser."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("anywidget")

from automodel_widgets.panels.model import MODEL, ModelExplorer
from automodel_widgets.state import jobs
from automodel_widgets.state.answers import answer
from automodel_widgets.state.model import DEMO_MODEL
from automodel_widgets.state.session import Session

CONFIG = json.loads((DEMO_MODEL / "config.json").read_text())


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answer in this process."""

    def submit(question: str, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(answer(question, args, kwargs))
        except Exception as error:
            future.set_exception(error)
        return future

    monkeypatch.setattr(jobs, "submit", submit)


def until(true: Callable[[], Any]) -> None:
    end = time.monotonic() + 60
    while not true() and time.monotonic() < end:
        time.sleep(0.01)
    assert true()


def shown(panel: ModelExplorer, side: str) -> str:
    panel.handle("model.side", side, {})
    return panel.html()


@pytest.fixture
def panel() -> ModelExplorer:
    made = ModelExplorer(str(DEMO_MODEL))
    until(lambda: made.found is not None and not made._busy)
    return made


def test_nothing_is_looked_at_before_it_is_asked_for() -> None:
    panel = ModelExplorer(session=Session({"model": {"pretrained_model_name_or_path": "org/name"}}))
    assert panel.found is None
    assert "org/name" in panel.html()
    assert "Look at it" in panel.html()


def test_the_report(panel: ModelExplorer) -> None:
    html = panel.html()
    assert "works" in html
    assert "LlamaForCausalLM (native)" in html
    assert "gate_proj" in html
    assert "no experts" in html


def test_the_other_tabs(panel: ModelExplorer) -> None:
    structure = shown(panel, "structure")
    assert "4 layers" in structure
    assert "am-map" in structure
    assert "491,520" in structure
    assert "shares the weights" in structure
    assert "Would not, because" in shown(panel, "kernels")
    panel.handle("model.side", "tokenizer", {})
    until(lambda: panel.words)
    assert "3,072 tokens" in panel.html()
    assert "&lt;|end|&gt;" in panel.html()


def test_search_and_compare(panel: ModelExplorer, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, "hidden_size": 64, "head_dim": 16}))
    panel.handle("model.search", "head_dim", {})
    assert "<mark>head_dim</mark>" in shown(panel, "config")
    assert "1 found" in panel.html()
    panel.handle("model.other", str(tmp_path / "config.json"), {})
    until(lambda: panel.other)
    assert "2 settings differ" in panel.html()
    panel.handle("model.other", "/no/such", {})
    assert "no such folder" in panel.html()
    assert panel.other is None


def test_use_writes_the_recipe(panel: ModelExplorer) -> None:
    assert "Use this model" in panel.html()
    panel.handle("model.use", None, {})
    assert panel.session.get(MODEL) == str(DEMO_MODEL)
    assert "the recipe uses this model" in panel.html()


def test_what_is_taken_is_what_was_seen(panel: ModelExplorer) -> None:
    panel.handle("model.target", "", {})
    panel.handle("model.use", None, {})
    assert panel.session.get(MODEL) == str(DEMO_MODEL)
    panel.handle("model.target", "/no/such/folder", {})
    assert panel.found is None
    assert "Use this model" not in panel.html()


def test_the_demo_model_in_one_click() -> None:
    panel = ModelExplorer()
    panel.handle("model.demo", None, {})
    until(lambda: panel.found)
    assert panel.session.get(MODEL) == str(DEMO_MODEL)


def test_errors_are_shown_in_place(tmp_path: Path) -> None:
    panel = ModelExplorer()
    panel.handle("model.target", "/no/such/folder", {})
    assert "There is no such folder" in panel.html()
    (tmp_path / "config.json").write_text("not json")
    panel.handle("model.target", str(tmp_path), {})
    until(lambda: panel._problem and not panel._busy)
    assert "is not JSON" in panel.html()


def test_a_refused_model_cannot_be_taken(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "unheard_of", "architectures": ["UnheardOf"]}))
    panel = ModelExplorer(str(tmp_path))
    until(lambda: panel.found is not None and not panel._busy)
    html = panel.html()
    assert "cannot be used" in html
    assert "To mend it" in html
    assert 'data-copy="#model-fix-0"' in html
    assert 'aria-disabled="true"' in html
    panel.handle("model.use", None, {})
    assert panel.session.get(MODEL) is None


def test_a_pasted_address() -> None:
    panel = ModelExplorer()
    panel.look = lambda target: setattr(panel, "target", target)  # type: ignore[method-assign]
    panel.handle("model.target", "https://huggingface.co/org/name", {})
    assert panel.target == "org/name"
