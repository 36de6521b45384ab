"""The model panel: pick a model, see from its config alone what it is, what can be done with it and what is in the way, and take it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, ClassVar

from automodel.errors import AutomodelError
from automodel_widgets.panels import model_views as views
from automodel_widgets.panels.base import Panel, error_html
from automodel_widgets.parts.html import Html, attributes, badge, button, choice, entry, field, note, region, tabs, tag, text, tiles
from automodel_widgets.parts.surface import Surface
from automodel_widgets.state import jobs
from automodel_widgets.state.model import DEMO_MODEL, can_use, from_address, known_models, label_of, numbers, target_error, verdict
from automodel_widgets.state.session import RECIPE, Session

SIDES = {"report": "Report", "structure": "Structure", "config": "Config", "tokenizer": "Tokenizer", "kernels": "Kernels"}
MODEL = "model.pretrained_model_name_or_path"


class ModelExplorer(Panel):
    """Looks at a model without reading a weight: verdict with evidence, structure, config, tokenizer, kernels.

    Args:
        target: hub id, model folder or config.json to look at; absent: the model of the recipe is offered.
        session: what the panels of a workbench share.
    """

    name: ClassVar[str] = "model"
    title: ClassVar[str] = "Model"

    def __init__(self, target: str | None = None, *, session: Session | None = None, surface: Surface | None = None) -> None:
        super().__init__(surface=surface)
        self.session = session or Session()
        self.target = str(target or self.session.get(MODEL) or "")
        self.found: dict[str, Any] | None = None
        self._seen = ""
        self.other: dict[str, Any] | None = None
        self.words: dict[str, Any] | None = None
        self.query = ""
        self._models = known_models()
        self._side = "report"
        self._problem: Html = ""
        self._other_problem: Html = ""
        self._words_problem: Html = ""
        self._busy = ""
        self._comparing = ""
        self.session.listen(self._heard)
        if target:
            self.look(self.target)

    def look(self, target: str) -> None:
        """Look at a model in the helper process."""
        self.target, self._problem = target, ""
        wrong = target_error(target)
        if wrong is not None:
            # What was seen of another model must not stand under this name.
            self.found, self._problem = None, note(text(wrong), "bad", live=True)
            return
        self._busy = target
        future = jobs.submit("inspect", target)
        self.later(lambda: self._take(future, target))

    def _take(self, future: Future[Any], target: str) -> None:
        try:
            found = future.result()
        except AutomodelError as error:
            if target == self._busy:
                self.found, self._problem = None, note(error_html(error), "bad", live=True)
            return
        finally:
            self._busy = "" if target == self._busy else self._busy
        if target == self.target:
            self.found, self._seen, self.words, self.other = found, target, None, None
            self._words_problem = self._other_problem = self._comparing = ""
            if self._side == "tokenizer":
                self._look_at_words()

    def _look_at_words(self) -> None:
        if self.found is None or not self.found["tokenizer"] or self.words is not None:
            return
        target, future = self._seen, jobs.submit("tokenizer", self._seen)

        def take() -> None:
            try:
                words = future.result()
            except AutomodelError as error:
                self._words_problem = note(error_html(error), "bad", live=True)
                return
            if target == self._seen:
                self.words, self._words_problem = words, ""

        self.later(take)

    # What it looks like.

    def body(self) -> Html:
        """Return the frame."""
        return "".join(region(self.part(name)) for name in ("head", "pick", "problem", "verdict", "result"))

    def parts(self) -> Mapping[str, Html]:
        """Return what changes."""
        return {"head": self._head(), "pick": self._pick(), "problem": self._problem, "verdict": self._verdict(), "result": self._result()}

    def _head(self) -> Html:
        mark = ""
        if self._busy:
            mark = badge("looking", "busy")
        elif self.found is not None:
            kind, word, _ = verdict(self.found)
            mark = badge(word, kind)
        return tag("div", tag("h2", self.title) + mark, class_="am-row")

    def _pick(self) -> Html:
        control = entry(
            "model-target", self.act("target"), self.target, described=True, spellcheck="false", autocomplete="off", placeholder="OWNER/NAME"
        )
        help_ = "A folder, a config.json, or a hub id such as Qwen/Qwen3-0.6B; a web address of the hub works, too."
        typed = field("Model", control, id_="model-target", help_=help_)
        options = {"": "Choose…", **self._models}
        listed = choice(
            "model-known", self.act("known"), options, self.target if self.target in self._models else "", aria_describedby="model-known-help"
        )
        here = field(
            "On this machine", listed, id_="model-known", help_=f"{len(self._models) - 1} in the download cache; no network is needed for these."
        )
        row = button("Look at it", self.act("look"), why_not=self._why_not_look()) + button("Use the demo model", self.act("demo"), kind="quiet")
        return tag("div", typed + here, class_="am-grid") + tag("div", row, class_="am-row am-after")

    def _why_not_look(self) -> str | None:
        if self._busy:
            return "Looking already"
        return None if self.target else "Type or choose a model first"

    def _verdict(self) -> Html:
        if self._busy:
            return note(f"Looking at <code>{text(label_of(self._busy))}</code>… The first look also starts a helper process.", live=True)
        if self.found is None:
            return "" if self._problem else note("See what a model is, and what can be done with it here, before a weight is read.")
        kind, _, said = verdict(self.found)
        return note(f"{tag('strong', text(label_of(self._seen)))}: {text(said)}", kind) + self._use()

    def _use(self) -> Html:
        assert self.found is not None
        if self.session.get(MODEL) == self._seen:
            return tag("div", badge("the recipe uses this model", "good"), class_="am-row am-after")
        why = None if can_use(self.found) else "It cannot be trained here; the report says why"
        return tag("div", button("Use this model", self.act("use"), why_not=why), class_="am-row am-after")

    def _result(self) -> Html:
        if self.found is None or self._busy:
            return ""
        found = self.found
        inner: dict[str, Callable[[], Html]] = {
            "report": lambda: views.report(found),
            "structure": lambda: views.structure(found),
            "config": self._config,
            "tokenizer": lambda: self._words_problem or views.words(found, self.words),
            "kernels": lambda: views.kernels(found),
        }
        return tag("div", tiles(numbers(found)) + tabs(self.act("side"), SIDES, self._side, inner[self._side]()), class_="am-stack")

    def _config(self) -> Html:
        assert self.found is not None
        search = entry("model-search", self.act("search"), self.query, kind="search", live=True, placeholder="head, rope, 128 …", autocomplete="off")
        left = field("Search names and values", search, id_="model-search") + views.config(self.found["config"], self.query)
        options = "".join(f"<option{attributes(value=name)}></option>" for name in self._models)
        other = entry("model-other", self.act("other"), self._comparing, list="model-others", placeholder="OWNER/NAME or folder", spellcheck="false")
        right = field(
            "Compare with", other + tag("datalist", options, id="model-others"), id_="model-other", help_="Only settings that differ are shown."
        )
        right += self._other_problem
        if self.other is not None:
            right += views.compared(self.found["config"], self.other["config"], label_of(self._seen), label_of(self._comparing))
        return tag("div", tag("div", left, class_="am-stack") + tag("div", right, class_="am-stack am-top"), class_="am-split")

    # What it does.

    def act_target(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Take what was typed or pasted, and look at it."""
        target = from_address(str(value))
        if target and target not in (self._busy, self.target):
            self.look(target)
        else:
            self.target = target

    def act_known(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Take one from the list."""
        if value:
            self.look(str(value))

    def act_look(self, _value: Any, _fields: Mapping[str, str]) -> None:
        """Look at the model that is named."""
        if self.target != self._busy or not self._busy:
            self._models = known_models()
            self.look(self.target)

    def act_demo(self, _value: Any, _fields: Mapping[str, str]) -> None:
        """Look at the demo model and take it."""
        self.session.set(MODEL, str(DEMO_MODEL))
        self.look(str(DEMO_MODEL))

    def act_use(self, _value: Any, _fields: Mapping[str, str]) -> None:
        """Write the model into the recipe."""
        if self.found is not None and can_use(self.found):
            self.session.set(MODEL, self._seen)

    def act_side(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Show another tab."""
        self._side = str(value) if value in SIDES else self._side
        if self._side == "tokenizer":
            self._look_at_words()

    def act_search(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Mark what matches."""
        self.query = str(value)

    def act_other(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Compare with the config of another model."""
        self._comparing, self.other, self._other_problem = from_address(str(value)), None, ""
        if not self._comparing:
            return
        wrong = target_error(self._comparing)
        if wrong is not None:
            self._other_problem = note(text(wrong), "bad", live=True)
            return
        self._other_problem = note("Reading its config…", live=True)
        name, future = self._comparing, jobs.submit("inspect", self._comparing)

        def take() -> None:
            try:
                other = future.result()
            except AutomodelError as error:
                self._other_problem = note(error_html(error), "bad", live=True)
                return
            if name == self._comparing:
                self.other, self._other_problem = other, ""

        self.later(take)

    def _heard(self, what: str) -> None:
        if what == RECIPE:
            if not self.target:
                self.target = str(self.session.get(MODEL) or "")
            self.refresh()
