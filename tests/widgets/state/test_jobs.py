"""The helper process: its death is said in words, and the next question is answered by a new one."""

from __future__ import annotations

import os
import signal
import time

import pytest

from automodel.errors import JobFailed
from automodel_widgets.state import answers, jobs


def end_it(_question: str, _args: tuple[object, ...], _how: dict[str, object]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def who(_question: str, _args: tuple[object, ...], _how: dict[str, object]) -> int:
    return os.getpid()


@pytest.fixture
def helper(monkeypatch):
    jobs.close()
    yield monkeypatch
    jobs.close()


def test_a_helper_that_dies_at_work_says_so_and_the_next_question_works(helper) -> None:
    helper.setattr(answers, "answer", end_it)
    with pytest.raises(JobFailed, match="ended without an answer") as caught:
        jobs.ask("inspect", "x")
    assert "ask again" in caught.value.fix
    helper.setattr(answers, "answer", who)
    assert jobs.ask("inspect", "x") != os.getpid()


def test_a_helper_that_is_killed_while_nobody_asks_is_replaced(helper) -> None:
    helper.setattr(answers, "answer", who)
    first = jobs.ask("inspect", "x")
    os.kill(first, signal.SIGKILL)
    time.sleep(0.5)
    assert jobs.ask("inspect", "x") not in (first, os.getpid())
