"""The memory plan without a browser: parts, verdict, changes, measured."""

from __future__ import annotations

import pytest

from automodel_widgets.state.devices import Device, Machine
from automodel_widgets.state.memory import Measured, MemoryState, applied, device_words, key, lacking, peak
from tests.widgets.fake_runs import fake_run
from tests.widgets.state.plans import RECIPE, plan


def state(free: int, *, here: bool = True) -> MemoryState:
    made = MemoryState()
    made.take("asked", plan(), free, here=here)
    return made


def test_parts_add_up_in_the_order_of_a_step() -> None:
    made = state(2000)
    assert [item.name for item in made.items] == ["weights", "gradients", "optimizer", "activations", "logits", "runtime"]
    assert sum(item.bytes for item in made.items) == made.total
    assert all(item.words for item in made.items)
    assert made.band == (850, 1150)
    assert made.advice == ["or more memory: another device"]


@pytest.mark.parametrize(("free", "kind", "word"), [(2000, "good", "fits"), (1100, "warn", "tight"), (999, "bad", "does not fit")])
def test_the_verdict_knows_the_error_band(free, kind, word) -> None:
    found = state(free).verdict
    assert found[:2] == (kind, word)
    assert "are free now" in found[2]
    assert "are planned for" in state(free, here=False).verdict[2]


def test_the_bar_stays_readable_on_a_large_machine() -> None:
    assert state(10**9).scale == 3 * 1150
    assert state(900).scale == 1150


def test_changes_are_judged_against_what_is_free() -> None:
    assert [change.fits for change in state(950).changes] == [True, True]
    made = applied(RECIPE, state(950).changes[0].overrides)
    assert made["step_scheduler"] == {"max_steps": 3, "local_batch_size": 1}
    assert made["model"] == RECIPE["model"]


def test_only_what_matters_to_memory_asks_for_a_new_plan() -> None:
    assert key(RECIPE, 1, None) == key({**RECIPE, "run": {"name": "x"}, "seed": 3}, 1, None)
    assert key(RECIPE, 1, None) != key(RECIPE, 2, None)
    assert key(RECIPE, 1, None) != key({**RECIPE, "peft": {"dim": 8}}, 1, None)


def test_what_is_lacking() -> None:
    assert lacking({}) == "choose a model first"
    assert lacking({"model": {"pretrained_model_name_or_path": "x"}}) == "choose a dataset first"
    assert lacking(RECIPE) is None


def test_predicted_against_measured(tmp_path) -> None:
    assert round(Measured("one", 110, 100).off, 2) == 0.1
    assert peak(fake_run(tmp_path)) is None or peak(fake_run(tmp_path)) > 0


def test_each_process_has_a_bar() -> None:
    cpu, gpu = Device("cpu", "CPU", 2, 1), Device("cuda:0", "GPU 0: X", 2, 1)
    assert device_words(Machine(cpu, 2), 1) == ["CPU"]
    assert device_words(Machine(cpu, 2), 2)[1] == "CPU, process 2 of 2"
    assert device_words(Machine(cpu, 2, (gpu,)), 1) == ["GPU 0: X"]
