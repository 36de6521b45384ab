"""The workbench without a browser: what it begins with, which run it takes up, and that opening it loads nothing heavy."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from automodel.run.files import write_json
from automodel.run.process import identify
from automodel_widgets.panels.base import Panel
from automodel_widgets.workbench import TABS, Workbench
from tests.widgets.fake_runs import fake_run

OPENED = """
import sys
from automodel_widgets.workbench import TABS, Workbench
workbench = Workbench({}, root=sys.argv[1])
workbench.surface
for tab in TABS:
    workbench.open(tab)
print([name for name in ("torch", "transformers", "datasets", "pandas", "plotly") if name in sys.modules])
"""


@pytest.fixture(autouse=True)
def _still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Panel, "watch", lambda _panel: None)


def test_every_tab_opens_without_a_heavy_library_in_the_kernel(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", OPENED, str(tmp_path)], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_it_begins_with_the_demo_a_recipe_or_an_empty_form(tmp_path: Path) -> None:
    demo: Any = Workbench(root=tmp_path)
    assert Path(demo.session.get("model.pretrained_model_name_or_path")).is_dir()
    assert Workbench({}, root=tmp_path).session.recipe == {}
    assert Workbench({"optimizer": {"lr": 2e-4}}, root=tmp_path).session.get("optimizer.lr") == 2e-4


def test_a_run_that_goes_on_is_taken_up_and_one_that_is_over_is_not(tmp_path: Path) -> None:
    fake_run(tmp_path, "over")
    assert Workbench(root=tmp_path).session.run is None
    run = fake_run(tmp_path, "living", state="training")
    write_json(run.path / "run.json", {**run.folder.record(), **identify().as_dict(), "launcher": "foreground", "created": time.time()})
    (run.path / "heartbeat").touch()
    workbench = Workbench(root=tmp_path)
    assert workbench.session.run is not None
    assert workbench.session.run.path == run.path
    assert "Training" in workbench.parts()["head"]


def test_the_title_follows_the_run_whichever_tab_is_open(tmp_path: Path) -> None:
    workbench = Workbench(root=tmp_path)
    workbench.session.run = fake_run(tmp_path, "one")
    assert workbench.surface
    sent: list[dict[str, Any]] = []
    workbench.surface.send = lambda message, buffers=None: sent.append(message)
    workbench.tick()
    record = workbench.session.run.folder.record()
    write_json(workbench.session.run.path / "run.json", {**record, "state": "failed"})
    assert not workbench.tick()
    assert "Failed" in sent[-1]["regions"]["workbench.head"]
    count = len(sent)
    workbench.tick()
    assert len(sent) == count, "the same title is not sent again"


@pytest.mark.parametrize("tab", TABS)
def test_each_tab_is_named_for_its_panel(tab: str, tmp_path: Path) -> None:
    workbench = Workbench({}, root=tmp_path, tab=tab)
    assert workbench.panel.name == tab
    assert f'data-panel="{tab}"' in workbench.html()
