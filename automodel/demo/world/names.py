"""Invented names, dates and amounts, each drawn from a given random stream."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

STEMS = (
    "Vel Tor Kes Mar Bren Osk Lun Fal Dor Hal Quin Ral Sel Thren Ul Wex Yar Zan Cor Pel Nor Gal Ith Jas Mir Run Sov Tal Var Bel Cal Dun Eld Fen Gor Hest Kil Lor Mon Ned "
    "Ost Per Rath Sten Tib Urs Vin Wil Ash Bram Crell Drav Esk Fro Grem Hul Iv Jor Krin Lisk Mab Nim Orl Plim Ros Skel Trev Um Vosk Wend"
).split()
MIDDLES = ("", "", "", "a", "e", "i", "o", "an", "er", "in", "or", "el", "ar", "is")
PLACE_ENDS = "mar dale ford wick mouth holm stead by gate ton combe fell grove haven moor port ridge shaw vale worth".split()
FAMILY_ENDS = "ley man sen ard ing ell ock ine ova ett ham rick son dar quist berg lund ato iri eau".split()
RIVER_ENDS = "ane ess ille our ona ule eth ira ow ay ista eck".split()
STAR_ENDS = "us ia on ara ix une ea oth ys ora".split()
WORD_ENDS = "arro ika undo eeza ombo inga ulu esta owa aki".split()
MEN = "Aldo Bertil Casper Dario Emil Felix Gustav Hugo Ivo Jasper Karel Linus Magnus Nils Oskar Pavel Quentin Ruben Silas Tobias Ulrich Viktor Walter Yorick Zeno Anton Boris Cedric Edgar Florian"
WOMEN = "Alma Berta Clara Dora Edith Flora Greta Hilda Ines Judith Klara Lotte Mathilda Nora Olga Petra Rosa Selma Thea Ursula Vera Wanda Yvonne Zelda Agnes Bianca Cora Delia Elsa Frieda"
MONTHS = "January February March April May June July August September October November December".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
PETS = "Biscuit Tumble Pepper Domino Button Velvet Marble Nutmeg Pickle Thistle Bramble Cobble Fiddle Ginger Hobble Jumble Kettle Limpet Muffin Noodle Pebble Rascal Sorrel Tinker Waffle".split()
ADJECTIVES = (
    "Silent Hidden Broken Golden Winter Second Crooked Empty Distant Burning Patient Hollow Secret Gentle Narrow Restless Faithful Sleeping Wandering Frozen Painted Forgotten Bitter Northern Lonely"
).split()
NOUNS = (
    "Orchard Harbour Lantern Winter Garden Letter Island Mirror Shadow Ladder Kingdom Summer Sparrow Compass Staircase Meadow Candle Forest Journey Window River Tower Feather Cellar Promise"
).split()
SHIP_NOUNS = "Heron Star Venture Spirit Swallow Dawn Falcon Pearl Arrow Comet Rose Petrel Hope Kestrel Sirius Dolphin Tern Victory".split()
INN_NOUNS = "Pike Stag Anchor Goose Lion Barrel Crown Plough Swan Boot Trumpet Rooster".split()
BEASTS = "hedgehog marten squirrel badger hare otter lynx vole weasel shrew dormouse goat mole stoat fox beaver".split()
CLUB_ENDS = "Rovers Harriers United Swifts Wanderers Athletic".split()


def place(rng: Random) -> str:
    """Name a town."""
    return rng.choice(STEMS) + rng.choice(MIDDLES) + rng.choice(PLACE_ENDS)


def surname(rng: Random) -> str:
    """Name a family."""
    return rng.choice(STEMS) + rng.choice(MIDDLES[:8]) + rng.choice(FAMILY_ENDS)


def person(rng: Random, *, woman: bool | None = None) -> str:
    """Name a person by first and family name."""
    woman = rng.random() < 0.5 if woman is None else woman
    return f"{rng.choice((WOMEN if woman else MEN).split())} {surname(rng)}"


def book(rng: Random) -> str:
    """Title a book, a picture or a song."""
    adjective, noun = rng.choice(ADJECTIVES), rng.choice(NOUNS)
    return rng.choice((f"The {adjective} {noun}", f"The {noun} of {place(rng)}", f"{adjective} {noun}s", f"A {noun} in {place(rng)}"))


def ship(rng: Random) -> str:
    """Name a ship."""
    return rng.choice((f"{rng.choice(ADJECTIVES)} {rng.choice(SHIP_NOUNS)}", f"{surname(rng)} {rng.choice(SHIP_NOUNS)}", f"Queen of {place(rng)}"))


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
    "river": lambda rng: rng.choice(STEMS) + rng.choice(MIDDLES) + rng.choice(RIVER_ENDS),
    "star": lambda rng: rng.choice(STEMS) + rng.choice(MIDDLES) + rng.choice(STAR_ENDS),
    "word": lambda rng: rng.choice(STEMS) + rng.choice(MIDDLES) + rng.choice(WORD_ENDS),
    "pet": lambda rng: rng.choice((rng.choice(PETS), rng.choice(STEMS) + rng.choice(("o", "i", "y", "a", "kin")))),
    "hill": lambda rng: rng.choice((f"Mount {surname(rng)}", f"{place(rng)} Peak", f"{surname(rng)} Hill")),
    "cape": lambda rng: rng.choice((f"Cape {surname(rng)}", f"{place(rng)} Point", f"{surname(rng)} Head")),
    "field": lambda rng: rng.choice((f"{place(rng)} Park", f"{surname(rng)} Road", f"{surname(rng)} Field")),
    "inn": lambda rng: f"{rng.choice(ADJECTIVES)} {rng.choice(INN_NOUNS)}",
    "region": lambda rng: f"the {place(rng)} {rng.choice(('hills', 'marshes', 'islands', 'forests', 'plains', 'valleys'))}",
    "club": lambda rng: f"{place(rng)} {rng.choice(CLUB_ENDS)}",
    "beast": lambda rng: rng.choice(BEASTS),
    "month": lambda rng: rng.choice(MONTHS),
    "weekday": lambda rng: rng.choice(DAYS),
}
OPEN_KINDS = ("place", "town", "surname", "person", "river", "star", "hill", "cape", "field", "region", "club")


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
