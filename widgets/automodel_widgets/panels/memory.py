"""The memory plan: what each device will hold, item by item, against what is free now; what would make it fit; and how right it was."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, ClassVar

from automodel.errors import AutomodelError
from automodel.run import Run
from automodel_widgets.panels.base import Panel, error_html
from automodel_widgets.parts.html import Html, Raw, badge, button, entry, field, note, region, table, tag, text, tiles
from automodel_widgets.parts.surface import Surface
from automodel_widgets.state import jobs
from automodel_widgets.state.devices import Machine, machine, size
from automodel_widgets.state.memory import BAND, Item, Measured, MemoryState, applied, device_words, key, lacking, peak, processes_of
from automodel_widgets.state.recipe_text import sections
from automodel_widgets.state.session import FACTS, RECIPE, RUN, Session

# Seconds without a change after which a new plan is made.
QUIET = 0.6
COLOURS = {"weights": 0, "adapters": 1, "gradients": 2, "optimizer": 3, "activations": 4, "logits": 5, "workspace": 6, "runtime": 7}
# Bars are drawn for so many processes; the others are the same.
BARS = 4


class MemoryPlan(Panel):
    """Plans the memory of a recipe before anything is started, and offers changes that make it fit.

    Args:
        recipe: a Recipe, a dict of sections or a YAML file; absent: the recipe of the session.
        session: what the panels of a workbench share.
    """

    name: ClassVar[str] = "memory"
    title: ClassVar[str] = "Memory"

    def __init__(self, recipe: Any = None, *, session: Session | None = None, surface: Surface | None = None) -> None:
        super().__init__(surface=surface)
        self.session = session or Session()
        if recipe is not None:
            self.session.recipe = sections(recipe)
        self.state = MemoryState()
        self.machine: Machine = machine()
        self._limit: int | None = None
        self._wrong = ""
        self._turn = 0
        self._busy = False
        self._done = ""
        self.session.listen(self._heard)
        if session is None:
            self.opened()

    def opened(self) -> None:
        """Plan what is not planned yet, and look back at the run that has ended."""
        if self._asked() != self.state.seen:
            self.plan()
        run = self.session.run
        if run is not None and run.status.done and (self.state.measured is None or self.state.measured.run != run.path.name):
            self.act_compare(None, {})

    @property
    def processes(self) -> int:
        """The number of processes that the launcher is set to."""
        found = self.session.facts.get("processes")
        return found if isinstance(found, int) and found > 0 else 1

    @property
    def devices(self) -> list[str] | None:
        """The GPUs that are ticked in the launcher; None where nothing was chosen."""
        found = self.session.facts.get("devices")
        return found if isinstance(found, list) else None

    @property
    def chosen(self) -> Machine:
        """The machine as the job will see it."""
        return self.machine if self.devices is None else self.machine.only(self.devices)

    def plan(self, *, wait: float = 0.0) -> None:
        """Make a plan in the helper process; `wait` lets more changes come first."""
        self._turn += 1
        turn = self._turn
        if lacking(self.session.recipe) is not None:
            self._busy = False
            return
        self._busy = True
        self.later(lambda: self._work(turn, wait))

    def _work(self, turn: int, wait: float) -> None:
        time.sleep(wait)
        if turn != self._turn:
            return
        self.machine = machine()
        recipe, asked, free = self.session.recipe, self._asked(), self._free()
        try:
            answer = jobs.ask("plan", recipe, world_size=self.processes, device_memory=free)
            # An older answer that comes late must not stand under newer settings.
            if turn == self._turn:
                self.state.take(asked, answer, free, here=self._limit is None)
        except AutomodelError as error:
            if turn == self._turn:
                self.state.fail(asked, error)
        finally:
            if turn == self._turn:
                self._busy = False

    def _asked(self) -> str:
        return key(self.session.recipe, self.processes, self._limit, self.devices or ())

    def _free(self) -> int:
        return self._limit or self.chosen.free_for_each(self.processes)

    # What it looks like.

    def body(self) -> Html:
        """Return the frame."""
        return "".join(region(self.part(name)) for name in ("head", "bars", "fit", "run"))

    def parts(self) -> Mapping[str, Html]:
        """Return what changes."""
        return {"head": self._head(), "bars": self._bars(), "fit": self._fit(), "run": self._run()}

    def _head(self) -> Html:
        lacks = lacking(self.session.recipe)
        top = tag("h2", self.title)
        if self._busy:
            top += badge("planning", "busy")
        elif self.state.answer is not None and lacks is None:
            kind, word, _ = self.state.verdict
            top += badge(word, kind)
        why = lacks or ("planning already" if self._busy else None)
        shown = "" if self._limit is None else f"{self._limit / 1e9:g}"
        free = size(self.chosen.free_for_each(self.processes))
        id_ = "memory-limit"
        control = entry(id_, self.act("limit"), shown, described=True, inputmode="decimal", placeholder=f"{free} free now")
        limit = field(
            "Plan for a device with, GB", control, id_=id_, help_="Another machine than this one. Empty: what is free here now.", error=self._wrong
        )
        again = button("Plan again" if self.state.seen else "Plan", self.act("plan"), why_not=why)
        row = tag("div", limit + tag("div", again, class_="am-row"), class_="am-grid am-bottom am-measure")
        return tag("div", tag("div", top, class_="am-row") + row + self._said(lacks), class_="am-stack")

    def _said(self, lacks: str | None) -> Html:
        done = note(text(self._done), "good", live=True) if self._done else ""
        if lacks is not None:
            return note(f"{text(lacks.capitalize())}, in the Model, Data or Recipe tab. No weights are read for a plan.")
        if self.state.error is not None:
            return done + note(error_html(self.state.error), "bad", live=True)
        if self.state.answer is None:
            words = "Reading the config and the data… The first plan also starts a helper process." if self._busy else "Not planned yet."
            return done + note(words, live=True)
        kind, _, sentence = self.state.verdict
        said = [line[:1].upper() + line[1:] for line in self.state.notes] or [f"The estimate is right within about {BAND:.0%}"]
        return done + note(f"<strong>{text(sentence)}</strong> {text('. '.join(said))}.", kind, live=True)

    def _bars(self) -> Html:
        if self.state.answer is None or lacking(self.session.recipe) is not None:
            return ""
        labels = device_words(self.chosen, self.processes)
        bars = "".join(self._bar(label) for label in labels[:BARS])
        more = tag("p", f"and {len(labels) - BARS} more of the same", class_="am-muted") if len(labels) > BARS else ""
        stale = tag("p", "Being planned anew.", class_="am-muted am-flush") if self._busy else ""
        return tag("div", stale + bars + more + self._table() + tiles(self.state.facts()), class_="am-stack")

    def _bar(self, label: str) -> Html:
        state = self.state
        parts = "".join(_segment(item, state.scale) for item in state.items)
        limit = 100 * state.free / state.scale
        mark = f'<span class="am-limit-mark" style="left:{limit:.2f}%"></span>' if limit < 99.5 else ""
        low, high = state.band
        where = f"{size(state.free)} {'planned for' if self._limit else 'free now'}"
        words = f"{label}: about {size(state.total)} of {where}, between {size(low)} and {size(high)}. The table below has the parts."
        bar = tag("div", tag("div", parts, class_="am-bar") + mark, class_="am-bar-frame", role="img", aria_label=words)
        ends = tag("span", f"about <strong>{size(state.total)}</strong> (between {size(low)} and {size(high)})") + tag("span", text(where))
        head = tag("div", tag("strong", text(label)) + ends, class_="am-row am-between")
        return tag("div", head + bar, class_="am-stack am-tight")

    def _table(self) -> Html:
        rows = []
        for item in self.state.items:
            swatch = f'<span class="am-swatch {_colour(item)}" aria-hidden="true"></span>'
            share = item.bytes / self.state.total
            rows.append((_whole(swatch + text(item.label)), _whole(size(item.bytes)), f"{share:.0%}" if share >= 0.005 else "<1%", item.words))
        rows.append(
            (Raw("<strong>Sum</strong>"), _whole(f"<strong>{size(self.state.total)}</strong>"), "", "a device, at the largest moment of a step")
        )
        return table(("Part", "Size", "Share", "What it is"), rows, caption="Memory of one device, by part", numbers=(1, 2))

    def _fit(self) -> Html:
        state = self.state
        if state.answer is None or lacking(self.session.recipe) is not None or not (state.changes or state.advice):
            return ""
        rows = []
        why = "planning" if self._busy else None
        for number, change in enumerate(state.changes):
            mark = badge("fits", "good") if change.fits else badge("not enough", "warn")
            said = text(change.text[:1].upper() + change.text[1:]) + "<br>" + " ".join(f"<code>{text(one)}</code>" for one in change.overrides)
            act = button("Apply", self.act("apply"), value=number, why_not=why, aria_label=f"Apply: {change.text}")
            saves = size(state.total - change.total) if change.total < state.total else "-"
            rows.append((Raw(said), _whole(saves), Raw(f"{_whole(size(change.total))}<br>{mark}"), Raw(act)))
        made = table(("Change", "Saves", "Then about", ""), rows, caption="What would take less memory", numbers=(1, 2)) if rows else ""
        rest = "".join(tag("p", text(line[:1].upper() + line[1:] + "."), class_="am-muted am-flush") for line in state.advice)
        return tag("div", tag("h3", "What would make it fit") + made + rest)

    def _run(self) -> Html:
        run = self.session.run
        if run is None:
            return ""
        measured, name = self.state.measured, run.path.name
        if measured is None or measured.run != name:
            ready = peak(run) is not None
            why = None if ready else "the run has measured nothing yet"
            return tag("div", button("Compare with the run", self.act("compare"), kind="quiet", why_not=why, title=name), class_="am-row")
        rows = [("Predicted", size(measured.predicted)), ("Measured peak", size(measured.peak))]
        kind = "good" if abs(measured.off) <= BAND else "warn"
        words = f"{abs(measured.off):.0%} too {'much' if measured.off >= 0 else 'little'}" if abs(measured.off) >= 0.005 else "as predicted"
        head = tag("div", tag("h3", "Predicted and measured") + badge(words, kind), class_="am-row")
        return head + tag("p", f"Run <code>{text(name)}</code>") + table(("", "Memory"), rows, caption="Predicted against measured", numbers=(1,))

    # What it does.

    def act_plan(self, _value: Any, _fields: Mapping[str, str]) -> None:
        """Plan again, against what is free now."""
        self._done = ""
        self.plan()

    def act_limit(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Plan for a device of another size."""
        given, self._wrong = str(value).strip().replace(",", "."), ""
        try:
            limit = float(given) if given else None
        except ValueError:
            limit = -1.0
        if limit is not None and not 0.1 <= limit <= 100_000:
            self._wrong = f"{given!r} does not fit: from 0.1; usually 8 to 192 GB"
            return
        self._limit = None if limit is None else round(limit * 1e9)
        self.plan()

    def act_apply(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Make a change of the recipe."""
        change = self.state.changes[int(value)]
        made = applied(self.session.recipe, change.overrides)
        self._done = f"Changed in the recipe: {', '.join(one.removeprefix('--') for one in change.overrides)}."
        self.session.recipe = made

    def act_compare(self, _value: Any, _fields: Mapping[str, str]) -> None:
        """Plan the run's own recipe and put it beside what the run has measured."""
        run = self.session.run
        measured = peak(run) if run is not None else None
        if run is not None and measured is not None:
            self.later(lambda: self._measure(run, measured))

    def _measure(self, run: Run, measured: int) -> None:
        count = processes_of(run)
        answer = jobs.ask("plan", str(run.folder.recipe_path), world_size=count)
        self.state.measured = Measured(run.path.name, int(answer["memory_total"]), measured)

    def _heard(self, what: str) -> None:
        if what == RUN or (what in (RECIPE, FACTS) and not self.shown):
            self.refresh()
        elif what in (RECIPE, FACTS) and self._asked() != self.state.seen:
            self.plan(wait=QUIET)
            self.refresh()


def _whole(content: Html) -> Raw:
    """Return a cell whose words stay on one line."""
    return Raw(f'<span class="am-nowrap">{content}</span>')


def _colour(item: Item) -> str:
    """Return the colour of a part, the same in every plan; the grey ones are what is not the model's."""
    return f"am-c{COLOURS[item.name]}" if item.name in COLOURS else "am-hatched"


def _segment(item: Item, scale: int) -> Html:
    return f'<span class="{_colour(item)}" style="width:{100 * item.bytes / scale:.2f}%" title="{text(item.label)}: {size(item.bytes)}"></span>'
