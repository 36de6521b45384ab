"""The launcher: devices and who uses them, how many processes, what is checked before a start, and the start."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from automodel.errors import AutomodelError
from automodel.run import Run
from automodel_widgets.panels.base import Panel, error_html
from automodel_widgets.parts.html import Html, Raw, attributes, badge, button, entry, field, note, region, table, tag, text
from automodel_widgets.parts.surface import Surface
from automodel_widgets.state import jobs
from automodel_widgets.state import launch as state_of
from automodel_widgets.state.devices import Device, Machine, machine, size
from automodel_widgets.state.launch import EXECUTORS, Check, LaunchState, executor_why_not, key, missing
from automodel_widgets.state.recipe_text import sections
from automodel_widgets.state.session import FACTS, RECIPE, RUN, Session

MARKS = {"good": ("good", "ok"), "warn": ("warn", "look"), "bad": ("bad", "stops it"), "open": ("", "not checked")}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")


class Launcher(Panel):
    """Checks a recipe against this machine and starts it as a job that outlives the notebook.

    Args:
        recipe: a Recipe, a dict of sections or a YAML file; absent: the recipe of the session.
        root: where runs lie; absent: AUTOMODEL_RUNS, else ./runs.
        session: what the panels of a workbench share.
    """

    name: ClassVar[str] = "launch"
    title: ClassVar[str] = "Launch"

    def __init__(self, recipe: Any = None, *, root: Any = None, session: Session | None = None, surface: Surface | None = None) -> None:
        super().__init__(surface=surface)
        self.session = session or Session(root=root)
        if recipe is not None:
            self.session.recipe = sections(recipe)
        self.state = LaunchState()
        self.machine: Machine = machine()
        self.gpus: set[str] = set(self.machine.idle)
        self.processes = max(1, len(self.gpus))
        self._living: list[Run] = []
        self._doing = ""
        self._turn = 0
        self._failure: AutomodelError | None = None
        self._wrong = ""
        self._started: Run | None = None
        self._tell()
        self.session.listen(self._heard)
        self._look()

    def opened(self) -> None:
        """Look at the devices again."""
        self._look()

    def check(self, *, start: bool = False) -> None:
        """Check the recipe in the background; with `start`, start it when nothing stands in the way."""
        self._turn += 1
        self._failure, self._started, self._doing = None, None, "checking"
        turn, asked, recipe = self._turn, self._asked(), self.session.recipe
        self.state.begin(asked)
        self.later(lambda: self._work(turn, asked, recipe, start=start))

    def _work(self, turn: int, asked: str, recipe: dict[str, Any], *, start: bool) -> None:
        try:
            self.machine = machine()
            self._check(turn, recipe)
            if turn == self._turn and start and self.state.ready(asked):
                self._doing = "starting"
                self.refresh()
                self._start(recipe)
        finally:
            if turn == self._turn:
                self._doing = ""

    def _check(self, turn: int, recipe: dict[str, Any]) -> None:
        root = state_of.root_of(recipe, self.session.root)
        made, found = state_of.check_recipe(recipe, self.processes)
        self._put(turn, found, state_of.check_output(root))
        if made is None:
            return
        free = self.chosen.free_for_each(self.processes)
        try:
            plan = jobs.ask("plan", recipe, world_size=self.processes, device_memory=free)
            self._put(turn, *state_of.from_plan(plan, free, root))
        except AutomodelError as error:
            self._put(turn, state_of.from_error(error))

    def _put(self, turn: int, *found: Check) -> None:
        # what was found of a recipe that has changed since says nothing of the one that stands there now
        if turn == self._turn:
            self.state.put(*found)
            self.refresh()

    def _start(self, recipe: dict[str, Any]) -> None:
        try:
            root = state_of.root_of(recipe, self.session.root)
            run = jobs.start(recipe, processes=self.processes, devices=self.devices, root=root)
        except AutomodelError as error:
            self._failure = error
            return
        self._doing, self._started = "", run
        self.session.run = run
        self.open_tab("monitor")

    @property
    def chosen(self) -> Machine:
        """The machine as the job will see it: with the ticked GPUs and no other."""
        return self.machine.only(self.gpus)

    @property
    def devices(self) -> list[str] | None:
        """The numbers of the GPUs that the job gets; None on a machine without."""
        if not self.machine.gpus:
            return None
        return [device.number for device in self.chosen.used_by(self.processes) if device is not self.machine.cpu]

    def _tell(self) -> None:
        """Let the other panels know on what the job will run."""
        self.session.learn("devices", sorted(self.gpus) if self.machine.gpus else None)
        self.session.learn("processes", self.processes)

    def _look(self) -> None:
        self.machine = machine()
        self._living = state_of.living(self.session.root)

    def _asked(self) -> str:
        return key(self.session.recipe, self.processes, sorted(self.gpus))

    # What it looks like.

    def body(self) -> Html:
        """Return the frame."""
        left = tag("div", region(self.part("form")) + region(self.part("devices")), class_="am-stack am-top")
        right = tag("div", region(self.part("checks")), class_="am-stack am-top")
        return region(self.part("head")) + tag("div", left + right, class_="am-split")

    def parts(self) -> Mapping[str, Html]:
        """Return what changes."""
        return {"head": self._head(), "form": self._form(), "devices": self._devices(), "checks": self._checks()}

    def _head(self) -> Html:
        top = tag("h2", self.title) + (badge(self._doing, "busy") if self._doing else "")
        return tag("div", tag("div", top, class_="am-row") + self._news(), class_="am-stack")

    def _news(self) -> Html:
        said = ""
        if self.state.withdrawn:
            said += note(
                "The recipe changed while it was being checked, so the start was withdrawn. Check it again, or start it as it is now.",
                "warn",
                live=True,
            )
        if self._failure is not None:
            said += note(error_html(self._failure) + tag("p", "Nothing was started and nothing was written.", class_="am-flush"), "bad", live=True)
        if self._started is not None:
            name = self._started.path.name
            words = f"<strong>Started.</strong> Run <code>{text(name)}</code> goes on when this notebook is closed. The Monitor tab shows it."
            said += note(words, "good", live=True)
        return said

    def _form(self) -> Html:
        name = str(self.session.get("run.name") or "")
        id_ = "launch-name"
        help_ = "Part of the folder's name, beside date and model. Letters, digits, dots and dashes."
        control = entry(id_, self.act("name"), name, described=True, placeholder="run", spellcheck="false")
        made = field("Name of the run", control, id_=id_, help_=help_, error=self._wrong)
        made += self._process_field() + self._executor_field()
        root = state_of.root_of(self.session.recipe, self.session.root)
        made += tag("div", f"Runs go to <code>{text(root)}</code>", class_="am-muted am-small")
        return tag("div", made, class_="am-card am-stack")

    def _process_field(self) -> Html:
        choices = state_of.process_choices(self.chosen)
        choices += [] if self.processes in choices else [self.processes]
        options = "".join(tag("option", str(count), value=count, selected=count == self.processes) for count in choices)
        control = tag(
            "select",
            options,
            id="launch-processes",
            data_field=self.act("processes"),
            data_value=self.processes,
            aria_describedby="launch-processes-help",
        )
        help_ = "One for each ticked GPU." if self.gpus else "On a CPU one is usual: the processes share its cores and its memory."
        return field("Processes", control, id_="launch-processes", help_=help_)

    def _executor_field(self) -> Html:
        options = ""
        for name, label in EXECUTORS.items():
            why = executor_why_not(name)
            options += tag("option", text(f"{label} (not yet)" if why else label), value=name, disabled=why is not None, selected=name == "local")
        control = tag(
            "select", options, id="launch-executor", data_field=self.act("executor"), data_value="local", aria_describedby="launch-executor-help"
        )
        help_ = "Slurm and cloud are not in this version yet: start the job on that machine itself, with the command of the Recipe tab."
        return field("Where it runs", control, id_="launch-executor", help_=help_)

    def _devices(self) -> Html:
        used = self.chosen.used_by(self.processes)
        rows = [self._device(device, device in used) for device in (*self.machine.gpus, self.machine.cpu)]
        made = table(("Device", "Free", "Busy", "Who uses it"), rows, caption="Devices of this machine", numbers=(1, 2))
        if not self.machine.gpus:
            made += tag("p", "No NVIDIA GPU was found: the job computes on the CPU.", class_="am-muted am-after am-small")
        elif not self.gpus:
            made += tag("p", "No GPU is ticked: the job computes on the CPU.", class_="am-muted am-after am-small")
        head = tag("div", tag("h3", "Devices", class_="am-flush") + button("Look again", self.act("look"), kind="quiet"), class_="am-row am-between")
        return tag("div", head + made, class_="am-card")

    def _device(self, device: Device, used: bool) -> tuple[Any, ...]:
        label = f"{device.label}: {self.machine.cores} cores" if device.name == "cpu" else device.label
        users = [f"run {text(run.path.name)}" for run in self._living if self._is_on(run, device)]
        users += [f"{text(user.name)} ({user.pid}{', ' + size(user.bytes) if user.bytes else ''})" for user in device.users]
        who = "<br>".join(users) if users else "nobody"
        mark = badge("chosen", "good") if used else ""
        busy = "-" if device.busy is None else f"{device.busy:.0%}"
        return (
            Raw(self._tick(device, label) + (f"<br>{mark}" if mark else "")),
            Raw(f"<span class='am-nowrap'>{size(device.free)}<br><span class='am-muted'>of {size(device.total)}</span></span>"),
            busy,
            Raw(f"<span class='am-small'>{who}</span>"),
        )

    def _is_on(self, run: Run, device: Device) -> bool:
        """Say whether a run computes on a device: on those that were chosen for it, else on what there is."""
        given = (run.folder.record().get("launch") or {}).get("devices")
        if given:
            return device.number in given
        return device is self.machine.cpu or (given is None and len(self.machine.gpus) == 1)

    def _tick(self, device: Device, label: str) -> Html:
        """Return a GPU with a box to tick, and the CPU as a word."""
        if device is self.machine.cpu:
            return text(label)
        about = {"data_act": self.act("device"), "data_value": device.name, "data_key": f"device:{device.name}"}
        box = f"<input{attributes(type='checkbox', checked=device.name in self.gpus, **about)}>"
        return tag("label", f"{box} {text(label)}", class_="am-inline")

    def _checks(self) -> Html:
        stale = self.state.stale(self._asked())
        rows = [self._row(check, stale=stale) for check in self.state.checks.values()]
        made = table(("Check", "", "What was found"), rows, caption="Checks before the start")
        words = tag("p", "Checked again when you start. No weights are read and nothing is written.", class_="am-muted am-small am-flush")
        return tag("div", tag("h3", "Before the start", class_="am-flush") + words + made + self._buttons(stale=stale), class_="am-card am-stack")

    def _row(self, check: Check, *, stale: bool) -> tuple[Any, ...]:
        kind, word = MARKS[check.state]
        going = self._doing == "checking" and check.state == "open" and not self.state.failed
        mark = badge("checking", "busy") if going else badge("changed since", "") if stale and check.state != "open" else badge(word, kind)
        fix = f"<br><strong>What to do:</strong> {text(check.fix)}" if check.fix and check.state != "good" else ""
        return check.label, Raw(mark), Raw(text(check.text) + fix)

    def _buttons(self, *, stale: bool) -> Html:
        lacks = self._lacks(stale=stale)
        label = "Start" if lacks is None else f"Start ({lacks})"
        row = button(label, self.act("start"), why_not=lacks)
        before = missing(self.session.recipe, {})
        row += button("Check only", self.act("check"), kind="quiet", why_not=self._doing or before)
        return tag("div", row, class_="am-row")

    def _lacks(self, *, stale: bool) -> str | None:
        """Return why the start button cannot be pressed, for its label."""
        if self._doing:
            return self._doing
        lacks = missing(self.session.recipe, self.session.facts)
        if lacks is None and self._wrong:
            lacks = "correct the name of the run"
        if lacks is None and self.state.failed and not stale:
            lacks = f"{self.state.failed[0].label.lower()}: see the checks"
        return lacks

    # What it does.

    def act_start(self, _value: Any, _fields: Mapping[str, str]) -> None:
        """Check and start."""
        if self._lacks(stale=self.state.stale(self._asked())) is None:
            self.check(start=True)

    def act_check(self, _value: Any, _fields: Mapping[str, str]) -> None:
        """Check without starting."""
        if not self._doing and missing(self.session.recipe, {}) is None:
            self.check()

    def act_look(self, _value: Any, _fields: Mapping[str, str]) -> None:
        """Look at the devices again."""
        self._look()

    def act_name(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Name the run."""
        given = str(value).strip()
        self._wrong = "" if not given or _NAME.fullmatch(given) else f"{given!r} does not fit: letters, digits, dots and dashes, at most 60"
        if not self._wrong:
            self.session.set("run.name", given or None)

    def act_processes(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Set the number of processes."""
        self.processes = min(max(int(value), 1), state_of.MOST_PROCESSES)
        self._tell()
        self._changed()

    def act_device(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Tick a GPU, or untick it; there is one process for each."""
        self.gpus ^= {str(value)} & {device.name for device in self.machine.gpus}
        self.processes = max(1, len(self.gpus))
        self._tell()
        self._changed()

    def act_executor(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Choose where the job runs: only this machine can be chosen."""
        why = executor_why_not(str(value))
        if why:
            raise ValueError(f"{EXECUTORS.get(str(value), value)} is {why}")

    def _heard(self, what: str) -> None:
        if what == RECIPE:
            self._changed()
        if what in (RECIPE, FACTS, RUN):
            self.refresh()

    def _changed(self) -> None:
        """Withdraw a check or a start under way whose recipe is no longer the one that stands there."""
        if self._doing == "checking" and self.state.seen != self._asked():
            self._turn += 1
            self._doing = ""
            self.state.withdrawn = True
        self._failure = None
