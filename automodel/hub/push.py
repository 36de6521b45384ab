"""Pushing a model or an adapter to a Hub: checked before, sent by huggingface_hub, compared with what arrived.

The address is huggingface_hub's own (`HF_ENDPOINT`). The token is that of `hf auth login` or `HF_TOKEN`, or the argument; it is passed on
and never written, printed or put into a message.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automodel.hub.card import card_path, existing_card, for_repo, is_ours, model_card, read_head
from automodel.hub.check import Checked, SentFile, check_folder, check_secrets
from automodel.hub.errors import HubFailed, HubRefused, in_words, status_of
from automodel.hub.facts import places_in
from automodel.hub.source import Source, find_source
from automodel.tables import facts_html, facts_text, size_text

if TYPE_CHECKING:
    from automodel.run import Run

THE_HUB = "https://huggingface.co"
CARD = "README.md"
# Files that a new repository may hold before the first push.
BARE = {".gitattributes", CARD}


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """What a push left on the Hub, as the Hub itself lists it afterwards; prints as text and HTML.

    Attributes:
        repo_id: the repository; `url` its page.
        commit: the commit that holds the files; `pull_request` its address where one was opened.
        private: whether only its owners see the repository.
        files: name -> size in bytes, all compared with what was sent.
        notes: what a reader should know.
    """

    repo_id: str
    url: str
    commit: str
    private: bool
    files: dict[str, int]
    pull_request: str | None = None
    notes: tuple[str, ...] = ()

    def facts(self) -> list[tuple[str, str]]:
        """Return label and text of each line."""
        where = f"{self.url} ({'private' if self.private else 'public'})"
        rows = [("pushed", where), ("commit", self.commit)]
        if self.pull_request:
            rows.append(("pull request", self.pull_request))
        rows.append(("verified", f"{len(self.files)} files, {size_text(sum(self.files.values()))}: names, sizes and hashes are those that were sent"))
        return rows + [("note", note) for note in self.notes]

    def __str__(self) -> str:
        return facts_text(self.facts())

    def _repr_html_(self) -> str:
        return facts_html(f"Pushed to {self.repo_id}", self.facts())

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values, for `--json`."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class _Target:
    """Where to: the client, the repository, and how it is addressed."""

    api: Any
    repo_id: str
    token: str
    private: bool
    revision: str | None
    create_pr: bool
    update: bool

    def words(self, doing: str, state: str = "nothing was sent") -> contextlib.AbstractContextManager[None]:
        return in_words(doing, self.repo_id, token=self.token, endpoint=self.api.endpoint, state=state)


def push_to_hub(
    source: Run | str | Path,
    repo_id: str,
    *,
    checkpoint: str | None = None,
    private: bool = True,
    token: str | None = None,
    revision: str | None = None,
    commit_message: str | None = None,
    create_pr: bool = False,
    update: bool = False,
    base_model: str | None = None,
    license: str | None = None,
    load: bool = True,
    runs_root: str | Path | None = None,
) -> Pushed:
    """Publish a run's model or adapter, or any model folder, and compare what arrived with what was sent.

    The folder is checked first (weights whole, config, tokenizer, it loads, no secret, the hashes of the run's manifest), a card is
    written if there is none, one commit holds everything, and the Hub's own list of the files is compared at the end.

    Args:
        source: a `Run`, the folder of a run, a checkpoint or a model, or the name of a run.
        repo_id: `owner/name`; a name alone belongs to the owner of the token.
        checkpoint: `best`, `latest` or a name; absent: the best, else the newest.
        private: only the owners see a repository that is made; False makes it public.
        token: absent: that of `hf auth login` or `HF_TOKEN`.
        revision: branch; made from `main` when it is not there.
        commit_message: first line of the commit.
        create_pr: open a pull request in an existing repository instead of committing.
        update: also push to a repository that holds a model already; absent, its name counts as taken.
        base_model: Hub id of an adapter's base, where the run knows only a folder.
        license: licence for a card that is written here.
        load: load the model before it is sent.
        runs_root: where runs are looked up by name.

    Raises:
        RunError, ModelError: there is no model, or it is damaged; the Hub was not asked for anything.
        HubRefused: no token, no right to write, the name is taken, or it would become more public than asked.
        HubFailed: the Hub cannot be reached, or does not list afterwards what was sent.
    """
    if revision is not None and create_pr:
        raise HubRefused("A pull request cannot go to a branch.", found=f"revision={revision!r}, create_pr=True", expected="one of them")
    found = find_source(source, checkpoint=checkpoint, runs_root=runs_root)
    key = _token(token)
    checked = check_folder(found, load=load, base_model=base_model, token=key)
    target = _target(repo_id, key, private=private, revision=revision, create_pr=create_pr, update=update)
    checked.put(CARD, _card(found, checked, target, base_model=base_model, license=license))
    is_private, made = _open(target)
    commit = _send(target, checked, commit_message or _message(found), made=made)
    _compare(target, checked, commit.oid)
    return Pushed(
        repo_id=target.repo_id,
        url=f"{target.api.endpoint}/{target.repo_id}",
        commit=str(commit.oid),
        private=is_private,
        files={file.name: file.size for file in checked.files.values()},
        pull_request=str(commit.pr_url) if commit.pr_url else None,
        notes=tuple(checked.notes),
    )


def _token(given: str | None) -> str:
    from huggingface_hub import get_token

    found = given or get_token()
    if not found:
        raise HubRefused(
            "There is no token for the Hub; nothing was sent.",
            found="neither an argument, nor HF_TOKEN, nor a login",
            expected="a token with the right to write",
            fix="log in with: hf auth login",
        )
    return found


def _target(repo_id: str, token: str, *, private: bool, revision: str | None, create_pr: bool, update: bool) -> _Target:
    """Ask who the token belongs to: that it is valid, and whose names it may use, is known before anything is made."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise HubRefused(
            "The name cannot be used on the Hub.",
            found=repo_id,
            expected="owner/name with letters, digits, '-', '_' and '.', at most 96 characters",
            fix=str(error).partition(":")[0] + ": choose another name",
        ) from None
    api: Any = HfApi(token=token)
    with in_words("asking who the token belongs to", repo_id, token=token, endpoint=api.endpoint):
        account = api.whoami()
    full = repo_id if "/" in repo_id else f"{account['name']}/{repo_id}"
    if str(((account.get("auth") or {}).get("accessToken") or {}).get("role")) == "read":
        raise HubRefused(
            f"This token may only read; nothing was sent to {full}.",
            found=f"a token of the kind `read` of {account['name']}",
            expected="a token of the kind `write`",
            fix="make one in the settings of your account, then: hf auth login",
        )
    return _Target(api=api, repo_id=full, token=token, private=private, revision=revision, create_pr=create_pr, update=update)


def _card(source: Source, checked: Checked, target: _Target, *, base_model: str | None, license: str | None) -> bytes:
    """Return the card to send: one that a person edited as it is, else a fresh one, which is also left in the run folder."""
    text = existing_card(source)
    if text is None or is_ours(text):
        card = model_card(source.run or source.folder, checkpoint=_name(source), base_model=base_model, license=license, write=source.run is not None)
        text = card.text
        checked.notes += [f"the card says nothing about: {', '.join(card.missing)}"] if card.missing else []
    read_head(text)
    text = for_repo(text, target.repo_id)
    check_secrets(str(card_path(source).name), text, target.token)
    if places := places_in(text):
        checked.notes.append(f"the card names a folder of this machine: {places[0]}")
    return text.encode()


def _name(source: Source) -> str | None:
    return source.checkpoint.path.name if source.checkpoint is not None else None


def _message(source: Source) -> str:
    step = source.checkpoint.step if source.checkpoint is not None else source.origin().get("step")
    return f"Upload {'adapter' if source.is_adapter else 'model'}{f', step {step}' if step is not None else ''}"


def _open(target: _Target) -> tuple[bool, bool]:
    """Make the repository, or look at the one that is there; return whether it is private, and whether it was made here."""
    from huggingface_hub.errors import HfHubHTTPError

    if not target.create_pr:
        with target.words("creating the repository"):
            try:
                target.api.create_repo(target.repo_id, private=target.private, exist_ok=False)
            except HfHubHTTPError as error:
                if status_of(error) != 409:
                    raise
            else:
                _branch(target, made=True)
                return target.private, True
    with target.words("looking at the repository"):
        info = target.api.model_info(target.repo_id)
    names = {one.rfilename for one in info.siblings or ()}
    if names - BARE and not (target.update or target.create_pr or target.revision):
        raise HubRefused(
            f"The name is taken: {target.repo_id} holds a model already; nothing was sent.",
            found=f"{len(names)} files, among them {', '.join(sorted(names - BARE)[:3])}",
            expected="a new name, or an empty repository",
            fix="choose another name; or add a commit to it with update=True (--update), or open a pull request with create_pr=True (--create-pr)",
        )
    if target.private and not info.private:
        raise HubRefused(
            f"{target.repo_id} is public, and this push is private; nothing was sent.",
            found="a public repository",
            expected="a private one, as private=True asks",
            fix="choose another name, make it private in its settings, or push with private=False (--public)",
        )
    _branch(target, made=False)
    return bool(info.private), False


def _branch(target: _Target, *, made: bool) -> None:
    if target.revision not in (None, "main"):
        with target.words(f"making the branch {target.revision}", "the repository was made and is empty" if made else "nothing was sent"):
            target.api.create_branch(target.repo_id, branch=target.revision, exist_ok=True)


def _send(target: _Target, checked: Checked, message: str, *, made: bool) -> Any:
    """Send everything as one commit: it is there as a whole, or not at all."""
    from huggingface_hub import CommitOperationAdd

    state = "the repository was made and is empty" if made else "the repository is as it was"
    with contextlib.ExitStack() as files, target.words("sending the files", state), _quiet():
        operations = [CommitOperationAdd(path_in_repo=file.name, path_or_fileobj=_body(file, target, files)) for file in checked.files.values()]
        return target.api.create_commit(
            target.repo_id, operations, commit_message=message, revision=target.revision, create_pr=target.create_pr or None
        )


def _body(file: SentFile, target: _Target, files: contextlib.ExitStack) -> Any:
    if file.content is not None:
        return io.BytesIO(file.content) if target.api.endpoint == THE_HUB else io.BufferedReader(io.BytesIO(file.content))
    if target.api.endpoint == THE_HUB:
        return str(file.path)
    # Only the Hub itself is sure to have Xet; huggingface_hub never falls back, but sends an open file by plain LFS, which every server has.
    return files.enter_context(open(str(file.path), "rb"))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Leave out the warning that an open file goes by LFS: that is what is meant."""
    from huggingface_hub.utils import logging as hub_logging

    before = hub_logging.get_verbosity()
    hub_logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        hub_logging.set_verbosity(before)


def _compare(target: _Target, checked: Checked, commit: str) -> None:
    """Hold the Hub's own list of the commit against what was sent.

    Raises:
        HubFailed: a file is missing, or has another size or hash.
    """
    sent = f"the commit {commit[:8]} was made"
    with target.words("reading back what arrived", sent):
        info = target.api.model_info(target.repo_id, revision=commit, files_metadata=True)
    there = {one.rfilename: one for one in info.siblings or ()}
    for file in checked.files.values():
        one = there.get(file.name)
        found = _difference(file, one)
        if found:
            raise HubFailed(
                f"{file.name} did not arrive as it was sent; do not use {target.repo_id} at commit {commit[:8]}.",
                found=found,
                expected=f"{file.size:,} bytes, SHA-256 {file.sha256[:12]}…",
                fix="push again with update=True (--update)",
            )


def _difference(file: SentFile, there: Any) -> str:
    if there is None:
        return "the Hub does not list it"
    if there.size is not None and there.size != file.size:
        return f"{there.size:,} bytes"
    if there.lfs is not None:
        return "" if there.lfs.sha256 == file.sha256 else f"SHA-256 {there.lfs.sha256[:12]}…"
    return "" if there.blob_id in (None, _git_blob(file)) else f"git blob {str(there.blob_id)[:12]}…"


def _git_blob(file: SentFile) -> str:
    """Return the hash that git gives a file of this content."""
    digest = hashlib.sha1(f"blob {file.size}\0".encode(), usedforsecurity=False)
    digest.update(file.content if file.content is not None else Path(str(file.path)).read_bytes())
    return digest.hexdigest()
