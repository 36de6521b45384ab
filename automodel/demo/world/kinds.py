"""Kinds of articles, read from the small text files in `kinds/`.

A kind file has one statement a line. `kind`, `name` (patterns of the title) and `the` (the title inside a sentence) come first; then one line a fact,
`fact: how its value is drawn`; then `intro:` (alternatives of the first sentence), `say:` (alternatives of one further sentence), `ask FACT:` and
`tell FACT:` (questions, and full-sentence replies, on one fact). Alternatives are separated by ` | `.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).parent / "kinds"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of thing that articles are written about."""

    kind: str
    names: tuple[str, ...]
    the: str
    facts: dict[str, str] = field(default_factory=dict)
    intro: tuple[str, ...] = ()
    say: tuple[tuple[str, ...], ...] = ()
    ask: dict[str, tuple[str, ...]] = field(default_factory=dict)
    tell: dict[str, tuple[str, ...]] = field(default_factory=dict)


def parse_kind(text: str) -> Kind:
    """Read one kind file; raises ValueError for a line that has no colon."""
    head: dict[str, str] = {}
    facts: dict[str, str] = {}
    intro: list[str] = []
    say: list[tuple[str, ...]] = []
    spoken: dict[str, dict[str, tuple[str, ...]]] = {"ask": {}, "tell": {}}
    for line in filter(None, text.splitlines()):
        key, colon, value = line.partition(": ")
        if not colon:
            raise ValueError(f"a line of a kind file needs 'key: value', found {line!r}")
        options = tuple(value.split(" | "))
        verb, _, fact = key.partition(" ")
        if fact:
            spoken[verb][fact] = options
        elif key in ("kind", "name", "the"):
            head[key] = value
        elif key == "intro":
            intro.extend(options)
        elif key == "say":
            say.append(options)
        else:
            facts[key] = value
    names = tuple(head["name"].split(" | "))
    return Kind(
        kind=head["kind"], names=names, the=head["the"], facts=facts, intro=tuple(intro), say=tuple(say), ask=spoken["ask"], tell=spoken["tell"]
    )


def load_kinds() -> tuple[Kind, ...]:
    """Read every kind that ships with the package, in alphabetical order."""
    return tuple(parse_kind(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.txt")))
