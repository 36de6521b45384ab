"""Help for a class: is everything there, whose turn it is, a bundle for the teacher, and a fresh start."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from automodel.errors import RequestError
from automodel.run import Run, runs, runs_root
from automodel.run.show import duration
from automodel_widgets.panels.base import Panel
from automodel_widgets.parts.html import Html, Raw, badge, button, dialog, entry, field, fold, note, region, table, tabs, tag, text
from automodel_widgets.parts.surface import Surface
from automodel_widgets.state import jobs
from automodel_widgets.state.lesson import LessonState, make_bundle, preflight
from automodel_widgets.state.lr_finder import missing
from automodel_widgets.state.queue import IN_USE, RUNNING, STARTING, STOPPING, WAITING, Ticket, folder_name, turns
from automodel_widgets.state.recipe import first_recipe
from automodel_widgets.state.session import RECIPE, RUN, Session

TABS = {"check": "Check", "queue": "Queue", "help": "Help bundle", "reset": "Start over"}
WORDS = {"good": "fine", "warn": "look", "bad": "missing"}
# Seconds between two looks at the queue: thirty notebooks on one disk.
LOOK = 2.0
STATES = {
    WAITING: ("waiting", ""),
    STARTING: ("starting", "busy"),
    RUNNING: ("running", "busy"),
    STOPPING: ("time is over", "warn"),
    "finished": ("finished", "good"),
    "stopped": ("stopped", "warn"),
    "failed": ("failed", "bad"),
    "left": ("given back", ""),
    "gone": ("gone", "warn"),
}


class Lesson(Panel):
    """For students and teachers: a check of the machine, a fair queue, a help bundle without secrets, and a fresh start.

    Args:
        recipe: what the queue would run: a Recipe, a dict of sections or a YAML file; absent: the recipe of the session, else the embedded demo.
        root: the folder of the class, shared by all; absent: the folder of the runs.
    """

    name: ClassVar[str] = "lesson"
    title: ClassVar[str] = "Lesson"

    def __init__(self, recipe: Any = None, *, root: str | Path | None = None, session: Session | None = None, surface: Surface | None = None) -> None:
        super().__init__(surface=surface)
        place = Path(root) if root is not None else session.root if session is not None else runs_root()
        self.session = session or Session(first_recipe(recipe), root=place)
        self.state = LessonState(self.session, place)
        self.session.listen(self._heard)
        self._tab = "check"
        self._asking = self._busy = False
        self._done: list[str] | None = None
        self._looked = 0.0
        self._tickets: list[Ticket] = self.state.queue.tickets()
        self.state.checks = preflight(place)

    def tick(self) -> bool:
        """Look at the queue, and start my job when it is my turn; goes on while something of the class waits or runs."""
        if time.monotonic() - self._looked < LOOK:
            return True
        self._looked = time.monotonic()
        run = self.state.step(jobs.start)
        if run is not None:
            self.session.run = run
        self._tickets = self.state.queue.tickets()
        self.refresh()
        return self.state.waiting or any(one.state in (WAITING, *IN_USE) for one in self._tickets)

    # What it looks like.

    def body(self) -> Html:
        """Return the frame."""
        return region(self.part("tabs")) + region(self.part("dialog"))

    def parts(self) -> Mapping[str, Html]:
        """Return the open tab."""
        inner = {"check": self._check, "queue": self._queue, "help": self._help, "reset": self._reset}[self._tab]()
        return {"tabs": tabs(self.act("tab"), TABS, self._tab, tag("div", inner, class_="am-stack")), "dialog": self._dialog()}

    def _check(self) -> Html:
        checks = self.state.checks
        worst = next((kind for kind in ("bad", "warn") if any(one.kind == kind for one in checks)), "good")
        said = {
            "good": "Everything is there.",
            "warn": "You can begin. Have a look at the lines marked with an exclamation mark.",
            "bad": "Something is missing. The last column says what to do.",
        }[worst]
        rows = [(one.name, Raw(badge(WORDS[one.kind], one.kind)), one.found, one.fix) for one in checks]
        shown = table(("What", "State", "Found", "What to do"), rows, caption="What a lesson needs")
        return tag("h2", "Is everything there?") + note(said, worst) + shown + tag("div", button("Check again", self.act("check")), class_="am-row")

    def _queue(self) -> Html:
        waiting, used = turns(self._tickets), [one for one in self._tickets if one.state in IN_USE]
        over = sorted((one for one in self._tickets if one.ended), key=lambda one: -(one.ended or 0))[:8]
        slots, minutes = self.state.queue.slots, self.state.queue.minutes
        limit = f"{minutes:g} minutes each" if minutes else "no time limit"
        words = (
            f"{len(used)} of {slots} {'slot' if slots == 1 else 'slots'} in use, {len(waiting)} waiting, {limit}. Everybody gets a turn: "
            "who has run least recently goes first. Your job starts by itself when it is your turn, as long as this notebook is open."
        )
        rows = [self._row(one, "now") for one in used] + [self._row(one, f"{place}.") for place, one in enumerate(waiting, 1)]
        rows += [self._row(one, "") for one in over]
        head = ("Turn", "Student", "Job", "State", "Time", "")
        shown = table(head, rows, caption="The queue") if rows else note("Nobody is waiting.")
        return tag("h2", "Queue") + tag("p", words) + self._join() + shown + fold("For the teacher: slots and time limit", self._settings())

    def _row(self, one: Ticket, turn: str) -> tuple[Any, ...]:
        now = time.time()
        spent = (one.ended or now) - one.started if one.started else now - one.created
        mine = one.id in self.state.mine
        control = ""
        if mine and one.state == WAITING:
            control = button("Give back", self.act("leave"), value=one.id, kind="quiet")
        elif mine and one.run and self.session.run is not None and str(self.session.run.path) == one.run:
            control = tag("span", "your open run", class_="am-muted")
        word, kind = STATES.get(one.state, (one.state, ""))
        why = tag("div", text(one.why), class_="am-help am-muted") if one.why else ""
        name = text(one.student) + (" <strong>(you)</strong>" if mine else "")
        return turn, Raw(name), one.what, Raw(badge(word, kind) + why), duration(spent), Raw(control)

    def _join(self) -> Html:
        lacks = missing(self.session.recipe)
        waits = "you are waiting already" if self.state.waiting else None
        why = f"{lacks}, in the Recipe tab" if lacks else waits
        label = "Queue my recipe" + (f" ({why})" if why else "")
        id_ = f"{self.name}-student"
        control = entry(id_, self.act("student"), self.state.student, described=True, autocomplete="off")
        who = field("Your name", control, id_=id_, help_="Your runs lie in the folder of this name.")
        return tag(
            "div", tag("div", who, class_="am-grid") + tag("div", button(label, self.act("join"), why_not=why), class_="am-row"), class_="am-stack"
        )

    def _settings(self) -> Html:
        queue, made = self.state.queue, ""
        for name, label, value, help_ in (
            ("slots", "Jobs at once", queue.slots, "One for each GPU, or one for two processor cores."),
            ("minutes", "Minutes a job", f"{queue.minutes:g}", "Then it is stopped and saved, and can be resumed. 0 is no limit."),
        ):
            id_ = f"{self.name}-{name}"
            made += field(label, entry(id_, self.act(name), value, described=True, inputmode="numeric"), id_=id_, help_=help_)
        return tag("div", made, class_="am-grid")

    def _help(self) -> Html:
        run = self._run()
        about = f"about the run <code>{text(run.path.name)}</code>" if run else "without a run, as there is none yet"
        words = (
            f"One zip file {about}: the recipe, the end of the logs, versions and the checks. Tokens, passwords, home folders, and the names of "
            "you and this machine are taken out. Give the file to your teacher."
        )
        made = tag("h2", "Help bundle") + tag("p", words)
        made += tag("div", button("Make the bundle", self.act("bundle"), why_not="it is being made" if self._busy else None), class_="am-row")
        bundle = self.state.bundle
        if bundle is None:
            return made
        size = bundle.path.stat().st_size if bundle.path.exists() else 0
        taken = f"{bundle.removed} {'secret was' if bundle.removed == 1 else 'secrets were'} taken out" if bundle.removed else "no secret was found"
        said = note(f"Written: <code>{text(bundle.path)}</code> ({size / 1e3:.0f} kB; {taken}).", "good", live=True)
        rows = [(name, f"{count:,}") for name, count in bundle.files.items()]
        return made + said + fold("What is in it", table(("File", "Bytes"), rows, caption="Files of the bundle", numbers=(1,)), key="bundle-files")

    def _reset(self) -> Html:
        words = "Stops your runs (each is saved and can be resumed), gives your tickets back, and sets the form to what it was. Nothing is deleted."
        made = tag("h2", "Start over") + tag("p", words)
        made += tag("div", button("Start over…", self.act("ask-reset"), kind="danger"), class_="am-row")
        if self._done is not None:
            stopped = f"Stopping: {', '.join(self._done)}." if self._done else "None of your runs was going on."
            made += note(text(f"The form is as it was. {stopped}"), "good", live=True)
        return made

    def _dialog(self) -> Html:
        if not self._asking:
            return ""
        going = [run.path.name for run in self.state.own_runs()]
        said = tag("p", text(f"These runs are stopped: {', '.join(going)}." if going else "None of your runs is going on."))
        row = button("Start over", self.act("reset"), value="yes", kind="danger")
        row += button("Keep everything", self.act("reset"), value="cancel", kind="quiet", autofocus=True)
        return dialog("Start over?", said + tag("div", row, class_="am-row"), act=self.act("reset"), key="reset")

    # What it does.

    def opened(self) -> None:
        """Follow the queue again when the panel comes back."""
        self.watch()

    def act_tab(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Open a tab."""
        self._tab = str(value) if value in TABS else self._tab
        if self._tab == "queue":
            self.watch()

    def act_check(self, _value: Any, _fields: Mapping[str, str]) -> None:
        """Check again."""
        self.state.checks = preflight(self.state.root)

    def act_student(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Set the name."""
        self.state.student = folder_name(str(value))

    def act_join(self, _value: Any, _fields: Mapping[str, str]) -> None:
        """Take a ticket for the recipe of the session."""
        if missing(self.session.recipe) is None and not self.state.waiting:
            self.state.join(self.session.recipe)
            self._tickets = self.state.queue.tickets()
            self._looked = 0.0
            self.watch()

    def act_leave(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Give a ticket back."""
        self.state.leave(str(value))
        self._tickets = self.state.queue.tickets()

    def act_slots(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Set how many jobs run at once."""
        self.state.queue.set(slots=int(_number(value)))

    def act_minutes(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Set the time limit."""
        self.state.queue.set(minutes=_number(value))

    def act_bundle(self, _value: Any, _fields: Mapping[str, str]) -> None:
        """Write the bundle."""
        self._busy = True

        def work() -> None:
            try:
                folder = self.state.place / "help"
                self.state.bundle = make_bundle(folder, run=self._run(), recipe=self.session.recipe, checks=self.state.checks)
            finally:
                self._busy = False

        self.later(work)

    def act_ask_reset(self, _value: Any, _fields: Mapping[str, str]) -> None:
        """Ask before starting over."""
        self._asking, self._done = True, None

    def act_reset(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Start over, or not."""
        self._asking = False
        if value == "yes":
            self._done = self.state.reset()
            self._tickets = self.state.queue.tickets()

    def _run(self) -> Run | None:
        """Return the run that help is asked about: the open one, else this student's newest."""
        if self.session.run is not None:
            return self.session.run
        for base in (self.state.place, self.session.root):
            found = runs(base)
            if found:
                return found[0]
        return None

    def _heard(self, what: str) -> None:
        if what in (RECIPE, RUN):
            self.refresh()


def _number(value: Any) -> float:
    try:
        return float(str(value).strip())
    except ValueError:
        raise RequestError("A number is needed.", found=repr(value), expected="a number such as 2") from None
