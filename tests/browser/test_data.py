"""Conversations and rows with images, from what is trained on to a finished job, in a real browser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import Desk, both_modes
from tests.browser.jobs import recipe
from tests.browser.lab import Page

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def on_data(desk: Desk, values: dict[str, Any]) -> Page:
    page = desk.open([f"from automodel_widgets import Workbench\nWorkbench({values!r})"])
    page.tab("data", quiet=1.5)
    page.am.locator("[data-panel=data] .am-badge.am-good").first.wait_for(timeout=90_000)
    return page


def trained(page: Page) -> str:
    """The text that carries the mark of trained tokens, in the open row."""
    return "".join(page.am.locator(".am-tokens .am-token.am-trained").all_text_contents())


def test_a_conversation_shows_each_answer_as_trained_and_nothing_else(desk: Desk) -> None:
    said = [("user", "Hello"), ("assistant", "Good day."), ("user", "Who are you?"), ("assistant", "A badger.")]
    row = {"messages": [{"role": role, "content": content} for role, content in said]}
    rows = desk.lab.work / "chats.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for _ in range(8)))
    data = {"name": "chat", "path_or_dataset": str(rows), "chat_template": CHATML, "seq_length": 128}
    page = on_data(desk, recipe("chats", dataset=data))
    shown = trained(page)
    assert "Good day." in shown
    assert "A badger." in shown
    assert "Hello" not in shown
    assert "assistant" not in shown


@pytest.fixture
def seeing(desk: Desk) -> dict[str, Any]:
    """A recipe on a tiny model for images and text, and rows of pictures."""
    from tests.vision import chat_rows, make_llava

    folder: Path = desk.lab.work / "seeing"
    model = make_llava(folder / "model") if not (folder / "model").is_dir() else folder / "model"
    values = recipe("seeing", steps=3, model={"pretrained_model_name_or_path": str(model)})
    values["dataset"] = {"name": "chat", "path_or_dataset": str(chat_rows(folder))}
    values["step_scheduler"] |= {"global_batch_size": 2, "local_batch_size": 1}
    return values | {"recipe": "FinetuneRecipeForVLM"}


@both_modes
def test_rows_with_images_are_shown_and_trained(desk: Desk, seeing: dict[str, Any]) -> None:
    page = on_data(desk, seeing)
    picture = page.am.locator("img.am-picture").first
    picture.wait_for()
    assert picture.evaluate("(image) => image.complete && image.naturalWidth > 0")
    assert "tokens" in (picture.get_attribute("alt") or "")
    chip = page.am.locator(".am-tokens").get_by_text("4 tokens")
    assert chip.count() == 1
    assert "Anna Vell" in trained(page)
    assert "Who built" not in trained(page)
    page.tab("launch")
    page.am.get_by_role("button", name="Start", exact=True).click()
    page.am.locator("[data-panel=monitor]").wait_for(timeout=120_000)
    page.badge("Finished")
    page.reaches("[data-board]", "rows", 3)
