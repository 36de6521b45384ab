"""Devices as the system and the driver tell them."""

from __future__ import annotations

from automodel_widgets.state.devices import Device, Machine, machine, size

GPUS = "0, GPU-a, NVIDIA H200, 143771, 140000, 12\n1, GPU-b, NVIDIA H200, 143771, 20000, 97\n"
USERS = "GPU-b, 4242, /usr/bin/python3, 120000\nGPU-b, 77, Xorg, [N/A]\n"


def answers(words):
    return GPUS if "--query-gpu" in words[1] else USERS


def test_gpus_and_who_uses_them() -> None:
    found = machine(answers)
    assert [device.label for device in found.gpus] == ["GPU 0: NVIDIA H200", "GPU 1: NVIDIA H200"]
    assert found.gpus[0].users == ()
    assert [(user.pid, user.name, user.bytes) for user in found.gpus[1].users] == [(4242, "python3", 120000 << 20), (77, "Xorg", None)]
    assert found.used_by(2) == found.gpus
    assert found.free_for_each(2) == 20000 << 20


def test_without_a_driver_there_is_the_cpu() -> None:
    found = machine(lambda _words: "")
    assert found.gpus == ()
    assert found.cores >= 1
    assert 0 < found.cpu.free <= found.cpu.total


def test_processes_share_the_memory_of_a_cpu_and_more_processes_than_gpus_use_it() -> None:
    gpu = Device("cuda:0", "GPU 0", 10, 9)
    cpu = Device("cpu", "CPU", 100, 80)
    assert Machine(cpu, 4).free_for_each(2) == 40
    assert Machine(cpu, 4, (gpu,)).used_by(2) == (cpu,)
    assert Machine(cpu, 4, (gpu,)).free_for_each(1) == 9


def test_sizes_in_words() -> None:
    assert [size(value) for value in (900, 5_000_000, 2.24e10, 1.4e11, 3e12)] == ["1 kB", "5 MB", "22.4 GB", "140 GB", "3.0 TB"]


def test_a_job_sees_only_the_chosen_gpus() -> None:
    found = machine(answers)
    assert found.idle == ("cuda:0",)
    assert [device.number for device in found.only({"cuda:1"}).used_by(1)] == ["1"]
    assert found.only({"cuda:1"}).free_for_each(1) == 20000 << 20
    assert found.only(()).used_by(1) == (found.cpu,)
    crowded = Machine(found.cpu, 4, (found.gpus[1],))
    assert crowded.idle == ("cuda:1",), "when each is in use all are offered"


def test_gpus_that_are_kept_from_this_process_are_not_offered() -> None:
    def names(visible: str) -> list[str]:
        return [device.name for device in machine(answers, given={"CUDA_VISIBLE_DEVICES": visible}).gpus]

    assert names("1") == ["cuda:1"]
    assert names("GPU-a") == ["cuda:0"]
    assert names("0, 1") == ["cuda:0", "cuda:1"]
    assert names("") == names("-1") == []
    assert len(machine(answers, given={}).gpus) == 2
