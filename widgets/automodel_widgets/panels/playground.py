"""The playground: what the base model and the tuned one answer to the same prompts, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from automodel.run import Run
from automodel.run.kept import Cell, Result
from automodel_widgets.panels.base import problem_html
from automodel_widgets.panels.of_run import RunPanel
from automodel_widgets.parts.html import Html, Raw, badge, button, choice, code, entry, field, fold, note, region, table, tag, text
from automodel_widgets.state.playground import SIDES, PlaygroundState, differences

FORM = {
    "max_new_tokens": ("Longest answer, in tokens", "number", 1, "A token is a word or a part of one."),
    "temperature": ("Temperature", "number", 0.1, "0 always takes the likeliest token; above 0 draws, so answers vary with the seed."),
    "seed": ("Seed", "number", 1, "The same seed draws the same answer again."),
}


PROMPTS = "One a line, or several lines each with a line of --- between them. A chat model reads each as the user's message, as in training."


class Playground(RunPanel[PlaygroundState]):
    """Asks the base model and the tuned one the same prompts, with the same seed, in a process that frees its memory afterwards."""

    name: ClassVar[str] = "playground"
    title: ClassVar[str] = "Playground"

    def state_of(self, run: Run) -> PlaygroundState:
        """Return the state for a run, with the answers that were kept with it."""
        return PlaygroundState(run)

    def choose(self, run: Run | None) -> None:
        """Ask another run's models from now on."""
        super().choose(run)
        self._wrong: dict[str, str] = {}
        self._kept: Path | None = None

    def opened(self) -> None:
        """Look for new runs and checkpoints when the tab is opened."""
        if self.state is not None and not (self.state.busy or self.state.results):
            self._find(self.state.run)
        else:
            super().opened()

    # What it looks like.

    def body(self) -> Html:
        """Return the frame."""
        return "".join(region(self.part(name)) for name in ("head", "form", "bar", "results"))

    def parts(self) -> Mapping[str, Html]:
        """Return what changes."""
        head = tag("h2", self.title) + tag("p", "The base model and the tuned one answer the same prompts, so you see what training changed.")
        if self.state is None:
            return {"head": head + self.no_run(), "form": "", "bar": "", "results": ""}
        return {"head": head, "form": self._form(self.state), "bar": self._bar(self.state), "results": self._results(self.state)}

    def _form(self, state: PlaygroundState) -> Html:
        pick = self.run_field("play-run")
        options = state.options() or {"": "None yet"}
        point = field("Checkpoint of the tuned model", choice("play-point", self.act("point"), options, state.checkpoint), id_="play-point")
        words = tag(
            "textarea",
            text(state.written),
            id="play-prompts",
            rows=min(max(state.written.count("\n") + 1, 4), 12),
            data_field=self.act("prompts"),
            aria_describedby="play-prompts-help",
        )
        prompts = field("Prompts", words, id_="play-prompts", help_=PROMPTS)
        numbers = "".join(
            field(
                label,
                entry(
                    f"play-{name}",
                    self.act(f"set-{name}"),
                    f"{getattr(state.settings, name):g}" if name == "temperature" else getattr(state.settings, name),
                    kind=kind,
                    step=step,
                    min=0,
                    described=True,
                ),
                id_=f"play-{name}",
                help_=help_,
                error=self._wrong.get(name, ""),
            )
            for name, (label, kind, step, help_) in FORM.items()
        )
        whole = tag("div", pick + point, class_="am-grid") + prompts + tag("div", numbers, class_="am-grid")
        return tag("div", whole, class_="am-stack")

    def _bar(self, state: PlaygroundState) -> Html:
        lacks = None if state.busy else state.why_not()
        label = f"Ask both models ({lacks[:1].lower()}{lacks[1:]})" if lacks else "Ask both models"
        parts = [button(label, self.act("ask"), why_not=state.why_not())]
        words = "Questions as they are trained, held-out ones where the recipe has some"
        parts.append(
            button("Take prompts from the data", self.act("rows"), kind="quiet", title=words, why_not="It is at work" if state.busy else None)
        )
        if state.busy:
            parts.append(button("Cancel", self.act("cancel"), kind="danger"))
            parts.append(tag("span", text(f"{state.loading}… {state.took:.0f} s"), class_="am-muted", role="status"))
        elif any(cell.state == "done" for result in state.results for cell in (result.base, result.tuned)):
            parts.append(button("Keep with the run", self.act("keep"), kind="quiet", title="Write the answers to samples.json in the run folder"))
        row = tag("div", "".join(parts), class_="am-row")
        if state.run.status.alive and not state.busy:
            row += note("This run still trains. Asking its models takes memory on the same machine.", "warn")
        return row

    def _results(self, state: PlaygroundState) -> Html:
        parts = []
        if state.problem is not None:
            parts.append(note(problem_html(state.problem), "bad", live=True))
        parts += [note(f"{SIDES[side]}: {problem_html(message)}", "warn", live=True) for side, message in state.refused.items()]
        if not state.results:
            return "".join(parts)
        point = state.answered.get("step")
        head = ("Prompt", SIDES["base"], f"{SIDES['tuned']}" + (f", step {point:,}" if point is not None else ""), "")
        rows = [(result.prompt, *self._answers(result), Raw(_verdict(result))) for result in state.results]
        parts.append(tag("div", table(head, rows, caption="Answers of both models"), class_="am-answers"))
        parts.append(self._after(state))
        read = "".join(
            code(result.tuned.rendered or result.base.rendered, label=f"Text for prompt {place}") for place, result in enumerate(state.results, 1)
        )
        if any(result.tuned.rendered or result.base.rendered for result in state.results):
            parts.append(fold("Exactly what the models read", tag("div", read, class_="am-stack"), key="play-read"))
        return tag("div", "".join(part for part in parts if part), class_="am-stack")

    def _answers(self, result: Result) -> tuple[Raw, Raw]:
        if result.same is False:
            left, right = differences(result.base.text, result.tuned.text)
        else:
            left, right = [(result.base.text, False)], [(result.tuned.text, False)]
        return Raw(_answer(result.base, left)), Raw(_answer(result.tuned, right))

    def _after(self, state: PlaygroundState) -> Html:
        if self._kept is not None:
            return note(f"Kept in <code>{text(self._kept)}</code>.", "good", live=True)
        if state.busy or not state.released:
            return ""
        peak = f" of at most {state.peak / 1e6:,.0f} MB" if state.peak else ""
        return note(text(f"Done in {state.took:.0f} s. The process of the models has ended: its memory{peak} is free again."), "good", live=True)

    # What it does.

    def act_point(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Choose another checkpoint."""
        if self.state is not None and value in self.state.options():
            self.state.checkpoint = str(value)

    def act_prompts(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Take the prompts."""
        if self.state is not None:
            self.state.write(str(value))

    def act_set_max_new_tokens(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Set the longest answer."""
        self._set("max_new_tokens", value)

    def act_set_temperature(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Set the temperature."""
        self._set("temperature", value)

    def act_set_seed(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Set the seed."""
        self._set("seed", value)

    def act_ask(self, _value: Any, _fields: Mapping[str, str]) -> None:
        """Ask both models."""
        if self.state is not None:
            self._kept = None
            self.state.start()
            self.watch()

    def act_rows(self, _value: Any, _fields: Mapping[str, str]) -> None:
        """Take prompts from the data of the run."""
        if self.state is not None and not self.state.busy:
            self.state.take_rows()
            self.watch()

    def act_keep(self, _value: Any, _fields: Mapping[str, str]) -> None:
        """Write the answers into the run folder."""
        if self.state is not None:
            self._kept = self.state.keep()

    def _set(self, name: str, value: Any) -> None:
        from automodel.errors import RequestError

        if self.state is None:
            return
        try:
            self.state.settings.change(name, value)
        except RequestError as error:
            self._wrong[name] = f"{error.what} Give {error.expected}."
        else:
            self._wrong.pop(name, None)


def _answer(cell: Cell, pieces: list[tuple[str, bool]]) -> Html:
    words = {"waiting": "Waiting", "refused": "Not asked", "cancelled": "Cancelled"}
    if cell.state in words and not cell.text:
        return tag("span", words[cell.state], class_="am-muted")
    shown = "".join(tag("mark", text(piece)) if differs else text(piece) for piece, differs in pieces)
    body = tag("div", shown or tag("em", "nothing"), class_="am-answer")
    if cell.state == "done":
        speed = f"{cell.tokens} tokens, {cell.seconds:.1f} s" + ("" if cell.finished else ", cut off")
        return body + tag("div", text(speed), class_="am-help am-muted")
    return body + tag("div", "Writing…" if cell.state == "writing" else "Cancelled", class_="am-muted")


def _verdict(result: Result) -> Html:
    if result.same is None:
        return ""
    return badge("same", "good") if result.same else badge("different", "warn")
