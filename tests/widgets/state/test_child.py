"""A process of its own: messages, progress bars, errors without secrets, and an end that gives the memory back."""

from __future__ import annotations

import time
from typing import Any

from automodel_widgets.state.child import Child
from tests.widgets import fake_children as work


def everything(child: Child, seconds: float = 30) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    end = time.monotonic() + seconds
    while not child.done and time.monotonic() < end:
        found += child.read()
        time.sleep(0.01)
    return found


def test_messages_come_in_order_and_the_process_goes() -> None:
    child = Child(work.count, 3)
    found = everything(child)
    assert [one.get("number") for one in found[:-1]] == [0, 1, 2]
    assert found[-1]["kind"] == "end"
    assert found[-1]["ok"]
    assert found[-1]["peak"] > 1_000_000
    assert not child.alive
    assert child.read() == []


def test_progress_bars_become_messages() -> None:
    found = everything(Child(work.bars))
    shares = [one["share"] for one in found if one["kind"] == "progress"]
    assert shares[-1] == 1.0
    assert all(one["what"] == "weights" for one in found if one["kind"] == "progress")


def test_an_error_is_told_without_the_secret() -> None:
    for fails, what in ((work.fails, "It broke."), (work.fails_plainly, "ValueError: bad (hidden)")):
        found = everything(Child(fails, "hf_secret", secrets=("hf_secret", "")))
        assert [one["kind"] for one in found] == ["error", "end"]
        assert found[0]["what"] == what
        assert "hf_secret" not in str(found)
        assert not found[-1]["ok"]


def test_cancel_ends_the_process_at_once() -> None:
    child = Child(work.sleeps)
    while not any(one["kind"] == "asleep" for one in child.read()):
        time.sleep(0.01)
    began = time.monotonic()
    child.cancel()
    assert time.monotonic() - began < 5
    assert not child.alive
    assert everything(child)[-1]["kind"] == "end"


def test_a_killed_process_is_explained() -> None:
    found = everything(Child(work.dies))
    assert found[0]["kind"] == "error"
    assert "signal 9" in found[0]["found"]
    assert "memory" in found[0]["fix"]
