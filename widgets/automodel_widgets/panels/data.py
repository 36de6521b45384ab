"""The data panel: rows as training will see them, token by token, what is trained on and what is not, and whether it is worth starting."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, ClassVar

from automodel.errors import AutomodelError
from automodel_widgets.panels import data_views as views
from automodel_widgets.panels.base import Panel
from automodel_widgets.parts.html import Html, badge, button, choice, entry, field, note, region, tabs, tag, text, tiles
from automodel_widgets.parts.surface import Surface
from automodel_widgets.state import jobs
from automodel_widgets.state.data import DEMO_DATA, DataState, key, kinds, relevant, roles, why_not, with_images
from automodel_widgets.state.model import DEMO_MODEL, label_of
from automodel_widgets.state.session import RECIPE, Session

SIDES = {"rows": "Rows", "lengths": "Lengths", "packing": "Filling and packing"}


class DataView(Panel):
    """Shows what training will see of a recipe's data, and blocks the launch when no token would be trained on.

    Args:
        recipe: sections of a recipe as a dict; absent: those of the session.
        session: what the panels of a workbench share.
    """

    name: ClassVar[str] = "data"
    title: ClassVar[str] = "Data"

    def __init__(self, recipe: Mapping[str, Any] | None = None, *, session: Session | None = None, surface: Surface | None = None) -> None:
        super().__init__(surface=surface)
        self.session = session or Session(recipe)
        self.state = DataState()
        self._side = "rows"
        self._as_text = False
        self._busy = False
        self._turn = 0
        self.session.listen(self._heard)
        if recipe is not None and why_not(self.session.recipe) is None:
            self.look()

    def opened(self) -> None:
        """Look at data that lie on this machine; what would have to be fetched waits for the button."""
        place = self.session.get("dataset.path_or_dataset")
        recipe = self.session.recipe
        if isinstance(place, str) and Path(place).expanduser().exists() and self.state.seen != key(recipe) and why_not(recipe) is None:
            self.look()

    def look(self, *, fresh: bool = True) -> None:
        """Read and tokenise the data in the helper process; with `fresh=False` show other rows of what was read."""
        recipe = self.session.recipe
        self._turn, self._busy = self._turn + 1, True
        if fresh:
            self.state.page = 0
            self.state.order = "first" if self.state.stale(recipe) else self.state.order
            self.state.of = "training"
        asked = {"n": 8, "of": self.state.of} if fresh else self.state.wanted()
        turn, future = self._turn, jobs.submit("preview", relevant(recipe), fresh=fresh, **asked)
        self.later(lambda: self._take(future, recipe, turn, fresh=fresh))

    def _take(self, future: Future[Any], recipe: Mapping[str, Any], turn: int, *, fresh: bool) -> None:
        try:
            answer = future.result()
            # An older answer that comes late must not stand under newer settings.
            if turn == self._turn:
                self.state.take(recipe, answer)
                if fresh and self.state.order == "worst":
                    self.look(fresh=False)
        except AutomodelError as error:
            if turn == self._turn:
                self.state.fail(recipe, error)
        finally:
            if turn == self._turn:
                self._busy = False
        self.session.learn("data", self.state.facts(self.session.recipe))

    # What it looks like.

    def body(self) -> Html:
        """Return the frame."""
        return "".join(region(self.part(name)) for name in ("head", "form", "verdict", "result"))

    def parts(self) -> Mapping[str, Html]:
        """Return what changes."""
        return {"head": self._head(), "form": self._form(), "verdict": self._verdict(), "result": self._result()}

    def _head(self) -> Html:
        facts = self.state.facts(self.session.recipe)
        if self._busy:
            mark = badge("reading", "busy")
        elif self.state.stale(self.session.recipe):
            mark = badge("changed since", "warn")
        elif facts is None:
            mark = badge("not looked at yet")
        else:
            mark = badge("ready to train on", "good") if facts["state"] == "ready" else badge("launch is blocked", "bad")
        return tag("div", tag("h2", self.title) + mark, class_="am-row")

    def _form(self) -> Html:
        get, recipe = self.session.get, self.session.recipe
        kind = get("dataset.name", "squad")
        label, help_ = ("Block", "In tokens: the text is cut into blocks of this length.")
        if kind != "text":
            label, help_ = ("Longest row", f"In tokens: longer rows are {'left out' if with_images(recipe) else 'cut'}. Empty: no limit.")
        rows = choice("data-kind", self.act("kind"), kinds(recipe), kind)
        lines = [
            self._entry("Dataset", "path", get("dataset.path_or_dataset"), "A file (JSON, JSONL, parquet), a folder, or a hub id."),
            self._field("Kind of rows", "kind", rows, "How a row becomes a prompt and an answer."),
            self._entry("Split", "split", get("dataset.split", "train"), "Also a part of it: train[:1000], train[90%:]."),
            self._entry(label, "length", get("dataset.seq_length"), help_, kind="number", min=1),
        ]
        if kind == "column_mapped":
            for role, words in roles(recipe).items():
                lines.append(self._entry(f"Column of the {role}", role, get(f"dataset.column_mapping.{role}"), f"Its name in the file: {words}."))
        if kind == "text":
            lines.append(self._entry("Column of the text", "text", get("dataset.text_column", "text"), "Its name in the file."))
        if kind == "chat":
            said = "Put first in each conversation that has none. May be empty."
            lines.append(self._entry("System prompt", "system", get("dataset.system_prompt"), said))
            said = "A file, or Jinja text. Empty: the tokenizer's own."
            lines.append(self._entry("Chat template", "template", get("dataset.chat_template"), said))
        lacking = "Reading already" if self._busy else why_not(self.session.recipe)
        row = button("Look at the data", self.act("look"), why_not=lacking)
        title, held = "Questions about an invented world, shipped with the package", "The demo data hold no images" if with_images(recipe) else None
        row += button("Use the demo data", self.act("demo"), kind="quiet", title=title, why_not=held)
        return tag("div", "".join(lines), class_="am-fields") + tag("div", row + self._model(lacking), class_="am-row am-after")

    def _model(self, lacking: str | None) -> Html:
        model = self.session.get("model.pretrained_model_name_or_path")
        if model:
            said: Html = text(f"With the tokenizer of {label_of(str(model)).replace('The demo', 'the demo')}")
        else:
            said = text(f"{lacking}." if lacking else "")
        return tag("span", said, class_="am-muted")

    def _field(self, label: str, name: str, control: Html, help_: str) -> Html:
        return field(label, control, id_=f"data-{name}", help_=help_)

    def _entry(self, label: str, name: str, value: Any, help_: str, **more: Any) -> Html:
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        return self._field(label, name, entry(f"data-{name}", self.act(name), shown or "", described=True, spellcheck="false", **more), help_)

    def _verdict(self) -> Html:
        if self._busy and self.state.answer is None:
            return note("Reading and tokenising the data… The first look also starts a helper process.", live=True)
        if self.state.stale(self.session.recipe):
            return note("The recipe was changed since these rows were read. Look again to see what training would see now.", "warn", live=True)
        if self.state.nothing_to_train:
            return views.blocked(self.state.error)
        if self.state.error is not None:
            return views.wrong(self.state.error)
        if self.state.answer is None:
            return note("See here, before anything is started, which tokens are trained on and which are only read.")
        return ""

    def _result(self) -> Html:
        state = self.state
        if state.answer is None:
            return ""
        remarks = "".join(tag("li", text(line)) for line in state.remarks())
        head = tiles(state.tiles()) + (note(tag("ul", remarks, class_="am-plain"), "warn") if remarks else "")
        inner = {
            "rows": lambda: views.rows(state, self.act, as_text=self._as_text, busy=self._busy),
            "lengths": lambda: views.lengths(state, self.session.get("dataset.seq_length")),
            "packing": lambda: views.packing(state.packing(self.session.recipe)),
        }
        return tag("div", head + tabs(self.act("side"), SIDES, self._side, inner[self._side]()), class_="am-stack")

    # What it does.

    def act_look(self, _value: Any, _fields: Mapping[str, str]) -> None:
        """Read the data of the recipe."""
        if why_not(self.session.recipe) is None:
            self.look()

    def act_demo(self, _value: Any, _fields: Mapping[str, str]) -> None:
        """Take the data that come with the package, and its model where none is chosen."""
        recipe = self.session.recipe
        if with_images(recipe):
            return
        recipe["dataset"] = {**recipe.get("dataset", {}), "path_or_dataset": str(DEMO_DATA)}
        for name in ("name", "split", "subset", "revision", "column_mapping", "system_prompt", "chat_template", "_target_", "target"):
            recipe["dataset"].pop(name, None)
        if why_not(recipe) is not None:
            recipe["model"] = {**recipe.get("model", {}), "pretrained_model_name_or_path": str(DEMO_MODEL)}
        self.session.recipe = recipe
        self.look()

    def act_path(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Set the dataset; several files are parted by commas."""
        parts = [part.strip() for part in str(value).split(",") if part.strip()]
        self.session.set("dataset.path_or_dataset", parts[0] if len(parts) == 1 else parts or None)

    def act_kind(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Set the kind of rows."""
        self.session.set("dataset.name", None if value == "squad" else str(value))
        if value != "column_mapped":
            self.session.set("dataset.column_mapping", None)

    def act_split(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Set the split."""
        self.session.set("dataset.split", None if str(value).strip() in ("", "train") else str(value).strip())

    def act_length(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Set the longest row."""
        given = str(value).strip()
        if given and not (given.isdecimal() and int(given) > 0):
            raise ValueError(f"the longest row is a number of tokens from 1 up, not {given!r}")
        self.session.set("dataset.seq_length", int(given) if given else None)

    def act_image(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Name the column of the images."""
        self.session.set("dataset.column_mapping.image", str(value).strip() or None)

    def act_context(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Name the column of the context."""
        self.session.set("dataset.column_mapping.context", str(value).strip() or None)

    def act_question(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Name the column of the question."""
        self.session.set("dataset.column_mapping.question", str(value).strip() or None)

    def act_answer(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Name the column of the answer."""
        self.session.set("dataset.column_mapping.answer", str(value).strip() or None)

    def act_text(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Name the column of the text."""
        self.session.set("dataset.text_column", None if str(value).strip() in ("", "text") else str(value).strip())

    def act_system(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Set the system prompt of conversations."""
        self.session.set("dataset.system_prompt", str(value).strip() or None)

    def act_template(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Set the chat template, or take the tokenizer's own."""
        self.session.set("dataset.chat_template", str(value).strip() or None)

    def act_side(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Show another tab."""
        self._side = str(value) if value in SIDES else self._side

    def act_order(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Show the rows from the beginning, or the worst ones first."""
        self.state.order, self.state.page = ("worst" if value == "worst" else "first"), 0
        self._page()

    def act_set(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Show another set of the recipe."""
        self.state.of, self.state.page, self.state.order = str(value), 0, "first"
        self._page()

    def act_page(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Turn the page."""
        self.state.page = min(max(int(value), 0), self.state.pages - 1)
        self._page()

    def act_row(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Show a row in full."""
        self.state.row = int(value)

    def act_shape(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Show the row as tokens or as text."""
        self._as_text = value == "text"

    def _page(self) -> None:
        # Other rows of settings that changed in between would be told apart by nobody: then everything is read anew.
        self.look(fresh=self.state.stale(self.session.recipe))

    def _heard(self, what: str) -> None:
        if what == RECIPE:
            self.session.learn("data", self.state.facts(self.session.recipe))
            self.refresh()
