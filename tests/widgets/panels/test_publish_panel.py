"""Publish and playground with real models in their own processes, and a Hub on this machine."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from automodel.run import Run
from automodel_widgets.panels.playground import Playground
from automodel_widgets.panels.publish import Publish
from automodel_widgets.panels.publish_views import rendered
from tests.hub_server import READER, WRITER, Hub, local_hub
from tests.widgets.fake_runs import fake_run

SECONDS = 90


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Run:
    """A run with an adapter."""
    import automodel

    folder = tmp_path_factory.mktemp("tuned")
    data = folder / "rows.jsonl"
    row = {"context": "A bridge.", "question": "Who built it?", "answers": {"text": ["Anna"], "answer_start": [0]}}
    data.write_text(json.dumps(row) + "\n" + json.dumps(row) + "\n")
    recipe: dict[str, Any] = {
        "model": {"pretrained_model_name_or_path": str(tiny_model_dir)},
        "dataset": {"path_or_dataset": str(data)},
        "step_scheduler": {"global_batch_size": 2, "local_batch_size": 2, "num_epochs": 3},
        "optimizer": {"lr": 5e-2},
        "samples": {"prompts": ["Who built it?"], "max_new_tokens": 4},
        "peft": {"dim": 4},
        "run": {"folder": str(folder / "runs")},
    }
    return automodel.finetune(recipe)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with local_hub() as found:
        monkeypatch.setenv("HF_ENDPOINT", found.address)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield found


def wait(panel: Playground | Publish) -> None:
    end = time.monotonic() + SECONDS
    while panel.state is not None and panel.state.busy and time.monotonic() < end:
        panel.state.poll()
        time.sleep(0.02)
    assert panel.state is not None
    assert not panel.state.busy


def still(panel: Any) -> Any:
    panel.watch = lambda: None
    return panel


@pytest.mark.slow
def test_base_and_tuned_answer_and_leave(tuned: Run) -> None:
    shown = still(Playground(tuned, root=tuned.path.parent))
    shown.handle("playground.set-max_new_tokens", "6", {})
    shown.handle("playground.prompts", "Who built it?\nThe bridge", {})
    shown.handle("playground.ask", None, {})
    assert "Starting a process" in shown.html()
    wait(shown)
    state = shown.state
    assert [one.base.state for one in state.results] == [one.tuned.state for one in state.results] == ["done", "done"]
    assert any(one.same is False for one in state.results), "training changed something"
    html = shown.html()
    assert "different" in html
    assert "is free again" in html
    assert state.released
    shown.handle("playground.keep", None, {})
    assert (tuned.path / "samples.json").is_file()
    assert "Kept in" in shown.html()


@pytest.mark.slow
def test_merge_check_card_and_push(tuned: Run, hub: Hub, tmp_path: Path) -> None:
    shown = still(Publish(tuned, root=tuned.path.parent))
    shown.handle("publish.form", "merged", {})
    shown.handle("publish.folder", str(tmp_path / "merged"), {})
    shown.handle("publish.export", None, {})
    wait(shown)
    assert "The exported model answers as the trained one" in shown.html()
    shown.handle("publish.about-intended_use", "To read about bridges.", {})
    shown.handle("publish.write-card", None, {})
    wait(shown)
    html = shown.html()
    assert "To read about bridges." in html
    assert "license" in html
    shown.handle("publish.repo", "ann/bridges", {})
    shown.handle("publish.push", None, {"token": WRITER})
    wait(shown)
    html = shown.html()
    assert "Published." in html, html[-3000:]
    assert hub.repo("ann/bridges").private
    assert b"To read about bridges." in hub.files("ann/bridges")["README.md"]
    assert WRITER not in html
    assert WRITER not in repr(shown.surface.get_state())


@pytest.mark.slow
@pytest.mark.parametrize(("token", "said"), [("", "There is no token"), (READER, "may only read"), ("hf_wrongwrongwrongwrong", "token")])
def test_what_is_wrong_with_a_token_is_said_in_place(tuned: Run, hub: Hub, token: str, said: str) -> None:
    shown = still(Publish(tuned, root=tuned.path.parent))
    shown.handle("publish.repo", "ann/other", {})
    shown.handle("publish.push", None, {"token": token})
    wait(shown)
    html = shown.html()
    found = re.search(r'<div class="am-note am-bad" role="alert">(.*?)</div>', html, re.DOTALL)
    assert found
    assert said in found[1]
    assert "Fix" in found[1]
    assert not token or token not in html


def test_the_token_field_holds_nothing_and_goes_with_the_button(tmp_path: Path) -> None:
    shown = still(Publish(fake_run(tmp_path, points=(2,)), root=tmp_path))
    html = shown.html()
    box = re.search(r"<input[^>]*type=\"password\"[^>]*>", html)
    assert box
    assert 'data-secret="token"' in box[0]
    assert "value=" not in box[0]
    assert "data-field" not in box[0]
    push = re.search(r"<button[^>]*data-act=\"publish\.push\"[^>]*>", html)
    assert push
    assert 'data-with="token"' in push[0]
    assert "Name the repository first" in push[0]
    assert "checked" in (re.search(r"<input[^>]*id=\"publish-private\"[^>]*>", html) or [""])[0]


def test_public_is_said_twice(tmp_path: Path) -> None:
    shown = still(Publish(fake_run(tmp_path, points=(2,)), root=tmp_path))
    shown.handle("publish.private", False, {})
    html = shown.html()
    assert "Push, for everybody to see" in html
    assert "everybody can see and download it" in html


def test_no_run_and_no_checkpoint_are_said(tmp_path: Path) -> None:
    for panel in (Publish(root=tmp_path), Playground(root=tmp_path)):
        assert "No run has a checkpoint yet" in panel.html()
    bare = fake_run(tmp_path)
    for panel in (Publish(bare, root=tmp_path), Playground(bare, root=tmp_path)):
        assert "The run has no whole checkpoint yet" in panel.html()


def test_a_wrong_setting_is_said_at_its_field(tmp_path: Path) -> None:
    shown = still(Playground(fake_run(tmp_path, points=(2,)), root=tmp_path))
    shown.handle("playground.set-temperature", "hot", {})
    assert "That is no temperature. Give a number from 0.0 to 5.0" in shown.html()
    shown.handle("playground.set-temperature", "1", {})
    assert "That is no temperature" not in shown.html()


def test_a_card_is_shown_without_its_html() -> None:
    card = (
        "---\nlicense: mit\n---\n\n# Title\n\n<script>bad()</script>\n\n| | |\n| --- | --- |\n| a | b |\n\n[x](javascript:bad) [y](https://e.org)\n"
    )
    html = rendered(card)
    assert "<script>" not in html
    assert 'href="javascript' not in html
    assert "<h3>Title</h3>" in html
    assert "<td>a</td>" in html
    assert "license: mit" in html
    assert '<a target="_blank" rel="noopener" href="https://e.org">' in html
