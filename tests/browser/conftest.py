"""One JupyterLab for each way of carrying messages, one Chromium, and a desk to open notebooks on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.browser.jobs import end
from tests.browser.lab import CHROMIUM, FLAGS, ROOT, Lab, Page

MODES = ("perCommTarget", "disabled")
# For a test whose clicks reach Python: in each of the two ways in which JupyterLab hands over messages.
both_modes = pytest.mark.parametrize("desk", MODES, indirect=True)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "browser: needs JupyterLab, playwright and a Chromium")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here, why = Path(__file__).parent, missing()
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)
            if why:
                item.add_marker(pytest.mark.skip(reason=why))


def missing() -> str:
    """Say what these tests lack here, or nothing."""
    from importlib.util import find_spec

    lacking = [name for name in ("playwright", "jupyterlab", "anywidget") if find_spec(name) is None]
    if lacking:
        return f"not installed: {', '.join(lacking)}"
    if CHROMIUM is None:
        return "there is no Chromium on the path"
    built = (ROOT / "widgets" / "automodel_widgets" / "static" / "surface.js").is_file()
    return "" if built else "the front end is not built: python widgets/build_frontend.py"


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Jobs and browser share few processors: threads that wait for each other would take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@pytest.fixture(scope="session")
def labs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Lab]]:
    """Return the server of a mode, started when it is first asked for."""
    made: dict[str, Lab] = {}

    def get(mode: str) -> Lab:
        if mode not in made:
            made[mode] = Lab(tmp_path_factory.mktemp(f"lab-{mode}"), subshells=mode)
        return made[mode]

    yield get
    for lab in made.values():
        lab.close()
        end(lab.runs)


class Desk:
    """Notebooks opened in tabs of one browser; what a page complains of fails the test."""

    def __init__(self, chromium: Any, lab: Lab) -> None:
        self._chromium, self.lab = chromium, lab
        self._contexts: list[Any] = []
        self.pages: list[Page] = []

    def open(self, cells: Sequence[str], *, dark: bool = False, size: tuple[int, int] = (1280, 1200), run: bool = True) -> Page:
        """Write a notebook, open it, run its cells and wait for the panel."""
        name = f"notebook-{len(list(self.lab.work.glob('*.ipynb')))}.ipynb"
        self.lab.notebook(name, cells)
        page = self.tab(name, size=size)
        if dark:
            page.theme("JupyterLab Dark")
        if run:
            for index in range(len(cells)):
                page.run(index)
            page.am.wait_for()
        return page

    def tab(self, name: str, *, size: tuple[int, int] = (1280, 1200)) -> Page:
        """Open a notebook that is there already in a tab of its own."""
        context = self._chromium.new_context(viewport={"width": size[0], "height": size[1]})
        self._contexts.append(context)
        page = Page(context, self.lab).open(name)
        self.pages.append(page)
        return page

    def close(self) -> None:
        """Close every tab and end the kernels."""
        while self._contexts:
            self._contexts.pop().close()
        self.lab.end_kernels()


@pytest.fixture
def desk(chromium: Any, labs: Callable[[str], Lab], request: pytest.FixtureRequest) -> Iterator[Desk]:
    made = Desk(chromium, labs(getattr(request, "param", MODES[0])))
    yield made
    folder = ROOT / "build" / "browser"
    for number, page in enumerate(made.pages):
        if getattr(request.node, "failed", False) and not page.page.is_closed():
            folder.mkdir(parents=True, exist_ok=True)
            page.page.screenshot(path=str(folder / f"{request.node.name}-{number}.png"), full_page=True)
    made.close()
    said = [(page.notes.errors, page.notes.outside) for page in made.pages]
    assert said == [([], [])] * len(made.pages)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    outcome: Any = yield
    if call.when == "call":
        item.failed = outcome.get_result().failed  # type: ignore[attr-defined]  # read by the fixture above, for a picture
