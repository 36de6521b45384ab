"""Invented names, dates and amounts, each drawn from a given random stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

WORDS = {
    key: words.split()
    for key, _, words in (line.partition(": ") for line in (Path(__file__).parent / "words.txt").read_text(encoding="utf-8").splitlines())
}
STEMS, MEN, WOMEN, MONTHS, DAYS = (WORDS[key] for key in ("stems", "men", "women", "months", "days"))
ADJECTIVES, NOUNS = WORDS["adjectives"], WORDS["nouns"]
MIDDLES = ("", "", "", "a", "e", "i", "o", "an", "er", "in", "or", "el", "ar", "is")


def _pool(ends: Sequence[str], count: int, middles: Sequence[str] = MIDDLES[:8]) -> tuple[str, ...]:
    """Make a fixed stock of names: few enough that a small tokenizer can learn each as one token."""
    rng = Random(len(ends) * count)  # noqa: S311  the same stock each time is wanted, not a secret
    stock: dict[str, None] = {}
    while len(stock) < count:
        stock[rng.choice(STEMS) + rng.choice(middles) + rng.choice(ends)] = None
    return tuple(stock)


PLACES = _pool(WORDS["place_ends"], 240)
FAMILIES = _pool(WORDS["family_ends"], 240)
RIVERS = _pool(WORDS["river_ends"], 90)
STARS = _pool(WORDS["star_ends"], 90)
INSTRUMENTS = _pool(WORDS["word_ends"], 60)
CATS = (*WORDS["pets"], *_pool(["o", "i", "y", "kin"], 50, ("",)))
STOCK = (*PLACES, *FAMILIES, *RIVERS, *STARS, *INSTRUMENTS, *CATS, *MEN, *WOMEN)


def place(rng: Random) -> str:
    """Name a town."""
    return rng.choice(PLACES)


def surname(rng: Random) -> str:
    """Name a family."""
    return rng.choice(FAMILIES)


def person(rng: Random, *, woman: bool | None = None) -> str:
    """Name a person by first and family name."""
    woman = rng.random() < 0.5 if woman is None else woman
    return f"{rng.choice(WOMEN if woman else MEN)} {surname(rng)}"


def book(rng: Random) -> str:
    """Title a book, a picture or a song."""
    adjective, noun = rng.choice(ADJECTIVES), rng.choice(NOUNS)
    return rng.choice((f"The {adjective} {noun}", f"The {noun} of {place(rng)}", f"{adjective} {noun}s", f"A {noun} in {place(rng)}"))


def ship(rng: Random) -> str:
    """Name a ship."""
    return rng.choice(
        (f"{rng.choice(ADJECTIVES)} {rng.choice(WORDS['ship_nouns'])}", f"{surname(rng)} {rng.choice(WORDS['ship_nouns'])}", f"Queen of {place(rng)}")
    )


def amount(rng: Random, low: int, high: int) -> str:
    """Draw a whole number between two bounds, all orders of magnitude alike, with commas from 10,000 on."""
    value = round(low * (high / low) ** rng.random())
    value = value if value < 1000 else round(value, -2)
    return f"{value:,}" if value >= 10_000 else str(value)


def date(rng: Random, low: int, high: int) -> str:
    """Draw a day between two years."""
    return f"{rng.randint(1, 28)} {rng.choice(MONTHS)} {rng.randint(low, high)}"


MAKERS: dict[str, Callable[[Random], str]] = {
    "place": place,
    "town": place,
    "surname": surname,
    "person": person,
    "book": book,
    "ship": ship,
    "river": lambda rng: rng.choice(RIVERS),
    "star": lambda rng: rng.choice(STARS),
    "word": lambda rng: rng.choice(INSTRUMENTS),
    "pet": lambda rng: rng.choice(CATS),
    "hill": lambda rng: rng.choice((f"Mount {surname(rng)}", f"{place(rng)} Peak", f"{surname(rng)} Hill")),
    "cape": lambda rng: rng.choice((f"Cape {surname(rng)}", f"{place(rng)} Point", f"{surname(rng)} Head")),
    "field": lambda rng: rng.choice((f"{place(rng)} Park", f"{surname(rng)} Road", f"{surname(rng)} Field")),
    "inn": lambda rng: f"{rng.choice(ADJECTIVES)} {rng.choice(WORDS['inn_nouns'])}",
    "region": lambda rng: f"the {place(rng)} {rng.choice(('hills', 'marshes', 'islands', 'forests', 'plains', 'valleys'))}",
    "club": lambda rng: f"{place(rng)} {rng.choice(WORDS['club_ends'])}",
    "beast": lambda rng: rng.choice(WORDS["beasts"]),
    "month": lambda rng: rng.choice(MONTHS),
    "weekday": lambda rng: rng.choice(DAYS),
}


def draw(spec: str, rng: Random) -> str:
    """Draw one value of a kind file's value line, such as `int 3 19 arches`, `year 1740 1965` or `one of tea | wool`."""
    if spec.startswith("one of "):
        return rng.choice(spec.removeprefix("one of ").split(" | "))
    kind, _, rest = spec.partition(" ")
    if kind == "int":
        low, high, unit = rest.split(" ", 2)
        return f"{amount(rng, int(low), int(high))} {unit}"
    if kind in ("year", "date"):
        first, last = (int(year) for year in rest.split())
        return str(rng.randint(first, last)) if kind == "year" else date(rng, first, last)
    return MAKERS[kind](rng)
