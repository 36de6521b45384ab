"""A screen about the checkpoints of one run: which run it is, and what follows when that changes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from automodel.run import Run, attach
from automodel_widgets.panels.base import Panel
from automodel_widgets.parts.html import Html, choice, field, note
from automodel_widgets.parts.surface import Surface
from automodel_widgets.state.points import with_points
from automodel_widgets.state.session import RUN, Session


class OfRun(Protocol):
    """What such a screen needs of its state: the run, and the work in another process."""

    run: Run

    @property
    def busy(self) -> bool:
        """Say whether the work goes on."""

    def poll(self) -> bool:
        """Take in what came; False when nothing more will come."""

    def cancel(self) -> None:
        """End the work."""


State = TypeVar("State", bound=OfRun)


class RunPanel(Panel, Generic[State]):
    """A panel with a run to choose: the session's, the one that is given, or the newest with a checkpoint.

    Args:
        run: a Run, its id or folder; absent: the newest with a checkpoint.
        root: where runs are looked for.
        session: of the workbench; its root and its run go before.
        surface: of the workbench.
    """

    def __init__(
        self,
        run: Run | str | Path | None = None,
        *,
        root: str | Path | None = None,
        session: Session | None = None,
        surface: Surface | None = None,
    ) -> None:
        super().__init__(surface=surface)
        self.root = root if session is None else session.root
        self.session = session
        self.state: State | None = None
        self._runs: list[Run] = []
        if session is not None:
            session.listen(self._heard)
            run = run or session.run
        self._find(run if isinstance(run, Run) or run is None else attach(run, root=self.root))

    def state_of(self, run: Run) -> State:
        """Return the state of the panel for a run."""
        raise NotImplementedError

    def choose(self, run: Run | None) -> None:
        """Be about another run from now on; what went on for the last one ends."""
        if self.state is not None:
            self.state.cancel()
        self.state = self.state_of(run) if run is not None else None

    def opened(self) -> None:
        """Look for new runs when the tab is opened."""
        if self.state is None:
            self._find(None)
        else:
            self._runs = with_points(self.root, also=self.state.run)

    def tick(self) -> bool:
        """Show what came since."""
        more = self.state is not None and self.state.poll()
        self.refresh()
        return more

    def run_field(self, id_: str) -> Html:
        """Return the field in which a run is chosen."""
        chosen = self.state.run.path if self.state is not None else ""
        return field("Run", choice(id_, self.act("run"), {str(run.path): run.path.name for run in self._runs}, chosen), id_=id_)

    def no_run(self) -> Html:
        """Return what is said while no run can be chosen."""
        return note("No run has a checkpoint yet. Train a model first: a checkpoint is saved at the end of each epoch and of the run.")

    def act_run(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Choose another run."""
        run = next((run for run in self._runs if str(run.path) == value), None)
        if run is not None:
            self.choose(run)

    def act_cancel(self, _value: Any, _fields: Mapping[str, str]) -> None:
        """End the work."""
        if self.state is not None:
            self.state.cancel()

    def close(self) -> None:
        """End the thread and the process."""
        super().close()
        if self.state is not None:
            self.state.cancel()

    def _find(self, run: Run | None) -> None:
        self._runs = with_points(self.root, also=run)
        self.choose(run or (self._runs[0] if self._runs else None))

    def _heard(self, what: str) -> None:
        if what == RUN and self.session is not None and self.session.run is not None and not (self.state and self.state.busy):
            self._find(self.session.run)
