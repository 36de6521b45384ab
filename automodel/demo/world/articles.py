"""Write one article: draw its facts, put sentences together, and remember where each fact stands in the text."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from random import Random

from automodel.demo.world import names
from automodel.demo.world.kinds import Kind

SLOT = re.compile(r"\{(\w+)\}")
PRONOUNS = {True: {"he": "she", "his": "her", "him": "her"}, False: {"he": "he", "his": "his", "him": "him"}}
SAY_MIN, SAY_MAX = 4, 6
TYPES = {"int": "number", "date": "year"}


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question on an article; `start` is the first character of `answer` in the text."""

    fact: str
    ask: str
    answer: str
    start: int


@dataclass(frozen=True, kw_only=True)
class Article:
    """One article with its facts; `tells` holds a full-sentence reply for each fact that the text mentions."""

    title: str
    kind: str
    text: str
    sentences: tuple[str, ...]
    values: dict[str, str]
    questions: tuple[Question, ...]
    tells: dict[str, str]


def write_article(kind: Kind, rng: Random, *, avoid: Collection[str] = ()) -> Article:
    """Write an article of this kind; sentences in `avoid` are not used.

    No two facts of an article have answers of one type (two people, two years), so a reader who understands what is asked for finds one place.
    """
    values = _values(kind, rng)
    sentences: list[str] = []
    spans: dict[str, tuple[int, str]] = {}
    types: set[str] = set()
    wanted = 1 + rng.randint(SAY_MIN, SAY_MAX)
    for options in (kind.intro, *rng.sample(kind.say, len(kind.say))):
        fitting = [(sentence, found) for sentence, found in _tries(options, values, rng) if sentence not in avoid and _adds(found, kind, types)]
        if not fitting or len(sentences) == wanted:
            continue
        sentence, found = fitting[0]
        offset = sum(len(earlier) + 1 for earlier in sentences)
        for fact, (start, value) in found.items():
            spans.setdefault(fact, (offset + start, value))
        types |= {_type(kind.facts[fact]) for fact in found if fact in kind.facts}
        sentences.append(sentence)
    asked = [fact for fact in kind.ask if fact in spans]
    rng.shuffle(asked)
    questions = tuple(
        Question(fact=fact, ask=_fill(rng.choice(kind.ask[fact]), values)[0], answer=spans[fact][1], start=spans[fact][0]) for fact in asked
    )
    tells = {fact: _fill(rng.choice(kind.tell[fact]), values)[0] for fact in asked}
    return Article(
        title=values["name"], kind=kind.kind, text=" ".join(sentences), sentences=tuple(sentences), values=values, questions=questions, tells=tells
    )


def _tries(options: Sequence[str], values: dict[str, str], rng: Random) -> list[tuple[str, dict[str, tuple[int, str]]]]:
    return [_fill(option, values) for option in rng.sample(options, len(options))]


def _adds(found: Collection[str], kind: Kind, types: Collection[str]) -> bool:
    """Say whether a sentence brings facts of types that the article does not have yet, each once."""
    new = [_type(kind.facts[fact]) for fact in found if fact in kind.facts]
    return len(set(new)) == len(new) and not set(new) & set(types)


def _type(spec: str) -> str:
    """Return the type of a fact's answers: its maker's name, or for a choice of words that choice."""
    maker = spec.split()[0]
    return spec if maker == "one" else TYPES.get(maker, maker)


def _values(kind: Kind, rng: Random) -> dict[str, str]:
    """Draw every fact; no value may lie inside another one, so that each answer is unambiguous."""
    woman = rng.random() < 0.5
    values: dict[str, str] = dict(PRONOUNS[woman])
    pattern = rng.choice(kind.names)
    title = names.person(rng, woman=woman) if pattern == "{person}" else SLOT.sub(lambda slot: names.draw(slot[1], rng), pattern)
    values["name"] = title
    values["the"] = kind.the.replace("{name}", title)
    taken = [title.lower()]
    for fact, spec in kind.facts.items():
        value = names.draw(spec, rng)
        while any(value.lower() in other or other in value.lower() for other in taken) or value.split()[0].lower() in (
            other.split()[0] for other in taken if value[0].isdigit()
        ):
            value = names.draw(spec, rng)
        taken.append(value.lower())
        values[fact] = value
    return values


def _fill(template: str, values: dict[str, str]) -> tuple[str, dict[str, tuple[int, str]]]:
    """Put values into a template; return the sentence, and for each fact its place and its text as written there."""
    parts: list[str] = []
    found: dict[str, tuple[int, str]] = {}
    length = last = 0
    for slot in SLOT.finditer(template):
        literal = template[last : slot.start()]
        key = slot[1]
        article, fact = ("", key) if not key.lower().startswith("a_") else ("a ", key[2:])
        value = values[fact.lower()]
        if article:
            article = "an " if value[0] in "aeiou" else "a "
        written = literal + article
        start = length + len(written)
        if start == 0 or (literal == "" and not parts) or key[0].isupper():
            # The first letter of a sentence is a capital, whatever stands there; the answer keeps the text's spelling.
            written, value = (written[:1].upper() + written[1:], value) if written else (written, value[:1].upper() + value[1:])
        found.setdefault(fact, (start, value))
        parts.append(written + value)
        length += len(written) + len(value)
        last = slot.end()
    parts.append(template[last:])
    return "".join(parts), found
