"""The recipe form: made from the recipe's schema, simple settings first, and the same recipe as YAML, command and Python, editable both ways."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from automodel_widgets.panels import recipe_views as views
from automodel_widgets.panels.base import Panel
from automodel_widgets.parts.html import Html, badge, button, note, region, tabs, tag, text
from automodel_widgets.parts.surface import Surface
from automodel_widgets.state.fields import GROUPS, by_path
from automodel_widgets.state.recipe import LANGUAGES, RecipeState, preset, presets
from automodel_widgets.state.recipe_text import sections
from automodel_widgets.state.session import FACTS, RECIPE, Session


class RecipeForm(Panel):
    """Builds a recipe: a form, and the same recipe as YAML, command and Python; each of them fills the others.

    Args:
        recipe: a Recipe, a dict of sections or a YAML file to begin with; absent: the recipe of the session.
        session: what the panels of a workbench share.
    """

    name: ClassVar[str] = "recipe"
    title: ClassVar[str] = "Recipe"

    def __init__(self, recipe: Any = None, *, session: Session | None = None, surface: Surface | None = None) -> None:
        super().__init__(surface=surface)
        self.session = session or Session()
        if recipe is not None:
            self.session.recipe = sections(recipe)
        self.state = RecipeState(self.session)
        self._language = "yaml"
        self._advanced: set[str] = set()
        self.session.listen(self._heard)
        self.state.look()

    @property
    def recipe(self) -> Any:
        """The recipe as an object, or None while something does not fit."""
        self.state.look()
        return self.state.recipe

    # What it looks like.

    def body(self) -> Html:
        """Return the frame: the form on the left, the text on the right."""
        form = tag("div", "".join(region(self.part(group)) for group in GROUPS), class_="am-stack am-top")
        side = tag("div", region(self.part("text")), class_="am-card am-beside")
        return views.rates() + region(self.part("head")) + tag("div", form + side, class_="am-split am-wide-left")

    def parts(self) -> Mapping[str, Html]:
        """Return what changes."""
        self.state.look()
        groups = {group: views.group(self.state, group, self.act, opened=group in self._advanced) for group in GROUPS}
        return {"head": self._head(), "text": self._text(), **groups}

    def _head(self) -> Html:
        state = self.state
        changed = sum(state.counts().values())
        top = tag("h2", self.title) + self._badge() + tag("span", f"{changed} setting{'' if changed == 1 else 's'} changed", class_="am-muted")
        said = "".join(note(text(line), live=True) for line in state.notes)
        said += "".join(note(text(line), "bad", live=True) for line in state.elsewhere)
        if state.missing:
            said += note("Before it can start: " + " ".join(text(line) for line in state.missing), "warn")
        return tag("div", tag("div", top, class_="am-row") + self._start() + said, class_="am-stack")

    def _badge(self) -> Html:
        state = self.state
        wrong = len(state.drafts) + len(state.problems)
        if wrong:
            return badge(f"{wrong} to correct", "bad")
        return badge(f"{len(state.missing)} missing", "warn") if state.missing else badge("complete", "good")

    def _start(self) -> Html:
        options = tag("option", "Choose…", value="", selected=True)
        options += "".join(tag("option", text(label), value=name) for name, label in presets().items())
        pick = tag("label", "Start from", for_="recipe-preset", class_="am-strong")
        pick += tag("select", options, id="recipe-preset", data_field=self.act("preset"), data_value="")
        why = None if self.session.recipe else "nothing is set"
        row = pick + button("Reset all", self.act("reset-all"), kind="quiet", why_not=why)
        if self.state.before is not None:
            row += button("Undo", self.act("undo"), kind="quiet", title="Bring back the recipe from before")
        return tag("div", row, class_="am-row")

    def _text(self) -> Html:
        return tabs(self.act("language"), LANGUAGES, self._language, views.written(self.state, self._language, self.act))

    # What it does.

    def handle(self, name: str, value: Any, fields: Mapping[str, str]) -> None:
        """Run an action; fields and texts carry what they are about in their name."""
        _, _, action = name.partition(".")
        verb, _, about = action.partition(".")
        if verb == "set" and about in by_path():
            self.guarded(lambda: self.state.set(about, value))
        elif verb == "text" and about in LANGUAGES:
            self.guarded(lambda: self.state.take_text(about, str(value)))
        else:
            super().handle(name, value, fields)

    def act_method(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Choose the method."""
        self.state.choose_method(str(value))

    def act_reset(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Give a field its default."""
        if value in by_path():
            self.state.reset(str(value))

    def act_reset_all(self, _value: Any, _fields: Mapping[str, str]) -> None:
        """Give every field its default."""
        self.state.reset_all()

    def act_undo(self, _value: Any, _fields: Mapping[str, str]) -> None:
        """Bring back the recipe from before a preset or a reset."""
        self.state.undo()

    def act_preset(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Start from a recipe of the package."""
        if value in presets():
            self.state.replace(preset(str(value)))

    def act_advanced(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Open or close the advanced settings of a group."""
        self._advanced ^= {str(value)} & set(GROUPS)

    def act_language(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Show another language."""
        self._language = str(value) if value in LANGUAGES else self._language

    def act_use(self, _value: Any, _fields: Mapping[str, str]) -> None:
        """Nothing to do: leaving the box to press the button has sent its text."""

    def act_drop(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Show the recipe of the form again in place of a text that does not fit."""
        self.state.drop_text(str(value))

    def _heard(self, what: str) -> None:
        if what in (RECIPE, FACTS):
            self.refresh()
