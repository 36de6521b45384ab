"""Publishing a run: what is sent, the export and its check, the card, and the push; each heavy step in a process of its own.

The token is handed to that process and to nothing else: it is no part of this state.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from automodel.errors import RequestError
from automodel.run import Checkpoint, Run
from automodel.run.location import ORIGIN
from automodel_widgets.state.child import Child, Message
from automodel_widgets.state.points import first, labels, prompts_of, usable

FORMS = {
    "full": ("Full model", "All weights. Loads like any other model."),
    "merged": ("Adapter merged into its base", "All weights, so it loads like any other model. Merge it below first."),
    "adapter": ("Adapter only", "Small. Whoever uses it also needs the base model."),
}
CARD_FIELDS = ("license", "base_model", "intended_use", "limitations")
CARD = "README.md"
CHECK_TOKENS = 24
CHECK_PROMPT = "The"
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
# Written by the library below its own cards; without it a card counts as a person's and is sent as it stands.
_MARK = re.compile(r"\n*<!-- written by automodel, digest [0-9a-f]{16} -->\s*$")


@dataclass
class Target:
    """Where a push goes."""

    repo_id: str = ""
    private: bool = True
    update: bool = False

    @property
    def wrong(self) -> str:
        """Say what is wrong with the name, or nothing."""
        if not self.repo_id or (_REPO.fullmatch(self.repo_id) and len(self.repo_id) <= 96):
            return ""
        return "Use name or owner/name, with letters, digits, '-', '_' and '.'."


@dataclass
class Job:
    """The heavy step that runs, or ran last: `kind` is export, card, account or push."""

    kind: str
    child: Child
    text: str = ""
    share: float | None = None
    problem: Message | None = None
    busy: bool = True


@dataclass
class CardDraft:
    """The card as it will be sent."""

    text: str = ""
    missing: tuple[str, ...] = ()
    fields: dict[str, str] = field(default_factory=lambda: dict.fromkeys(CARD_FIELDS, ""))
    edited: bool = False


class PublishState:
    """One run on its way to a folder or a Hub; `poll()` takes in what came."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.points = usable(run)
        chosen = first(self.points)
        self.checkpoint = chosen.path.name if chosen else ""
        self.form = "adapter" if self.is_adapter else "full"
        self.folder = str(run.path / "export" / "model")
        self.exported: Path | None = None
        self.checks: list[Message] = []
        self.card = CardDraft()
        self.target = Target()
        self.stored: bool | None = None
        self.pushed: Message | None = None
        self.job: Job | None = None
        self._lock = threading.Lock()
        self._load_card()

    @property
    def point(self) -> Checkpoint | None:
        """The chosen checkpoint."""
        return next((one for one in self.points if one.path.name == self.checkpoint), None)

    @property
    def is_adapter(self) -> bool:
        """Say whether the checkpoint holds an adapter."""
        point = next((one for one in self.points if one.path.name == self.checkpoint), None)
        return point is not None and (point.model / "adapter_config.json").is_file() and not (point.model / "config.json").is_file()

    @property
    def busy(self) -> bool:
        """Say whether a heavy step runs."""
        return self.job is not None and self.job.busy

    def options(self) -> dict[str, str]:
        """Return the checkpoints as choices."""
        return labels(self.points)

    def forms(self) -> dict[str, str]:
        """Return what can be published of this checkpoint."""
        return {key: FORMS[key][0] for key in (("adapter", "merged") if self.is_adapter else ("full",))}

    def choose(self, checkpoint: str) -> None:
        """Take another checkpoint."""
        if checkpoint in self.options():
            self.checkpoint, self.exported, self.checks, self.pushed = checkpoint, None, [], None
            self.form = self.form if self.form in self.forms() else next(iter(self.forms()))
            self._load_card()

    def take_form(self, form: str) -> None:
        """Publish in another form."""
        if form in self.forms():
            self.form, self.pushed = form, None
            self._load_card()

    # What goes out.

    @property
    def source(self) -> Path | None:
        """The folder that is sent; None while it has to be merged first."""
        point = self.point
        return self.exported if self.form == "merged" else point.model if point else None

    @property
    def card_path(self) -> Path | None:
        """Where the card lies: with the run, or beside merged weights."""
        if self.form == "merged":
            return self.exported / CARD if self.exported else None
        return self.run.path / "card" / CARD

    def files(self) -> list[tuple[str, int]]:
        """Return name and size of what would be sent, the card first."""
        source = self.source
        if source is None:
            return []
        found = [(path.relative_to(source).as_posix(), path.stat().st_size) for path in sorted(source.rglob("*")) if path.is_file()]
        weights = [(name, size) for name, size in found if name not in (CARD, ORIGIN) and not any(part.startswith(".") for part in name.split("/"))]
        return [(CARD, len(self.card.text.encode())), *weights]

    def why_no_card(self) -> str | None:
        """Say why no card can be made, or None."""
        if self.busy:
            return "Wait until the step that runs is done"
        return None if self.source is not None else self._nothing()

    def why_no_export(self) -> str | None:
        """Say why nothing can be exported, or None."""
        if self.busy:
            return "Wait until the step that runs is done"
        if self.point is None:
            return self._nothing()
        return None if self.folder.strip() else "Name a folder first"

    def why_no_push(self) -> str | None:
        """Say why nothing can be pushed, or None."""
        if self.busy:
            return "Wait until the step that runs is done"
        if self.source is None:
            return self._nothing()
        if self.target.wrong or not self.target.repo_id:
            return self.target.wrong or "Name the repository first"
        return None

    def _nothing(self) -> str:
        return "The run has no whole checkpoint yet" if self.point is None else "Merge the adapter first"

    # Steps.

    def export(self) -> None:
        """Write the model to the folder and compare its answers with those of the trained one."""
        from automodel_widgets.state import heavy

        self._need(self.why_no_export())
        self.checks, self.exported = [], None
        prompts = prompts_of(self.run)[:3] or [CHECK_PROMPT]
        point = self.point
        assert point is not None
        place = str(Path(self.folder).expanduser().resolve())
        self._begin(
            "export",
            Child(heavy.export, str(point.model), place, self.is_adapter, prompts, CHECK_TOKENS),
            "Loading the model",
        )

    def write_card(self) -> None:
        """Have the card made from what the run recorded and from the fields."""
        from automodel_widgets.state import heavy

        self._need(self.why_no_card())
        given = {name: value.strip() for name, value in self.card.fields.items() if value.strip()}
        options = {**given, **({"checkpoint": self.checkpoint} if self.form != "merged" else {})}
        self._begin("card", Child(heavy.card, self._pushed_source(), options), "Writing the card")

    def edit_card(self, text: str) -> None:
        """Take the card as a person changed it, and save it where the push finds it."""
        path = self.card_path
        if path is None:
            raise RequestError("There is no place for the card yet.", fix="merge the adapter first")
        self.card.text, self.card.edited = text.replace("\r\n", "\n"), True
        self._save_card()

    def look_for_login(self) -> None:
        """Find out whether a login is stored on this machine."""
        from automodel_widgets.state import heavy

        if not self.busy and self.stored is None:
            self._begin("account", Child(heavy.account), "Looking for a stored login")

    def push(self, token: str | None = None) -> None:
        """Check and send everything; `token` goes to the helper process and is not kept."""
        from automodel_widgets.state import heavy

        self._need(self.why_no_push())
        if self.card.text:
            self._save_card()
        given = {name: self.card.fields[name].strip() for name in ("license", "base_model") if self.card.fields[name].strip()}
        options: dict[str, Any] = {"private": self.target.private, "update": self.target.update, **given}
        if self.form != "merged":
            options["checkpoint"] = self.checkpoint
        self.pushed = None
        secret = (token or "").strip()
        child = Child(heavy.push, self._pushed_source(), self.target.repo_id, options, secret or None, secrets=(secret,))
        self._begin("push", child, "Loading and checking the model")

    def cancel(self) -> None:
        """End the step that runs."""
        if self.job is not None and self.job.busy:
            self.job.child.cancel()
            self.poll()

    def poll(self) -> bool:
        """Take in what came; False when no step runs any more."""
        with self._lock:
            for message in self.job.child.read() if self.job is not None else ():
                self._take(message)
        return self.busy

    def _pushed_source(self) -> str:
        return str(self.exported if self.form == "merged" else self.run.path)

    def _need(self, reason: str | None) -> None:
        if reason is not None:
            raise RequestError(reason + ".")

    def _begin(self, kind: str, child: Child, text: str) -> None:
        self.job = Job(kind, child, text)

    def _take(self, message: Message) -> None:
        job = self.job
        assert job is not None
        kind = message["kind"]
        if kind in ("phase", "progress"):
            job.text = message.get("text") or message.get("what") or job.text
            job.share = message.get("share")
        elif kind == "written":
            self.exported = Path(message["path"])
            self._load_card()
        elif kind == "checked":
            self.checks.append(message)
        elif kind == "card":
            self.card.text, self.card.missing, self.card.edited = message["text"], tuple(message["missing"]), False
            self._save_card()
        elif kind == "account":
            self.stored = bool(message["stored"])
        elif kind == "pushed":
            self.pushed = message
        elif kind == "error":
            job.problem = message
        elif kind == "end":
            job.busy, job.share = False, None

    def _load_card(self) -> None:
        """Show the card that is there already; a merged model has none before it is merged."""
        path = self.card_path
        text = path.read_text(encoding="utf-8") if path is not None and path.is_file() else ""
        self.card.text, self.card.missing, self.card.edited = text, (), bool(text) and not _MARK.search(text)

    def _save_card(self) -> None:
        path = self.card_path
        if path is not None and self.card.text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(_MARK.sub("\n", self.card.text), encoding="utf-8")
