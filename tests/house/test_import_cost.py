"""Importing the light rooms loads no heavy library and takes no time that a person could notice."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time

import pytest

from tests.house.source import ROOT

HEAVY = ("torch", "transformers", "datasets", "peft", "accelerate", "pyarrow", "pandas", "numpy", "IPython", "ipywidgets")
LIGHT = ["automodel", "automodel.errors", "automodel.recipe", "automodel.run", "automodel.registry", "automodel.cli", "automodel_widgets"]
IMPORT_SECONDS = 0.050
HELP_SECONDS = 0.5


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run this interpreter on the sources of this checkout."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "widgets")])
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=True, timeout=60, env={**os.environ, "PYTHONPATH": paths}
    )


@pytest.mark.parametrize("name", LIGHT)
def test_a_light_room_loads_nothing_heavy(name: str) -> None:
    loaded = python("-c", f"import sys, {name}; print([m for m in {HEAVY!r} if m in sys.modules])").stdout.strip()
    assert loaded == "[]"


def test_the_check_would_see_numpy() -> None:
    assert python("-c", f"import sys, numpy; print([m for m in {HEAVY!r} if m in sys.modules])").stdout.strip() == "['numpy']"


def test_the_front_door_opens_in_50_milliseconds() -> None:
    times = [import_seconds("automodel") for _ in range(5)]
    assert min(times) < IMPORT_SECONDS, times


def import_seconds(name: str) -> float:
    lines = python("-X", "importtime", "-c", f"import {name}").stderr.splitlines()
    found = [int(match[1]) for line in lines if (match := re.match(rf"import time:\s+\d+ \|\s+(\d+) \| {re.escape(name)}$", line))]
    return found[-1] / 1e6


def test_help_appears_in_half_a_second() -> None:
    times = []
    for _ in range(6):
        started = time.perf_counter()
        shown = python("-m", "automodel", "--help")
        times.append(time.perf_counter() - started)
        assert "finetune" in shown.stdout
    assert min(times) < HELP_SECONDS, times


def test_help_loads_no_torch() -> None:
    loaded = python("-X", "importtime", "-m", "automodel", "--help").stderr
    assert not re.search(r"\| +(torch|transformers)$", loaded, re.MULTILINE)
