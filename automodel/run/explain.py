"""A failure in words: from what a run left behind to a sentence, the likely cause, and changes of the recipe to try."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

from automodel.run.explain_rules import SIGNATURES, Signature, match
from automodel.run.files import tail_text
from automodel.run.remedy import Remedy, Settings

if TYPE_CHECKING:
    from automodel.run.reader import Run

__all__ = ["SIGNATURES", "Explanation", "Signature", "explain", "explain_text", "match"]

_TAIL_LINES = 40
_EXCERPT_LINES = 8
_FRAMES = "Traceback (most recent call last):"


@dataclass(frozen=True)
class Explanation:
    """How a run stands, in words.

    Attributes:
        state: that of the run; `sentence` says it, `cause` why it mostly happens.
        remedies: what to try, in this order; each may carry the overrides that change the recipe.
        rank: the process that failed first.
        key: name of the rule that knew the failure, empty where none did.
        excerpt: the first and last lines of the traceback, for a failure that no rule knows.
        rerun: the command that starts the run anew with the first change; `raw` is the whole traceback or the end of the log.
    """

    state: str
    sentence: str
    cause: str = ""
    remedies: tuple[Remedy, ...] = ()
    rank: int | None = None
    key: str = ""
    excerpt: str = ""
    rerun: str = ""
    raw: str = field(default="", repr=False)

    @property
    def fixes(self) -> tuple[str, ...]:
        """Return what to try as text, each with the settings it changes."""
        return tuple(str(remedy) for remedy in self.remedies)

    def __str__(self) -> str:
        lines = [self.sentence]
        if self.rank is not None:
            lines.append(f"first failing rank: {self.rank}")
        if self.cause:
            lines.append(f"likely cause: {self.cause}")
        lines += [f"  {number}. {text}" for number, text in enumerate(self.fixes, 1)]
        if self.excerpt:
            lines += ["the error itself:", *(f"  | {line}" for line in self.excerpt.splitlines())]
        if self.rerun:
            lines.append(f"again with the first change: {self.rerun}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        fixes = "".join(f"<li>{escape(text)}</li>" for text in self.fixes)
        parts = [f"<p><b>{escape(self.sentence)}</b></p>"]
        if self.cause:
            parts.append(f"<p>Likely cause: {escape(self.cause)}</p>")
        if fixes:
            parts.append(f"<ol>{fixes}</ol>")
        if self.excerpt:
            parts.append(f"<pre>{escape(self.excerpt)}</pre>")
        if self.raw:
            parts.append(f"<details><summary>Log</summary><pre>{escape(self.raw)}</pre></details>")
        return "".join(parts)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for `--json`."""
        return {
            "state": self.state,
            "sentence": self.sentence,
            "cause": self.cause,
            "fixes": list(self.fixes),
            "remedies": [remedy.as_dict() for remedy in self.remedies],
            "rank": self.rank,
            "key": self.key,
            "excerpt": self.excerpt,
            "rerun": self.rerun,
            "raw": self.raw,
        }


def explain(run: Run) -> Explanation:
    """Say how a run stands: the first failing rank's own error counts before any log."""
    status = run.status
    if status.state != "failed":
        return Explanation(state=status.state, sentence=_standing(run))
    record = run.folder.record()
    error = run.folder.first_error() or record.get("error") or {}
    rank = error.get("rank")
    ended = _ended_text(record)
    log = tail_text(run.folder.rank_log(int(rank or 0)), _TAIL_LINES)
    outer = tail_text(run.path / "logs" / "supervisor.log", 4 * _TAIL_LINES)
    said = "\n".join(str(error.get(key, "")) for key in ("type", "what", "found"))
    raw = str(error.get("traceback") or log or outer)
    # From the most to the least specific: the rank's message, its traceback, its end, then the logs.
    known = next((one for text in (said, str(error.get("traceback", "")), ended, log, outer) if (one := match(text))), None)
    what = str(error.get("what") or status.reason or ended or "The job failed without a message.")
    settings = Settings(_recipe(run))
    remedies = known.remedies(settings) if known else ()
    if error.get("fix"):
        # The error of this library says more than a rule can; of the rule only the changes of settings are added.
        own = Remedy(str(error["fix"]))
        remedies = (own, *(one for one in remedies if one.overrides))
        return _answer(run, what, str(error.get("found", "")), remedies, rank, known, raw)
    if known is None:
        return _unknown(run, error, what, rank, raw)
    return _answer(run, f"{known.sentence} ({what.splitlines()[0]})", known.cause, remedies, rank, known, raw)


def explain_text(text: str, recipe: dict[str, Any] | None = None) -> Explanation | None:
    """Explain an error message or traceback without a run; None when no rule knows it.

    Args:
        text: what was printed.
        recipe: its settings decide the numbers in the changes.
    """
    known = match(text)
    if known is None:
        return None
    return Explanation("failed", known.sentence, known.cause, known.remedies(Settings(recipe or {})), key=known.key, raw=text)


def _answer(run: Run, sentence: str, cause: str, remedies: tuple[Remedy, ...], rank: int | None, known: Signature | None, raw: str) -> Explanation:
    first = next((one for one in remedies if one.overrides), None)
    rerun = shlex.join(["automodel", str(run.folder.recipe_path), *first.overrides]) if first else ""
    return Explanation("failed", sentence, cause, remedies, rank, known.key if known else "", rerun=rerun, raw=raw)


def _unknown(run: Run, error: dict[str, Any], what: str, rank: int | None, raw: str) -> Explanation:
    """No rule fits: show the error as it is rather than guess."""
    kind = str(error.get("type", ""))
    sentence = f"{kind}: {what}" if kind and not what.startswith(kind) else what
    remedies = (
        Remedy(f"read the log: automodel logs {run.id}" + (f" --rank {rank}" if rank else "")),
        Remedy(f"go on from the last checkpoint: automodel resume {run.id}"),
    )
    return Explanation("failed", sentence.splitlines()[0], "", remedies, rank, excerpt=excerpt(raw), raw=raw)


def excerpt(raw: str) -> str:
    """Return the beginning and the end of a traceback: where the job was, and where it broke."""
    lines = raw[raw.rfind(_FRAMES) if _FRAMES in raw else 0 :].rstrip().splitlines()
    if len(lines) <= 2 * _EXCERPT_LINES + 1:
        return "\n".join(lines)
    left = len(lines) - 2 * _EXCERPT_LINES
    return "\n".join([*lines[:_EXCERPT_LINES], f"... {left} lines left out ...", *lines[-_EXCERPT_LINES:]])


def _recipe(run: Run) -> dict[str, Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        value = YAML(typ="safe", pure=True).load(run.folder.recipe_path.read_text(encoding="utf-8"))
    except (OSError, YAMLError):
        return {}
    return value if isinstance(value, dict) else {}


def _ended_text(record: dict[str, Any]) -> str:
    code = record.get("exit_code")
    return "" if code is None else f"exitcode: {code}"


def _standing(run: Run) -> str:
    status = run.status
    where = "" if status.step is None else f" at step {status.step}" + (f" of {status.total_steps}" if status.total_steps else "")
    if status.state == "finished":
        return f"The run finished{where}."
    if status.state == "stopped":
        point = run.resume_point
        after = f"it can go on from {point.path.name}" if point else "nothing was saved, so it can only start again"
        return f"The run was stopped{where}; {after}."
    return f"The run is {status.state}{where}."
