"""The workbench: every panel in one place, from a model to a published result."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from automodel.run import runs
from automodel_widgets.panels.base import Panel
from automodel_widgets.parts.html import Html, badge, region, tabs, tag, text
from automodel_widgets.state.monitor import PHASES
from automodel_widgets.state.recipe import first_recipe
from automodel_widgets.state.session import RUN, Session

# Tab -> (label, module, class), in the order of the work.
TABS = {
    "model": ("Model", "model", "ModelExplorer"),
    "data": ("Data", "data", "DataView"),
    "recipe": ("Recipe", "recipe", "RecipeForm"),
    "lr-finder": ("Learning rate", "lr_finder", "LRFinder"),
    "memory": ("Memory", "memory", "MemoryPlan"),
    "launch": ("Launch", "launch", "Launcher"),
    "monitor": ("Monitor", "monitor", "Monitor"),
    "runs": ("Runs", "runs", "Runs"),
    "playground": ("Playground", "playground", "Playground"),
    "publish": ("Publish", "publish", "Publish"),
    "lesson": ("Class", "lesson", "Lesson"),
}


class Workbench(Panel):
    """All panels as tabs over one session; `Workbench()` in a cell is all it takes.

    Args:
        recipe: a Recipe, a dict of sections or a YAML file to begin with; absent: the embedded demo, ready to start; {}: an empty form.
        root: where runs lie; absent: AUTOMODEL_RUNS, else ./runs.
        tab: the tab to open first.

    A run that is still going on below `root` is taken up again, so after a kernel restart the same cell shows it.
    """

    name: ClassVar[str] = "workbench"
    title: ClassVar[str] = "AutoModel Workbench"
    idle: ClassVar[float | None] = 2.0

    def __init__(self, recipe: Any = None, *, root: str | Path | None = None, tab: str = "model") -> None:
        super().__init__()
        self.session = Session(first_recipe(recipe), root=root)
        self.session.listen(self._heard)
        self.tab = tab if tab in TABS else "model"
        self._head_shown: Html = ""
        self.session.run = next((run for run in runs(self.session.root) if run.status.alive), None)

    def body(self) -> Html:
        """Return the frame."""
        return region(self.part("head")) + region(self.part("tabs"))

    def parts(self) -> Mapping[str, Html]:
        """Return the title and the open tab."""
        self._panel(self.tab)
        labels = {key: label for key, (label, _, _) in TABS.items()}
        return {"head": self._head(), "tabs": tabs(self.act("tab"), labels, self.tab, region(self.tab))}

    def act_tab(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Open a tab."""
        if value in TABS:
            self.open(str(value))

    def open(self, tab: str) -> None:
        """Open a tab, also from code: `workbench.open("monitor")`."""
        if tab == self.tab:
            return
        panel = self._panel(tab)
        with self.surface.lock:
            self._panel(self.tab).shown = False
            self.surface.forget(self.tab)
            self.tab = tab
            panel.shown = True
            # First the panel's frame, then what opening it changes: a region that is not on the page yet takes no patch.
            self.refresh()
        opened = getattr(panel, "opened", None)
        if opened is not None:
            panel.guarded(opened)
        self._show_twin()

    @property
    def panel(self) -> Panel:
        """The open panel."""
        return self._panel(self.tab)

    def _panel(self, tab: str) -> Panel:
        if tab not in self._children:
            _, module, name = TABS[tab]
            made: Panel = getattr(import_module(f"automodel_widgets.panels.{module}"), name)(session=self.session, surface=self.surface)
            made.shown = tab == self.tab
            made.open_tab = self.open
            made.copy = self._show_twin
            self._children[tab] = made
        return self._children[tab]

    def _head(self) -> Html:
        model = self.session.get("model.pretrained_model_name_or_path")
        run = self.session.run
        words = tag("h2", text(self.title))
        if model:
            words += tag("span", f"Model: <code>{text(Path(str(model)).name)}</code>", class_="am-muted")
        if run is not None:
            word, kind = PHASES.get(run.status.state, (run.status.state, ""))
            words += tag("span", f"Run: <code>{text(run.path.name)}</code>", class_="am-muted") + badge(word, kind)
        return tag("div", words, class_="am-row")

    def tick(self) -> bool:
        """Keep the state of the run in the title true, whichever tab is open."""
        head = self._head()
        if head != self._head_shown and self._surface is not None:
            self._head_shown = head
            with self.surface.lock:
                self.surface.show({self.part("head"): head})
        return self.session.run is not None and self.session.run.status.alive

    def _heard(self, what: str) -> None:
        if what == RUN and self.session.run is not None:
            self._panel("monitor")
            self.watch()
        self.refresh()
