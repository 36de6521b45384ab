"""Pictures of every panel for the documentation: light, dark and narrow, from real runs of the embedded model.

They are made when AUTOMODEL_PICTURES names a folder: `AUTOMODEL_PICTURES=docs/images/panels pytest tests/browser/test_pictures.py`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from automodel_widgets.workbench import TABS
from tests.browser.conftest import Desk
from tests.browser.jobs import DEMO, recipe
from tests.browser.lab import Lab, Page
from tests.browser.png import smaller

FOLDER = os.environ.get("AUTOMODEL_PICTURES")
# Theme and width of the window for each look; the page of a notebook takes some of it.
LOOKS = {"light": ("JupyterLab Light", 1280), "dark": ("JupyterLab Dark", 1280), "narrow": ("JupyterLab Light", 740)}
MOST = 150_000
TALLEST = 1000

pytestmark = pytest.mark.skipif(FOLDER is None, reason="AUTOMODEL_PICTURES names no folder")


def shown(name: str, lr: float) -> dict[str, object]:
    """Return a recipe whose paths are those of the notebook's own folder."""
    checks = {"path_or_dataset": str(DEMO / "data" / "heldout.json")}
    schedule = {"val_every_steps": 15, "global_batch_size": 16, "local_batch_size": 8}
    made = recipe(name, steps=60, optimizer={"lr": lr}, validation_dataset=checks, step_scheduler=schedule)
    return dict(json.loads(json.dumps(made).replace(str(DEMO), "demo")))


@pytest.fixture
def own(desk: Desk, tmp_path: Path) -> Iterator[Desk]:
    """Give the desk a server whose paths are short and say nothing of this machine."""
    usual, desk.lab = desk.lab, Lab(tmp_path / "lab", extra={"AUTOMODEL_RUNS": "runs"})
    (desk.lab.work / "demo").symlink_to(DEMO)
    yield desk
    desk.close()
    desk.lab.close()
    desk.lab = usual


def prepare(page: Page, tab: str) -> None:
    """Press what makes a panel tell something."""
    page.tab(tab, quiet=1.5)
    if tab == "runs":
        for box in page.am.locator("tbody").get_by_role("checkbox").all():
            box.check()
            page.settled()
    if tab == "playground":
        page.am.get_by_role("button", name="Take prompts from the data").click()
        page.settled(quiet=6)
    if tab == "publish":
        page.am.get_by_label("New folder").fill("models/steady")
        page.am.get_by_label("New folder").press("Tab")
    pressed = {"model": "Look at it", "launch": "Check only", "playground": "Ask both models"}.get(tab)
    if pressed:
        page.am.get_by_role("button", name=pressed).first.click()
        page.settled(quiet=6)


def test_pictures(own: Desk) -> None:
    assert FOLDER is not None
    jobs = "import automodel\n" + "".join(
        f"{name} = automodel.launch({shown(name, lr)!r}, nproc_per_node=1)\n{name}.wait()\n" for name, lr in (("careful", 2e-4), ("steady", 1e-3))
    )
    open_it = f"from automodel_widgets import Workbench\nworkbench = Workbench({shown('steady', 1e-3)!r})\nworkbench"
    page = own.open([jobs, open_it, "workbench.session.run = steady"], size=(1280, 1600))
    page.page.evaluate("() => window.jupyterapp.commands.execute('application:toggle-left-area')")
    for tab in TABS:
        prepare(page, tab)
    for look, (theme, width) in LOOKS.items():
        page.theme(theme)
        page.page.set_viewport_size({"width": width, "height": 1600})
        for tab in TABS:
            page.tab(tab, quiet=0.8)
            page.page.mouse.move(0, 0)
            take(page, Path(FOLDER) / f"{tab}-{look}.png")


CLASS = """import time
from pathlib import Path
from automodel import Recipe, finetune, AutomodelError
for student, rate in {"ada": 1e-3, "ben": 5e-4, "cleo": 10.0, "dora": 2e-3}.items():
    try:
        finetune(Recipe(**%r), overrides=[f"optimizer.lr={rate}", "step_scheduler.max_steps=12"], run_folder=Path("class") / student)
    except AutomodelError as error:
        print(error)"""
# Panels outside the workbench: name -> cell, and the tabs and buttons to press before the picture.
ALONE = {
    "lr-finder": ("LRFinder(%r)", ("button:Find a learning rate",)),
    "lesson": ("Lesson(root='class')", ()),
    "lesson-queue": ("Lesson(root='class')", ("tab:Queue",)),
    "class": ("Runs(root='class', by='student')", ()),
}


@pytest.mark.parametrize("name", ALONE)
def test_pictures_of_panels_alone(own: Desk, name: str) -> None:
    assert FOLDER is not None
    cell, presses = ALONE[name]
    values = shown("steady", 1e-3)
    cells = [CLASS % values] if name != "lr-finder" else ["import automodel"]
    page = own.open([*cells, f"import automodel_widgets as am\nam.{cell % (values,) if '%r' in cell else cell}"], size=(1280, 1600))
    page.page.evaluate("() => window.jupyterapp.commands.execute('application:toggle-left-area')")
    for press in presses:
        role, _, label = press.partition(":")
        page.am.get_by_role(role, name=label).first.click()
        page.settled(quiet=8)
    looks(page, name)


def drawn_rows(folder: Path) -> None:
    """Write questions on pictures of coloured shapes."""
    from PIL import Image, ImageDraw

    rows = []
    for number, (colour, shape) in enumerate((c, s) for c in ("red", "green", "blue", "orange") for s in ("ellipse", "rectangle")):
        picture = Image.new("RGB", (320, 200 + 20 * number), "white")
        getattr(ImageDraw.Draw(picture), shape)((60, 40, 260, 160), fill=colour, outline="black", width=4)
        (folder / "shapes").mkdir(parents=True, exist_ok=True)
        picture.save(folder / "shapes" / f"{number}.png")
        asked = [{"type": "image"}, {"type": "text", "text": "What is in the picture, and which colour has it?"}]
        said = {"role": "assistant", "content": f"A {colour} {'circle' if shape == 'ellipse' else 'box'}."}
        rows.append({"images": [f"shapes/{number}.png"], "messages": [{"role": "user", "content": asked}, said]})
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_picture_of_rows_with_images(own: Desk) -> None:
    from tests.vision import make_llava

    assert FOLDER is not None
    make_llava(own.lab.work / "vlm" / "model")
    drawn_rows(own.lab.work / "vlm")
    values = {
        "recipe": "FinetuneRecipeForVLM",
        "model": {"pretrained_model_name_or_path": "vlm/model"},
        "dataset": {"name": "chat", "path_or_dataset": "vlm/rows.jsonl"},
    }
    page = own.open([f"import automodel_widgets as am\nam.DataView({values!r})"], size=(1280, 1600))
    page.page.evaluate("() => window.jupyterapp.commands.execute('application:toggle-left-area')")
    page.am.locator("img.am-picture").first.wait_for(timeout=90_000)
    looks(page, "data-images")


def looks(page: Page, name: str) -> None:
    """Take the pictures of a panel that stands alone, in every look."""
    for look, (theme, width) in LOOKS.items():
        page.theme(theme)
        page.page.set_viewport_size({"width": width, "height": 1600})
        page.settled()
        take(page, Path(str(FOLDER)) / f"{name}-{look}.png")


def take(page: Page, path: Path) -> None:
    """Write a picture of the panel, its first screen where it is long."""
    path.parent.mkdir(parents=True, exist_ok=True)
    page.am.evaluate("(node) => node.scrollIntoView()")
    box = page.am.bounding_box()
    assert box is not None
    picture = page.page.screenshot(animations="disabled", clip={**box, "height": min(box["height"], TALLEST)})
    path.write_bytes(smaller(picture, page.page.context.browser))
    assert path.stat().st_size < MOST, path
