"""What every panel does: its HTML in regions, its actions by name, its errors shown in place, and a static twin for readers without a kernel."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from automodel.errors import AutomodelError
from automodel_widgets.parts.html import Html, note, region, tag, text
from automodel_widgets.parts.surface import Surface

# Seconds between two looks at what may have changed.
TICK = 0.4


class Panel:
    """One screen, alone in a cell or inside the workbench.

    A subclass gives `regions()` and methods `act_NAME(value, fields)`; in its HTML an action is `self.act("NAME")` and a region's name
    begins with `self.name`. `refresh()` shows what changed. Everything that takes longer than a blink runs in `self.later(...)`.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    # Seconds between two looks once `tick` has said False, for what another tab or a terminal may set going again; None: no more looks.
    idle: ClassVar[float | None] = None

    def __init__(self, *, surface: Surface | None = None) -> None:
        self._surface = surface
        self._error: Html = ""
        self.shown = True
        self.open_tab: Callable[[str], None] = lambda _tab: None
        # Brings the static copy up to date; in the workbench, the copy of the whole.
        self.copy: Callable[[], None] = self._show_twin
        self._children: dict[str, Panel] = {}
        self._ticker: threading.Thread | None = None
        self._stopped, self._woken = threading.Event(), threading.Event()

    # What a subclass gives.

    def body(self) -> Html:
        """Return the panel's layout: fixed HTML, and `region(self.part("x"))` where parts change."""
        raise NotImplementedError

    def parts(self) -> Mapping[str, Html]:
        """Return part -> HTML for everything that changes."""
        return {}

    def tick(self) -> bool:
        """Look for news about twice a second while `watch()` runs; return False to end it."""
        return False

    # What it gets.

    @property
    def surface(self) -> Surface:
        """Return the widget, made when it is first needed; inside the workbench all panels share one."""
        if self._surface is None:
            self._surface = Surface(self.handle, root=self.name)
            self._surface.show(self.regions())
            # The widget's state went out before there was anything to show, and no view is open yet that would take the patch.
            self._surface.settle()
        return self._surface

    def part(self, name: str) -> str:
        """Return the region name of a part."""
        return f"{self.name}.{name}"

    def act(self, name: str) -> str:
        """Return the action name to put into `data-act` or `data-field`."""
        return f"{self.name}.{name}"

    def html(self) -> Html:
        """Return the whole panel as HTML, with every part in its place: what the workbench embeds, and the static twin."""
        regions = self.regions()
        made = regions.pop(self.name)
        for name, content in regions.items():
            made = made.replace(region(name), region(name, content))
        return made

    def regions(self) -> dict[str, Html]:
        """Return region -> HTML, the panel's own frame first."""
        frame = tag("div", region(self.part("error")) + self.body(), class_="am-stack", data_panel=self.name)
        made = {self.name: frame, self.part("error"): self._error, **{self.part(name): html for name, html in self.parts().items()}}
        for child in self._children.values():
            made |= child.regions() if child.shown else {}
        return made

    def refresh(self) -> None:
        """Show what changed."""
        if self._surface is None:
            return
        # Made and shown in one go: what another thread made earlier must not come out later, over a newer state or another tab.
        with self._surface.lock:
            if self.shown:
                self._surface.show(self._drawable())

    def _drawable(self) -> dict[str, Html]:
        """Return the regions; when they cannot be made, the reason alone, and the rest stays as it was."""
        try:
            return self.regions()
        except Exception as error:  # noqa: BLE001  a callback's or a thread's exception is shown nowhere else
            return {self.part("error"): _fault(error)}

    def handle(self, name: str, value: Any, fields: Mapping[str, str]) -> None:
        """Run the action `PANEL.NAME`; an error is shown in the panel, in words."""
        owner, _, action = name.partition(".")
        if owner != self.name:
            child = self._children.get(owner)
            if child is not None:
                child.handle(name, value, fields)
            return
        method: Callable[[Any, Mapping[str, str]], None] | None = getattr(self, f"act_{action.replace('-', '_')}", None)
        if method is None:
            return
        self.guarded(lambda: method(value, fields))

    def guarded(self, work: Callable[[], None]) -> None:
        """Run some work; what goes wrong is shown instead of lost in a callback."""
        self._error = ""
        try:
            work()
        except Exception as error:  # noqa: BLE001  a callback's exception is shown nowhere else
            self._error = _fault(error)
        self.refresh()

    def later(self, work: Callable[[], None]) -> None:
        """Run some work in a thread that prints into the cell that opened the panel."""

        def run() -> None:
            self.guarded(work)
            self._copied()

        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(run,), daemon=True).start()

    def watch(self) -> None:
        """Call `tick` about twice a second in a thread of its own, until it says False; with `idle` set, look on that seldom."""
        if self._ticker is not None and self._ticker.is_alive():
            self._woken.set()
            return
        self._stopped.clear()
        context = contextvars.copy_context()
        self._ticker = threading.Thread(target=context.run, args=(self._watch,), daemon=True)
        self._ticker.start()

    def close(self) -> None:
        """End the thread; the panel stays readable."""
        self._stopped.set()
        self._woken.set()

    def twin(self) -> Html:
        """Return the panel as plain HTML that needs neither kernel nor script."""
        from automodel_widgets.parts.twin import twin

        made = self.html()
        for panel in (self, *self._children.values()):
            made = panel.drawn(made)
        return twin(made, key=self.surface.key, title=self.title)

    def drawn(self, html: Html) -> Html:
        """Return HTML of the page with what a script would draw drawn already."""
        return html

    def _watch(self) -> None:
        pause: float | None = TICK
        settled = False
        while pause is not None:
            self._woken.wait(pause)
            self._woken.clear()
            if self._stopped.is_set():
                break
            more, failed = self._ticked()
            if more:
                settled = False
            elif not settled:
                self._settle()
                settled = True
            pause = TICK if more else None if failed else self.idle
        if not settled:
            self._settle()

    def _ticked(self) -> tuple[bool, bool]:
        """Return whether more is to come, and whether the look failed; what went wrong is shown."""
        try:
            return self.tick(), False
        except Exception as error:  # noqa: BLE001  a thread's exception is shown nowhere else
            self._error = _fault(error)
            self.refresh()
            return False, True

    def _settle(self) -> None:
        """Send the whole state and bring the static copy up to date: what a saved notebook holds."""
        if self._surface is not None:
            self._surface.settle()
        self._copied()

    def _copied(self) -> None:
        """Bring the static copy up to date, at the end of a thread."""
        try:
            self.copy()
        except Exception as error:  # noqa: BLE001  as above
            self._error = _fault(error)
            self.refresh()

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.surface)  # type: ignore[no-untyped-call]  # IPython's display has no types
        self._twin_handle = display(  # type: ignore[no-untyped-call]  # as above
            {"text/html": self.twin(), "text/plain": f"{self.title} (static copy)"},
            raw=True,
            display_id=True,
        )

    def _show_twin(self) -> None:
        handle = getattr(self, "_twin_handle", None)
        if handle is not None:
            handle.update({"text/html": self.twin(), "text/plain": f"{self.title} (static copy)"}, raw=True)


def _fault(error: Exception) -> Html:
    said = error_html(error) if isinstance(error, AutomodelError) else text(f"{type(error).__name__}: {error}")
    return note(said, "bad", live=True)


def error_html(error: AutomodelError) -> Html:
    """Return an error of the library: what, found, expected, fix."""
    rows = [tag("strong", text(error.what))]
    for name in ("found", "expected", "fix"):
        value = getattr(error, name, None)
        if value:
            rows.append(f"{tag('span', name.capitalize() + ':', class_='am-muted')} {text(value)}")
    return "<br>".join(rows)


def problem_html(message: Mapping[str, Any]) -> Html:
    """Return an error that came from another process: what, found, expected, fix."""
    rows = [tag("strong", text(message["what"]))]
    rows += [f"{name.capitalize()}: {text(message[name])}" for name in ("found", "expected", "fix") if message.get(name)]
    return "<br>".join(rows)
