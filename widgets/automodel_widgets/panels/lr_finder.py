"""The learning-rate finder: one short search, its curve, and three suggestions to choose from."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil, floor, log10
from typing import Any, ClassVar

from automodel.errors import RequestError
from automodel_widgets.panels.base import Panel, error_html
from automodel_widgets.parts.html import Html, Raw, badge, button, entry, field, fold, note, progress, region, table, tag, text
from automodel_widgets.parts.surface import Surface
from automodel_widgets.state.lr_finder import (
    NAMES,
    STEPS,
    LrFinderState,
    Point,
    Settings,
    missing,
    rounded,
    shown,
    usual_range,
)
from automodel_widgets.state.recipe_text import sections
from automodel_widgets.state.session import RECIPE, Session

LR = "optimizer.lr"
WIDTH, HEIGHT = 680, 300
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 54, 44
DASHES = {"valley": "none", "minimum/10": "6 3", "steep": "2 3"}
Scale = tuple[float, float]


class LRFinder(Panel):
    """Tries learning rates from very small to very large in one short training, and suggests one.

    Args:
        recipe: a Recipe, a dict of sections or a YAML file; absent: the recipe of the session.
    """

    name: ClassVar[str] = "lr-finder"
    title: ClassVar[str] = "Learning rate finder"

    def __init__(self, recipe: Any = None, *, session: Session | None = None, surface: Surface | None = None) -> None:
        super().__init__(surface=surface)
        self.session = session or Session(sections(recipe))
        if session is not None and recipe is not None:
            self.session.recipe = sections(recipe)
        self.session.listen(self._heard)
        self.state = LrFinderState()
        self.settings = Settings()
        self._wrong: dict[str, str] = {}

    # From code.

    def find(self, *, steps: int | None = None, timeout: float = 600) -> dict[str, float]:
        """Search now, wait for the end (at most `timeout` seconds), and return name -> suggested rate.

        Raises:
            AutomodelError: the recipe is wrong, or the search broke off.
        """
        self.settings = replace(self.settings, steps=steps or self.settings.steps)
        self.state.start(self.session.recipe, self.settings)
        end = time.monotonic() + timeout
        while self.state.look():
            if time.monotonic() > end:
                self.state.close()
                raise RequestError("The search took too long.", found=f"more than {timeout:g} s", fix="take fewer steps")
            time.sleep(0.2)
        self.refresh()
        if self.state.error is not None:
            raise self.state.error
        return dict(self.state.suggestions)

    def tick(self) -> bool:
        """Read what is new; the end of the search ends the watch."""
        going = self.state.look()
        self.refresh()
        return going

    # What it looks like.

    def body(self) -> Html:
        """Return the frame."""
        words = (
            "One short training, with a learning rate that rises from step to step, shows which rates teach the model and which break it. "
            "It runs in a process of its own: your model and your runs are left alone."
        )
        return tag("div", tag("h2", text(self.title)) + tag("p", words)) + "".join(region(self.part(name)) for name in ("form", "result"))

    def parts(self) -> Mapping[str, Html]:
        """Return what changes."""
        return {"form": self._form(), "result": self._result()}

    def _form(self) -> Html:
        low, high = usual_range(self.session.recipe)
        usual = " (usual for adapters)" if self.session.get("peft") else " (usual for training all weights)"
        fields = self._field("low", "From", self.settings.low, shown(low), f"Lowest rate; {shown(low)}{usual}.")
        fields += self._field("high", "To", self.settings.high, shown(high), f"Highest rate; {shown(high)}{usual}.")
        help_ = f"{STEPS[0]} is usual, {STEPS[1]} on a CPU; more gives a smoother curve."
        fields += self._field("steps", "Steps", self.settings.steps, "automatic", help_)
        return tag("div", fields, class_="am-grid") + self._buttons()

    def _field(self, name: str, label: str, value: float | None, usual: str, help_: str) -> Html:
        id_ = f"{self.name}-{name}"
        shown = "" if value is None else f"{value:g}"
        control = entry(id_, self.act(name), shown, described=True, placeholder=usual, inputmode="decimal", disabled=self.state.running)
        return field(label, control, id_=id_, help_=help_, error=self._wrong.get(name, ""), changed=value is not None)

    def _buttons(self) -> Html:
        state = self.state
        if state.running:
            word = f"Step {len(state.points)} of {state.total}" if state.total else "Loading model and data"
            row = button("Stop", self.act("stop"), kind="danger") + badge(word, "busy")
            return tag("div", row, class_="am-row", style="margin: 12px 0 6px") + (progress(state.share, "Steps done") if state.total else "")
        lacks = missing(self.session.recipe) or ("correct the fields above first" if self._wrong else None)
        label = "Search again" if state.ended else "Find a learning rate"
        row = button(label if lacks is None else f"{label} ({lacks})", self.act("start"), why_not=lacks)
        now = self.session.get(LR)
        row += tag(
            "span",
            f"In the recipe now: <strong>{shown(now)}</strong>" if isinstance(now, (int, float)) else "The recipe names no rate yet.",
            class_="am-muted",
        )
        return tag("div", row, class_="am-row", style="margin-top: 12px")

    def _result(self) -> Html:
        state = self.state
        if state.error is not None:
            return note(error_html(state.error), "bad", live=True)
        words, kind = state.verdict
        parts = note(text(words), kind, live=True) if words else ""
        if len(state.points) > 1:
            parts += tag("div", plot(state.shown, state.suggestions), class_="am-scroll")
            parts += _legend()
        if state.suggestions:
            parts += self._suggestions()
        if len(state.points) > 1:
            rows = [(f"{point.lr:.2g}", f"{point.loss:.4g}", f"{point.smoothed:.4g}") for point in state.points]
            inner = table(("Learning rate", "Loss", "Smoothed loss"), rows, caption="Loss at each learning rate", numbers=(0, 1, 2))
            parts += fold("The curve in numbers", inner, key="lr-numbers")
        return tag("div", parts, class_="am-stack") if parts else ""

    def _suggestions(self) -> Html:
        now, rows = self.session.get(LR), []
        for name, rate in self.state.suggestions.items():
            value = rounded(rate)
            used = (
                badge("in the recipe", "good")
                if now == value
                else button("Use this value", self.act("use"), value=name, aria_label=f"Use {shown(value)}")
            )
            mark = f"{line_sample(name)} {text(name)}" + (" <strong>(usual)</strong>" if name == "valley" else "")
            rows.append((Raw(mark), shown(value), NAMES[name], Raw(used)))
        return table(("Suggestion", "Learning rate", "What it is", ""), rows, caption="Suggested learning rates", numbers=(1,))

    # What it does.

    def act_low(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Set the lowest rate."""
        self._set("low", value)

    def act_high(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Set the highest rate."""
        self._set("high", value)

    def act_steps(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Set the number of steps."""
        self._set("steps", value)

    def act_start(self, _value: Any, _fields: Mapping[str, str]) -> None:
        """Start a search."""
        if missing(self.session.recipe) is None and not self._wrong and not self.state.running:
            self.state.start(self.session.recipe, self.settings)
            self.watch()

    def act_stop(self, _value: Any, _fields: Mapping[str, str]) -> None:
        """End the search; its points are kept."""
        self.state.stop()

    def act_use(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Write a suggestion into the recipe."""
        rate = self.state.suggestions.get(str(value))
        if rate is not None:
            self.session.set(LR, rounded(rate))

    def close(self) -> None:
        """End the thread and the search."""
        super().close()
        self.state.close()

    def _set(self, name: str, value: Any) -> None:
        self._wrong.pop(name, None)
        try:
            self.settings = self.settings.having(name, str(value))
            self.settings.checked(usual_range(self.session.recipe))
        except RequestError as error:
            self._wrong[name] = f"{error.what} Found {error.found}; expected {error.expected}."
        except ValueError:
            self._wrong[name] = f"{value!r} is no number; write it as 100" if name == "steps" else f"{value!r} is no number; write it as 1e-6"
        else:
            self._wrong.clear()

    def _heard(self, what: str) -> None:
        if what == RECIPE:
            self.refresh()


def plot(points: Sequence[Point], suggestions: Mapping[str, float]) -> Html:
    """Return the curve as SVG: loss over the logarithm of the rate, single steps faint, smoothed strong, suggestions as upright lines."""
    across = (log10(points[0].lr), max(log10(points[-1].lr), log10(points[0].lr) + 0.01))
    values = [value for point in points for value in (point.loss, point.smoothed)]
    up = _nice(min(values), max(values))
    inner = _grid(across, up)
    dots = "".join(f'<circle cx="{_x(point.lr, across):.1f}" cy="{_y(point.loss, up):.1f}" r="2.2"/>' for point in points)
    inner += f'<g style="fill: var(--am-train-faint)">{dots}</g>'
    path = " ".join(f"{_x(point.lr, across):.1f},{_y(point.smoothed, up):.1f}" for point in points)
    inner += f'<polyline points="{path}" style="fill: none; stroke: var(--am-train); stroke-width: 2.2"/>'
    inner += "".join(_marker(row, name, rate, across) for row, (name, rate) in enumerate(sorted(suggestions.items(), key=lambda pair: pair[1])))
    said = "; ".join(f"{name} {shown(rate)}" for name, rate in suggestions.items())
    label = f"Loss over learning rate, from {shown(points[0].lr)} to {shown(points[-1].lr)}." + (f" Suggested: {said}." if said else "")
    style = f"width: 100%; max-width: {WIDTH + 120}px; min-width: 560px; height: auto; font: 12px system-ui, sans-serif"
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{text(label)}" style="{style}">{inner}</svg>'


def line_sample(name: str) -> Html:
    """Return a small piece of the line that marks a suggestion in the plot."""
    style = f"stroke: var(--am-check); stroke-width: 2.2; stroke-dasharray: {DASHES[name]}"
    return f'<svg width="26" height="10" aria-hidden="true"><line x1="0" y1="5" x2="26" y2="5" style="{style}"/></svg>'


def _legend() -> Html:
    dot = '<svg width="12" height="10" aria-hidden="true"><circle cx="6" cy="5" r="3" style="fill: var(--am-train-faint)"/></svg>'
    line = (
        '<svg width="26" height="10" aria-hidden="true"><line x1="0" y1="5" x2="26" y2="5" style="stroke: var(--am-train); stroke-width: 2.2"/></svg>'
    )
    return tag("div", f"<span>{dot} one step</span><span>{line} smoothed</span>", class_="am-row am-muted")


def _grid(across: Scale, up: Scale) -> Html:
    faint, words = 'style="stroke: var(--am-grid)"', 'style="fill: var(--am-muted)"'
    inner = ""
    for power in range(ceil(across[0] - 1e-9), floor(across[1] + 1e-9) + 1):
        x = _x(10.0**power, across)
        inner += f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{HEIGHT - BOTTOM}" {faint}/>'
        inner += f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle" {words}>{shown(10.0**power)}</text>'
    for step in range(5):
        value = up[0] + (up[1] - up[0]) * step / 4
        y = _y(value, up)
        inner += f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" {faint}/>'
        inner += f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" {words}>{value:.3g}</text>'
    middle = (LEFT + WIDTH - RIGHT) / 2
    inner += f'<text x="{middle:.0f}" y="{HEIGHT - 8}" text-anchor="middle" {words}>learning rate, each line ten times the last</text>'
    return inner + f'<text x="4" y="{TOP - 8}" {words}>loss</text>'


def _marker(row: int, name: str, rate: float, across: Scale) -> Html:
    x, y = _x(rate, across), 14 + 15 * row
    if not LEFT <= x <= WIDTH - RIGHT:
        return ""
    style = f"stroke: var(--am-check); stroke-width: 1.8; stroke-dasharray: {DASHES.get(name, 'none')}"
    end = x > WIDTH - 150
    line = f'<line x1="{x:.1f}" y1="{y - 10}" x2="{x:.1f}" y2="{HEIGHT - BOTTOM}" style="{style}"/>'
    words = f"{name} {shown(rate)}"
    return line + (
        f'<text x="{x - 5 if end else x + 5:.1f}" y="{y}" text-anchor="{"end" if end else "start"}" '
        f'style="fill: var(--am-text); paint-order: stroke; stroke: var(--am-bg); stroke-width: 4px">{text(words)}</text>'
    )


def _x(rate: float, across: Scale) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (log10(rate) - across[0]) / (across[1] - across[0])


def _y(value: float, up: Scale) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - up[0]) / (up[1] - up[0])


def _nice(low: float, high: float) -> Scale:
    """Return a range whose quarters are round numbers."""
    size = max(high - low, 1e-6) / 4
    unit = 10 ** floor(log10(size))
    for factor in (1, 2, 2.5, 5, 10, 20):
        step: float = factor * unit
        begin = floor(low / step) * step
        if begin + 4 * step >= high:
            return begin, begin + 4 * step
    return low, high
