"""What the model panel knows: which models lie on this machine, and the answer of `inspect` as verdicts, rows, differences and rectangles."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import automodel

DEMO_MODEL = Path(automodel.__file__).parent / "demo" / "model"
# How the answers of `inspect` about a method in a placement read: (kind of badge, words).
WORDS = {
    "yes": ("good", "works"),
    "not built yet": ("warn", "not yet"),
    "no experts": ("", "no experts"),
    "no targets": ("", "no targets"),
    "weights quantised": ("bad", "quantised"),
    "no": ("bad", "no"),
}
PLACES = {
    "one process": ("Single", "one process"),
    "DDP": ("DDP", "a copy on each device"),
    "FSDP2": ("FSDP2", "weights shared out over devices"),
    "TP": ("TP", "each layer split over devices"),
    "PP": ("PP", "layers dealt to devices"),
    "CP": ("CP", "long rows split over devices"),
    "EP": ("EP", "experts dealt to devices"),
}
METHODS = {"full": "Full: all weights", "LoRA": "LoRA: small adapters", "QLoRA": "QLoRA: LoRA on 4-bit weights"}
KINDS = {
    "dense": "a decoder that writes text",
    "MoE": "a decoder with experts, of which each token uses a few",
    "VLM": "a model that sees images and writes text",
    "audio": "a model that hears",
    "encoder": "an encoder that reads text",
    "encoder-decoder": "a model that reads one text and writes another",
    "unknown": "a model of a kind that is not known",
}
_ABSENT = object()


@dataclass(frozen=True)
class Rectangle:
    """A part in the treemap, in percent of its width and height."""

    name: str
    count: int
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Leaf:
    """One line of a config as a tree: a value, or a branch with lines of its own."""

    name: str
    value: str
    children: tuple[Leaf, ...] = ()
    found: bool = False


def cached_models(cache: Path | None = None) -> list[str]:
    """Return the hub ids whose config lies in the download cache; nothing is asked of the network."""
    if cache is None:
        from huggingface_hub import constants

        cache = Path(constants.HF_HUB_CACHE)
    if not cache.is_dir():
        return []
    folders = (folder for folder in cache.glob("models--*") if any(folder.glob("snapshots/*/config.json")))
    return sorted(folder.name.removeprefix("models--").replace("--", "/") for folder in folders)


def known_models(cache: Path | None = None) -> dict[str, str]:
    """Return what can be picked without typing: value -> label."""
    return {str(DEMO_MODEL): "The demo model (1 million parameters, shipped)", **{name: f"{name} (downloaded)" for name in cached_models(cache)}}


def label_of(target: str) -> str:
    """Return a short name of a target: that of its folder, where it is one."""
    if target == str(DEMO_MODEL):
        return "The demo model"
    if not target.startswith(("/", "~", ".")):
        return target
    return target.removesuffix("/config.json").rstrip("/").rpartition("/")[2]


# The verdict.


def verdict(found: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return kind, word and sentence of the answer to: can it be trained here?"""
    kind = KINDS.get(str(found["kind"]), str(found["kind"]))
    if found["implementation"] == "refused":
        return "bad", "cannot be used", f"{kind}. It cannot be built here."
    ways = [method for method, row in found["methods"].items() if "yes" in row.values()]
    if not ways:
        return "bad", "cannot be trained yet", f"{kind}. It can be built, but no way to train it works yet."
    sort = "with this package's own decoder" if found["implementation"] == "native" else "with the class of transformers"
    said = f"{kind}, built {sort}. It can be trained: {', '.join('all weights' if way == 'full' else way for way in ways)}."
    return ("warn", "works, with remarks", said) if found["missing"] else ("good", "works", said)


def can_use(found: Mapping[str, Any]) -> bool:
    """Say whether a recipe could train the model in some way."""
    return bool(found["ok"])


def matrix(found: Mapping[str, Any]) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """Return (placement, what it is, (kind, words) for each method): one row for each placement."""
    methods = found["methods"].values()
    return [(name, what, [WORDS.get(row[place], ("", row[place])) for row in methods]) for place, (name, what) in PLACES.items()]


def numbers(found: Mapping[str, Any]) -> dict[str, str]:
    """Return the key facts, named."""
    count, active = found["parameters"], found["active"]
    known = {True: "yes", False: "no", None: "not known"}
    facts = {"Kind": str(found["kind"]), "Parameters": short(count) if count else "-"}
    if count and active != count:
        facts["Active a token"] = short(active)
    length = found["context_length"]
    return facts | {
        "Layers": str(layer_count(found) or "-"),
        "Context, tokens": f"{length:,}" if length else "-",
        "Number type": str(found["dtype"] or "not named"),
        "Tokenizer": known[found["tokenizer"]],
        "Chat template": known[found["chat_template"]],
    }


def short(count: int | float) -> str:
    """Return a count as 1.15 M, 7.24 B."""
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:,.0f}"


# Layers.


def stacks(found: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    """Return the kinds of layers of each stack, by the stack's name."""
    made: dict[str, list[Mapping[str, Any]]] = {}
    for kind in found["layers"]:
        made.setdefault(kind["stack"], []).append(kind)
    return made


def layer_count(found: Mapping[str, Any]) -> int:
    """Return the number of layers of the stack with the most parameters."""
    main = max(stacks(found).values(), key=lambda kinds: sum(len(kind["numbers"]) * kind["parameters"] for kind in kinds), default=[])
    return sum(len(kind["numbers"]) for kind in main)


def ranges(values: Sequence[int], *, most: int = 6) -> str:
    """Return numbers as ranges: 0–4, 6, 8–10; after some of them an ellipsis."""
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    words = [str(a) if a == b else f"{a}–{b}" for a, b in runs]
    return ", ".join(words[:most]) + (", …" if len(words) > most else "")


def colours(parts: Mapping[str, int]) -> dict[str, int]:
    """Return the number of each part's colour: the largest part has the first."""
    return {part: at % 8 for at, part in enumerate(sorted(parts, key=lambda part: -parts[part]))}


# Config.


def tree(value: Any, query: str = "", *, name: str = "config") -> Leaf:
    """Return a config as a tree; `found` marks lines whose name or value holds the query, and the branches above them."""
    wanted = query.strip().lower()
    if isinstance(value, Mapping):
        children = tuple(tree(inner, query, name=str(key)) for key, inner in value.items())
    elif isinstance(value, (list, tuple)) and any(isinstance(inner, (Mapping, list, tuple)) for inner in value):
        children = tuple(tree(inner, query, name=str(at)) for at, inner in enumerate(value))
    else:
        shown = plain(value)
        return Leaf(name, shown, found=bool(wanted) and (wanted in name.lower() or wanted in shown.lower()))
    own = bool(wanted) and wanted in name.lower()
    return Leaf(name, f"{len(children)} entries", children, found=own or any(child.found for child in children))


def hits(leaf: Leaf, query: str) -> int:
    """Count the lines that a search marks."""
    wanted = query.strip().lower()
    if not wanted:
        return 0
    own = wanted in leaf.name.lower() or (not leaf.children and wanted in leaf.value.lower())
    return int(own) + sum(hits(child, query) for child in leaf.children)


def differences(left: Mapping[str, Any], right: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return (setting, left, right) where two configs differ, nested ones by dotted names; absent ones read so."""
    a, b = dict(_flat(left)), dict(_flat(right))
    rows = []
    for name in dict.fromkeys([*a, *b]):
        one, other = a.get(name, _ABSENT), b.get(name, _ABSENT)
        if one != other:
            rows.append((name, "absent" if one is _ABSENT else plain(one), "absent" if other is _ABSENT else plain(other)))
    return rows


def plain(value: Any) -> str:
    """Return a config value as JSON would write it, long lists by their beginning."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, (list, tuple)):
        words = [plain(inner) for inner in value[:8]]
        return f"[{', '.join(words)}{f', … ({len(value)} entries)' if len(value) > 8 else ''}]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def _flat(value: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            yield from _flat(inner, f"{before}{name}.")
        else:
            yield f"{before}{name}", inner


# Parameters.


def treemap(parts: Mapping[str, int], *, ratio: float = 2.4) -> list[Rectangle]:
    """Return one rectangle for each part, area by parameters, largest first; `ratio` is the width of the whole by its height."""
    whole = sum(parts.values())
    left = sorted(((name, count) for name, count in parts.items() if count), key=lambda item: -item[1])
    x, y, width, height = 0.0, 0.0, ratio, 1.0
    made: list[Rectangle] = []
    while left:
        area = width * height / sum(count for _, count in left)
        along = min(width, height)
        row = _best_row(left, along, area)
        across = sum(count for _, count in row) * area / along
        at = 0.0
        for name, count in row:
            long = count * area / across
            place = (x, y + at, across, long) if width >= height else (x + at, y, long, across)
            made.append(Rectangle(name, count, 100 * place[0] / ratio, 100 * place[1], 100 * place[2] / ratio, 100 * place[3]))
            at += long
        x, y, width, height = (x + across, y, width - across, height) if width >= height else (x, y + across, width, height - across)
        left = left[len(row) :]
    return made if whole else []


def _best_row(items: list[tuple[str, int]], along: float, area: float) -> list[tuple[str, int]]:
    """Return as many of the first items as make the rectangles of one row nearest to squares."""
    row, worst = items[:1], float("inf")
    for size in range(1, len(items) + 1):
        counts = [count for _, count in items[:size]]
        across = sum(counts) * area / along
        now = max(max(across * across / (count * area), count * area / (across * across)) for count in counts)
        if now > worst:
            break
        row, worst = items[:size], now
    return row


# What can be told from a target before it is looked at.


def target_error(target: str) -> str | None:
    """Say what is plainly wrong with a typed target."""
    if not target.strip():
        return "Type a folder or a hub id, or pick one from the list."
    path = Path(target).expanduser()
    if target.startswith(("/", "~", ".")) and not path.exists():
        return f"There is no such folder: {target}"
    if re.search(r"\s", target.strip()) and not path.exists():
        return "A hub id holds no spaces: OWNER/NAME"
    return None


def from_address(target: str) -> str:
    """Return the hub id of a pasted web address, and anything else as it is."""
    found = re.match(r"https?://(?:www\.)?(?:huggingface\.co|hf\.co)/([^/\s]+/[^/\s?#]+)", target.strip())
    return found.group(1) if found else target.strip()
