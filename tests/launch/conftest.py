from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from automodel.launch.request import Request
from automodel.launch.start import launch_request
from automodel.run import Run

HERE = Path(__file__).parent


def stub_recipe(mode: str, *, grace: float = 20.0) -> Any:
    return SimpleNamespace(
        to_yaml=lambda only_set=True: mode + "\n",
        model=SimpleNamespace(config=None, pretrained_model_name_or_path="org/Tiny-Llama"),
        run=SimpleNamespace(folder=None, name=None, stop_grace_seconds=grace),
        checkpoint=SimpleNamespace(checkpoint_dir=None),
        task="sft",
    )


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Run]]:
    """Launch the fake worker in a mode; whatever still runs at the end of the test is killed."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), str(HERE.parents[1])]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    started: list[Run] = []

    def go(mode: str, *, nproc: int | str = 1, grace: float = 20.0, devices: Any = None) -> Run:
        request = Request(recipe=stub_recipe(mode, grace=grace), user_yaml="mode: " + mode + "\n", command=("automodel", "x y"))
        modules = {"worker": "fake_worker", "preflight_module": "fake_preflight"}
        started.append(launch_request(request, nproc_per_node=nproc, devices=devices, root=tmp_path / "runs", **modules))
        return started[-1]

    yield go
    for run in started:
        for record in (run.folder.record(), *run.folder.ranks().values()):
            if run.status.alive:
                try:
                    os.kill(int(record["pid"]), signal.SIGKILL)
                except ProcessLookupError:
                    continue
