"""Which GPUs a job may see: the choice as words, its processes, and the environment of the job."""

from __future__ import annotations

import pytest

from automodel.errors import DataError, RunError
from automodel.launch import resume
from automodel.launch.devices import as_devices, device_environment, processes_on
from automodel.run import Run
from tests.launch.launch_help import until


def test_a_choice_in_each_form() -> None:
    assert as_devices(None, given={}) is None
    assert as_devices([0, 2], given={}) == ("0", "2") == as_devices("0, 2", given={})
    assert as_devices("none", given={}) == () == as_devices([], given={})
    assert as_devices(["GPU-8a1"], given={}) == ("GPU-8a1",)
    assert device_environment(None) == {}
    assert device_environment(("0", "2")) == {"CUDA_VISIBLE_DEVICES": "0,2", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert device_environment(()) == {"CUDA_VISIBLE_DEVICES": "", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


@pytest.mark.parametrize(("devices", "words"), [("0,cuda:1", "no GPU's name"), ([1, 1], "named twice"), ("3", "kept from this process")])
def test_a_choice_that_makes_no_sense(devices, words) -> None:
    with pytest.raises(RunError, match=words):
        as_devices(devices, given={"CUDA_VISIBLE_DEVICES": "0,1"})


def test_names_and_numbers_of_an_allotment_cannot_be_compared() -> None:
    assert as_devices("3", given={"CUDA_VISIBLE_DEVICES": "GPU-8a1"}) == ("3",)
    with pytest.raises(RunError, match="kept from this process"):
        as_devices("0", given={"CUDA_VISIBLE_DEVICES": ""})


def test_one_process_for_each_chosen_gpu() -> None:
    assert processes_on(None, None) is None
    assert processes_on(None, 3) == 3
    assert processes_on(("0", "2"), None) == 2
    assert processes_on(("0", "2"), 1) == 1
    assert (processes_on((), None), processes_on((), 4)) == (1, 4)
    with pytest.raises(RunError, match="more processes than chosen GPUs"):
        processes_on(("0", "2"), 3)


def test_the_job_sees_the_chosen_gpus_also_after_a_resume(start, monkeypatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    run: Run = start("die", devices=[2])
    assert run.wait(20).state == "failed"
    until(lambda: not run.status.alive)
    assert run.folder.record()["launch"]["devices"] == ["2"]
    again = resume(run)
    assert again.wait(20).state == "finished"
    assert again.log().count("GPUs 2") == 2
    again_event = [event for event in again.events() if event["kind"] == "launching"][-1]
    assert again_event["environment"]["CUDA_VISIBLE_DEVICES"] == "2"


def test_the_check_before_the_start_sees_the_chosen_gpus_too(start, monkeypatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(DataError, match="GPUs 1,3") as caught:
        start("seen", nproc="auto", devices="1,3")
    assert caught.value.found == "2", "one process for each"
