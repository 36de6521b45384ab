"""The runs of a folder: what there is, side by side, and what to do with them; or a whole class, a row for each student."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from automodel.run import Run
from automodel.run.show import duration, number
from automodel_widgets.panels.base import Panel
from automodel_widgets.panels.runs_views import COLUMNS, STUDENT_COLUMNS, explained, head_row, overlay, swatch
from automodel_widgets.parts.html import Html, Raw, badge, button, dialog, note, region, table, tag, text, tiles
from automodel_widgets.parts.surface import Surface
from automodel_widgets.state.runs import CURVES, RunRow, RunsState, Student
from automodel_widgets.state.session import Session

# Ticks between two looks at the folder: a table of many runs costs more than one run.
EVERY, EVERY_CLASS = 5, 12
# A report up to this size can be saved from the panel; a larger one only by its path, for it would weigh down the notebook.
LINKED_BYTES = 400_000


class Runs(Panel):
    """Lists runs, newest first: open, compare, resume, report, delete.

    Args:
        root: the folder of runs; absent: AUTOMODEL_RUNS, else ./runs. With `by="student"` a shared folder that holds a folder of runs per student.
        by: "student" shows a row for each student's folder, with the newest run.
    """

    name: ClassVar[str] = "runs"
    title: ClassVar[str] = "Runs"

    def __init__(
        self, *, root: str | Path | None = None, by: str | None = None, session: Session | None = None, surface: Surface | None = None
    ) -> None:
        super().__init__(surface=surface)
        self.session = session
        self.state = RunsState(session.root if session is not None and root is None else root, by=by)
        self._why: str | None = None
        self._asking: str | None = None
        self._report: Path | None = None
        self._busy = ""
        self._count = 0
        self.state.look()

    def opened(self) -> None:
        """Look again when the tab is opened."""
        self.state.look()
        self.watch()

    @property
    def surface(self) -> Surface:
        """Return the widget; from now on the table follows the folder."""
        first = self._surface is None
        made = super().surface
        if first:
            self.watch()
        return made

    def figure(self, column: str = "loss") -> Any:
        """Return the ticked runs (else the first of the table) as a plotly figure, for a report or a saved notebook."""
        return self.state.figure(column=column)

    def tick(self) -> bool:
        """Read the folder again from time to time, as long as something goes on."""
        self._count += 1
        if self._count % (EVERY_CLASS if self.state.is_class else EVERY) == 0:
            self.state.look()
            self.refresh()
            if self.state.is_class:
                self._show_twin()
        return self.shown and (self.state.is_class or self.state.alive)

    # What it looks like.

    def body(self) -> Html:
        """Return the frame."""
        return "".join(region(self.part(name)) for name in ("head", "bar", "table", "news", "compare", "opened", "dialog"))

    def parts(self) -> Mapping[str, Html]:
        """Return what changes."""
        return {
            "head": self._head(),
            "bar": self._bar() if self.state.rows else "",
            "table": self._students() if self.state.is_class else self._table(),
            "news": self._news(),
            "compare": self._compare(),
            "opened": region("monitor") if "monitor" in self._children else "",
            "dialog": self._dialog(),
        }

    def _head(self) -> Html:
        state = self.state
        back = button("All students", self.act("student"), value="", kind="quiet") if state.student is not None else ""
        title = f"Runs of {state.student}" if state.student is not None else "Class" if state.is_class else "Runs"
        row = tag("h2", text(title)) + back + button("Look again", self.act("look"), kind="quiet")
        place = tag("span", f"in <code>{text(state.root)}</code>", class_="am-muted")
        counts = tiles({"Students": len(state.students), **state.counts()}) if state.is_class and state.students else ""
        return tag("div", tag("div", row + place, class_="am-row") + counts, class_="am-stack")

    def _bar(self) -> Html:
        """Return the buttons for the ticked run."""
        chosen = self.state.chosen
        row = chosen[0] if len(chosen) == 1 else None
        which = None if row else "Tick one run first" if not chosen else "Tick only one run"
        key = row.key if row else None
        parts = [button("Open", self.act("open"), value=key, why_not=which)]
        if not self.state.is_class:
            parts.append(button("Resume", self.act("resume"), value=key, kind="quiet", why_not=which or (row.why_no_resume() if row else None)))
        parts.append(button("Write report", self.act("report"), value=key, kind="quiet", why_not=which or self._busy or None))
        if not self.state.is_class:
            parts.append(button("Delete…", self.act("ask-delete"), value=key, kind="danger", why_not=which or (row.why_no_delete() if row else None)))
        if chosen:
            parts.append(button("Untick all", self.act("clear"), kind="quiet"))
        told = f"{len(chosen)} ticked" if chosen else "Tick one run to work with it, two or more to compare them."
        blocked = (row.why_no_delete() or "") if row and not self.state.is_class else ""
        parts.append(tag("span", text(told + (f"; it cannot be deleted: {blocked[0].lower()}{blocked[1:]}" if blocked else "")), class_="am-muted"))
        return tag("div", "".join(parts), class_="am-row", role="group", aria_label="For the ticked run")

    def _table(self) -> Html:
        rows = self.state.in_order()
        if not rows:
            return note("No runs here yet. Start one in the Launch tab, or with <code>automodel demo</code>.")
        body = "".join(self._row(row) for row in rows)
        return self._grid(head_row(COLUMNS, self.state, self.act("sort")), body, caption="Runs")

    def _students(self) -> Html:
        found = self.state.students
        if not found:
            return note("No student folders here yet. Each student needs a folder of runs below this one.")
        order = {row.student: place for place, row in enumerate(self.state.in_order())}
        body = "".join(self._student(one) for one in sorted(found, key=lambda one: order.get(one.name, len(order))))
        return self._grid(head_row(STUDENT_COLUMNS, self.state, self.act("sort")), body, caption="Students and their newest runs")

    def _grid(self, head: Html, body: Html, *, caption: str) -> Html:
        inner = tag("caption", text(caption), class_="am-hidden") + tag("thead", head) + tag("tbody", body)
        return tag("div", tag("table", inner, class_="am-runs"), class_="am-scroll", tabindex="0", role="region", aria_label=caption)

    def _row(self, row: RunRow) -> Html:
        opener = self._link(row.label, "open", row.key, title=f"Open {row.run.path.name} in the monitor", data_word=True)
        first = [tag("td", self._tick(row), class_="am-one"), tag("th", opener, scope="row", class_="am-name")]
        return tag("tr", "".join(first) + self._cells(row) + self._tail(row), data_key=f"run:{row.key}") + self._reason(row, len(COLUMNS) + 1)

    def _student(self, one: Student) -> Html:
        opener = self._link(one.name, "student", one.name, title=f"All runs of {one.name}", data_word=True)
        row = one.newest
        if row is None:
            empty = tag("td", "") + tag("th", opener, scope="row") + tag("td", "0", class_="am-num")
            return tag("tr", empty + tag("td", badge("No run yet"), colspan=len(STUDENT_COLUMNS) - 2), data_key=f"student:{one.name}")
        newest = self._link(row.run.path.name, "open", row.key, title="Open in the monitor", data_word=True)
        cells = [
            tag("td", self._tick(row), class_="am-one"),
            tag("th", opener, scope="row"),
            tag("td", f"{one.count:,}", class_="am-num"),
        ]
        line = "".join(cells) + self._cells(row) + tag("td", newest, class_="am-name")
        return tag("tr", line, data_key=f"student:{one.name}") + self._reason(row, len(STUDENT_COLUMNS) + 1)

    def _tick(self, row: RunRow) -> Html:
        on = self.state.slot(row.key) is not None
        full = not on and len(self.state.chosen) >= 8
        label = f"Choose {row.student or row.run.path.name}"
        box = {"data_act": self.act("choose"), "data_value": row.key, "data_key": f"choose:{row.key}"}
        title = "Eight runs at most" if full else None
        made = tag("input", type="checkbox", checked=on, disabled=full, aria_label=label, title=title, **box).removesuffix("</input>")
        return f"{made} {swatch(self.state.slot(row.key))}"

    def _link(self, label: str, act: str, value: str, **more: object) -> Html:
        return tag("button", text(label), type="button", class_="am-link", data_act=self.act(act), data_value=value, **more)

    def _cells(self, row: RunRow) -> Html:
        state = badge(row.word, row.kind)
        if row.status.state == "failed":
            opened = self._why == row.key
            why = self._link(
                "Hide" if opened else "Why?", "why", row.key, title=f"Why did {row.run.path.name} fail?", aria_expanded=str(opened).lower()
            )
            state += tag("div", f"{text(row.problem)} {why}", class_="am-muted am-told")
        numbers = (row.step, number(row.status.loss), number(row.best), duration(row.seconds))
        return tag("td", state) + "".join(tag("td", text(cell), class_="am-num am-one") for cell in numbers)

    def _tail(self, row: RunRow) -> Html:
        started = datetime.fromtimestamp(row.run.created).strftime("%d %b %H:%M") if row.run.created else "-"
        return "".join(tag("td", text(cell), class_="am-one") for cell in (started, row.model, row.task))

    def _reason(self, row: RunRow, width: int) -> Html:
        if self._why != row.key or row.status.state != "failed":
            return ""
        return tag("tr", tag("td", tag("div", explained(row, self.act("rerun")), class_="am-inrow"), colspan=width), data_key=f"why:{row.key}")

    def _news(self) -> Html:
        if self._busy:
            return note(text(self._busy), live=True)
        if self._report is None or not self._report.is_file():
            return ""
        said = f"The report was written to <code>{text(self._report)}</code>. It is one page that opens anywhere."
        if self._report.stat().st_size <= LINKED_BYTES:
            data = b64encode(self._report.read_bytes()).decode()
            name = f"{self._report.parent.name}.html"
            said += " " + tag("a", "Save the report", class_="am-button", download=name, href=f"data:text/html;base64,{data}")
        return note(said, "good", live=True)

    def _compare(self) -> Html:
        chosen = self.state.chosen
        if len(chosen) < 2:
            return ""
        found = self.state.comparison()
        names = [Raw(swatch(self.state.slot(row.key)) + text(row.label)) for row in chosen]
        same = note("These runs have the same settings.")
        rows = [(Raw(tag("code", text(key))), *cells) for key, cells in found.settings.items()]
        settings = _side_by_side("Setting", names, rows, "Settings that differ") if rows else same
        outcome = _side_by_side("Outcome", names, [(key.capitalize(), *cells) for key, cells in found.outcome.items()], "How the runs came out")
        parts = [
            tag("h3", f"Comparison of {len(chosen)} runs"),
            overlay(self.state, self.act("curve")),
            tag("h4", "Settings that differ"),
            settings,
            tag("h4", "Outcome"),
            outcome,
        ]
        return tag("section", "".join(parts), aria_label="Comparison")

    def _dialog(self) -> Html:
        row = self.state.row(self._asking) if self._asking is not None else None
        if row is None:
            return ""
        points, elsewhere = len(row.run.checkpoints), row.run.folder.checkpoints_dir
        apart = row.run.path not in elsewhere.resolve().parents
        what = "" if apart or not points else f"its {points} checkpoint{'s' if points != 1 else ''}, "
        said = tag("p", f"The folder of this run, with {what}its curves and its logs, is deleted for good.")
        said += tag("p", tag("code", text(row.run.path)))
        said += tag("p", f"Its checkpoints lie in <code>{text(elsewhere)}</code> and stay.") if apart and points else ""
        buttons = button("Keep it", self.act("delete"), value="cancel", kind="quiet", autofocus=True)
        buttons += button("Delete the run", self.act("delete"), value=row.key, kind="danger")
        return dialog(f"Delete {row.run.path.name}?", said + tag("div", buttons, class_="am-row"), act=self.act("delete"), key="delete-run")

    # What it does.

    def act_look(self, _value: Any, _fields: Mapping[str, str]) -> None:
        """Read the folder again."""
        self.state.look()
        self.watch()

    def act_sort(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Sort by a column, or turn the order."""
        self.state.sort_by(str(value))

    def act_choose(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Tick a run, or untick it."""
        self.state.choose(str(value), self.state.slot(str(value)) is None)

    def act_clear(self, _value: Any, _fields: Mapping[str, str]) -> None:
        """Untick all."""
        self.state.clear()

    def act_curve(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Compare another curve."""
        self.state.curve = str(value) if value in CURVES else self.state.curve

    def act_student(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Show one student's runs, or the class again."""
        names = {one.name for one in self.state.students}
        self.state.student = str(value) if value in names else None
        self.state.clear()
        self.state.look()
        self.watch()

    def act_why(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Explain a failure below its row, or hide that again."""
        self._why = None if self._why == value else str(value)

    def act_open(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Show a run in the monitor."""
        self._show(self._known(value).run)

    def act_resume(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Go on with a run."""
        row = self._known(value)
        if row.why_no_resume() is None:
            self._work("Starting the run again…", lambda: self._show(row.run.resume()))

    def act_rerun(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Start a failed run anew with a change to its recipe."""
        from automodel_widgets.state.jobs import rerun

        place, _, key = str(value).partition(":")
        run = self._known(key).run
        changes = run.explain().remedies[int(place)].overrides
        self._work("Starting the run with the change…", lambda: self._show(rerun(run, list(changes), root=run.path.parent)))

    def act_report(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Write the report of a run."""
        run = self._known(value).run

        def write() -> None:
            self._report = run.report()

        self._work("Writing the report…", write)

    def act_ask_delete(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Ask before a run is deleted."""
        self._asking = self._known(value).key

    def act_delete(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Delete the run that was asked about, or keep it."""
        asked, self._asking = self._asking, None
        if value != asked:
            return
        run = self._known(value).run
        run.delete()
        if self.session is not None and self.session.run is not None and self.session.run.path == run.path:
            self.session.run = None
        self.state.look()

    def _work(self, said: str, work: Any) -> None:
        """Run something slow and say so meanwhile."""
        self._busy, self._report = said, None

        def whole() -> None:
            try:
                work()
            finally:
                self._busy = ""
                self.state.look()

        self.later(whole)

    def _show(self, run: Run) -> None:
        if self.session is not None:
            self.session.run = run
            self.open_tab("monitor")
            return
        from automodel_widgets.panels.monitor import Monitor

        child = self._children.get("monitor")
        if isinstance(child, Monitor):
            child.follow(run)
        else:
            self._children["monitor"] = Monitor(run, surface=self.surface)
        self.refresh()

    def _known(self, key: Any) -> RunRow:
        row = self.state.row(str(key))
        if row is None:
            raise LookupError(f"there is no run {key!r} any more; press Look again")
        return row


def _side_by_side(first: str, names: list[Raw], rows: list[tuple[Any, ...]], caption: str) -> Html:
    return table((first, *names), rows, caption=caption)
