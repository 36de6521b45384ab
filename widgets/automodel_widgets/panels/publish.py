"""Publish: choose a checkpoint, export and check it, read the card, and push; private unless it is said otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from automodel.run import Run
from automodel_widgets.panels import publish_views as views
from automodel_widgets.panels.base import problem_html
from automodel_widgets.panels.of_run import RunPanel
from automodel_widgets.parts.html import Html, button, check, choice, entry, field, note, region, tag, text
from automodel_widgets.parts.surface import Surface
from automodel_widgets.state.publish import FORMS, PublishState

CARD_FORM = {
    "license": ("Licence", "Such as apache-2.0. Left empty, that of the base model is taken, marked for review."),
    "base_model": ("Base model on the Hub", "owner/name; needed where the run knows the base model only as a folder."),
    "intended_use": ("What it is for", "One or two sentences."),
    "limitations": ("What it is not for", "Also what it gets wrong. One or two sentences."),
}


class Publish(RunPanel[PublishState]):
    """Exports a trained model, writes its card, and pushes it to a Hub."""

    name: ClassVar[str] = "publish"
    title: ClassVar[str] = "Publish"
    _view = "preview"

    def state_of(self, run: Run) -> PublishState:
        """Return the state for a run."""
        return PublishState(run)

    def choose(self, run: Run | None) -> None:
        """Publish another run from now on; whether a login is stored stays known."""
        stored = self.state.stored if self.state is not None else None
        super().choose(run)
        if self.state is not None:
            self.state.stored = stored

    def opened(self) -> None:
        """Look for new runs and for a stored login when the tab is opened."""
        super().opened()
        self._login()

    @property
    def surface(self) -> Surface:
        """Return the widget."""
        first = self._surface is None
        made = super().surface
        if first:
            self._login()
        return made

    # What it looks like.

    def body(self) -> Html:
        """Return the frame."""
        return "".join(region(self.part(name)) for name in ("head", "what", "export", "card", "target", "token", "push"))

    def parts(self) -> Mapping[str, Html]:
        """Return what changes."""
        head = tag("h2", self.title)
        state = self.state
        if state is None:
            return {"head": head + self.no_run(), **dict.fromkeys(("what", "export", "card", "target", "token", "push"), "")}
        head += tag("p", "Nothing leaves this machine before you press Push, and what is pushed is private unless you say otherwise.")
        return {
            "head": head,
            "what": self._what(state),
            "export": self._export(state),
            "card": self._card(state),
            "target": self._target(state),
            "token": self._token(state),
            "push": self._push(state),
        }

    def _what(self, state: PublishState) -> Html:
        pick = self.run_field("publish-run")
        options = state.options() or {"": "None yet"}
        point = field("Checkpoint", choice("publish-point", self.act("point"), options, state.checkpoint), id_="publish-point")
        form = field("Form", choice("publish-form", self.act("form"), state.forms(), state.form), id_="publish-form", help_=FORMS[state.form][1])
        return tag("h3", "1. What to publish") + tag("div", pick + point + form, class_="am-grid")

    def _export(self, state: PublishState) -> Html:
        if state.form == "adapter":
            return tag("h3", "2. Export") + tag("p", "An adapter is published as it was saved; there is nothing to export.", class_="am-muted")
        label = "Merge and check" if state.form == "merged" else "Export and check"
        why = "Writes the model into a new folder, then lets it and the trained model answer the same prompts."
        place = field("New folder", entry("publish-folder", self.act("folder"), state.folder, described=True), id_="publish-folder", help_=why)
        parts = [tag("h3", "2. Export"), place, tag("div", button(label, self.act("export"), why_not=state.why_no_export()), class_="am-row")]
        parts.append(self._job("export"))
        if state.exported is not None:
            parts.append(note(f"Written to <code>{text(state.exported)}</code>.", "good", live=True))
        parts.append(views.checks(state))
        return tag("div", "".join(part for part in parts if part), class_="am-stack")

    def _card(self, state: PublishState) -> Html:
        card = state.card
        fields = "".join(
            field(label, entry(f"card-{name}", self.act(f"about-{name}"), card.fields[name], described=True), id_=f"card-{name}", help_=help_)
            for name, (label, help_) in CARD_FORM.items()
        )
        parts = [tag("h3", "3. Model card"), tag("div", fields, class_="am-grid")]
        label = "Write the card anew" if card.text else "Write the card"
        said = tag("span", "You changed this card; writing it anew replaces your text.", class_="am-muted") if card.edited else ""
        parts.append(tag("div", button(label, self.act("write-card"), kind="quiet", why_not=state.why_no_card()) + said, class_="am-row"))
        parts.append(self._job("card"))
        if card.missing:
            parts.append(note(text(f"Still to be written by you: {', '.join(card.missing)}. Fill in the fields above, or edit the card."), "warn"))
        if card.text:
            parts.append(views.card_view(card.text, self.act("card-view"), self._view, self.act("card")))
        return tag("div", "".join(part for part in parts if part), class_="am-stack")

    def _target(self, state: PublishState) -> Html:
        target = state.target
        box = entry("publish-repo", self.act("repo"), target.repo_id, described=True, live=True, autocomplete="off", placeholder="owner/name")
        name = field("Repository", box, id_="publish-repo", help_="owner/name, or a name alone for your own account.", error=target.wrong)
        private = check("publish-private", self.act("private"), "Private: only its owners see it", target.private)
        update = check("publish-update", self.act("update"), "Add to a repository that holds a model already", target.update)
        told = note("Public: everybody can see and download it.", "warn") if not target.private else ""
        return tag("div", tag("h3", "4. Push to the Hub") + name + tag("div", private + update, class_="am-row") + told, class_="am-stack")

    def _token(self, state: PublishState) -> Html:
        stored = {True: "A login is stored on this machine; leave this empty to use it.", False: "No login is stored on this machine."}
        help_ = (stored[state.stored] + " " if state.stored is not None else "") + "The token is used once and never saved."
        about = {"id": "publish-token", "data_secret": "token", "aria_describedby": "publish-token-help"}
        box = tag("input", type="password", autocomplete="off", **about)
        return field("Token with the right to write", box.removesuffix("</input>"), id_="publish-token", help_=help_)

    def _push(self, state: PublishState) -> Html:
        label = "Push" if state.target.private else "Push, for everybody to see"
        row = tag("div", button(label, self.act("push"), why_not=state.why_no_push(), data_with="token"), class_="am-row")
        reason = state.why_no_push()
        if reason is not None and not state.busy:
            row = row.removesuffix("</div>") + tag("span", text(f"{reason}."), class_="am-muted") + "</div>"
        return tag("div", views.files(state) + row + self._job("push") + views.pushed(state), class_="am-stack")

    def _job(self, kind: str) -> Html:
        job = self.state.job if self.state is not None else None
        if job is None or job.kind != kind:
            return ""
        if job.busy:
            return views.working(job, self.act("cancel"))
        if job.problem is not None:
            return note(problem_html(job.problem), "bad", live=True)
        return note("Cancelled.", "warn", live=True) if job.child.cancelled else ""

    # What it does.

    def act_point(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Choose another checkpoint."""
        self._known().choose(str(value))

    def act_form(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Choose what is published."""
        self._known().take_form(str(value))

    def act_folder(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Name the folder of the export."""
        self._known().folder = str(value).strip()

    def act_export(self, _value: Any, _fields: Mapping[str, str]) -> None:
        """Export and check."""
        self._known().export()
        self.watch()

    def act_about_license(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Take the licence."""
        self._known().card.fields["license"] = str(value)

    def act_about_base_model(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Take the base model's name."""
        self._known().card.fields["base_model"] = str(value)

    def act_about_intended_use(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Take what the model is for."""
        self._known().card.fields["intended_use"] = str(value)

    def act_about_limitations(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Take what the model is not for."""
        self._known().card.fields["limitations"] = str(value)

    def act_write_card(self, _value: Any, _fields: Mapping[str, str]) -> None:
        """Have the card written."""
        self._known().write_card()
        self._view = "preview"
        self.watch()

    def act_card_view(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Show the card, or edit it."""
        self._view = "edit" if value == "edit" else "preview"

    def act_card(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Take the card as it was changed."""
        self._known().edit_card(str(value))

    def act_repo(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Name the repository."""
        self._known().target.repo_id = str(value).strip()

    def act_private(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Say who may see it."""
        self._known().target.private = bool(value)

    def act_update(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Say whether a repository with a model may be added to."""
        self._known().target.update = bool(value)

    def act_push(self, _value: Any, fields: Mapping[str, str]) -> None:
        """Push; the token comes with the click and goes on to the helper process."""
        self._known().push(fields.get("token"))
        self.watch()

    def _login(self) -> None:
        if self.state is not None and self.state.stored is None:
            self.state.look_for_login()
            self.watch()

    def _known(self) -> PublishState:
        assert self.state is not None
        return self.state
