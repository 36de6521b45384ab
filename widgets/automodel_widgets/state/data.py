"""What the data panel knows: which data a recipe names, what training would see of them, and whether that can be trained on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import automodel
from automodel.errors import AutomodelError
from automodel.recipe import RECIPES
from automodel.recipe.built import IMAGE_DATASETS

DEMO_DATA = Path(automodel.__file__).parent / "demo" / "data" / "train.json"
# Kinds of rows, in words; the recipe's schema has the names.
KINDS = {
    "squad": "Questions on a text (SQuAD)",
    "column_mapped": "Columns that I name",
    "text": "Plain text",
    "chat": "Conversations",
    "mock": "Made-up rows, to try the machine",
}
# Columns that `column_mapped` can name, and what each is for.
ROLES = {"image": "one image or several", "context": "may be empty", "question": "what is asked", "answer": "what is trained on"}
PAGE = 8
BINS = 16
# What the recipe's schema takes when `step_scheduler.local_batch_size` is absent.
BATCH = 4
# A run of ignored tokens longer than this is shown by its two ends: the trained ones are what matters.
LONG, ENDS = 160, 60
# Below this share most of the work of a step goes into text that is not learned from.
FEW = 0.02
_SECTIONS = ("recipe", "model", "tokenizer", "dataset", "validation_dataset", "validation_datasets", "packed_sequence", "processor")


@dataclass(frozen=True)
class Packing:
    """How much of what a step computes is filling, and what packing rows into one length would make of it."""

    length: int
    packs: int
    packed_waste: float
    batch: int
    padded_waste: float
    too_long: int


class DataState:
    """The last preview of a recipe's data, and what follows from it."""

    def __init__(self) -> None:
        self.answer: dict[str, Any] | None = None
        self.error: dict[str, str] | None = None
        self.seen: str = ""
        self.of = "training"
        self.order = "first"
        self.page = 0
        self.row: int | None = None

    def take(self, recipe: Mapping[str, Any], answer: dict[str, Any]) -> None:
        """Keep an answer to `preview` for a recipe; the first of its rows is opened."""
        self.answer, self.error, self.seen = answer, None, key(recipe)
        rows = answer["rows"]
        if self.row not in [row["index"] for row in rows]:
            self.row = rows[0]["index"] if rows else None

    def fail(self, recipe: Mapping[str, Any], error: AutomodelError) -> None:
        """Keep the reason why there is nothing to show."""
        self.answer, self.error, self.seen = None, error.as_dict(), key(recipe)

    def stale(self, recipe: Mapping[str, Any]) -> bool:
        """Say whether the recipe was changed since, in a way that changes the data."""
        return bool(self.seen) and self.seen != key(recipe)

    # Which rows.

    def wanted(self) -> dict[str, Any]:
        """Return what to ask `preview` for: the rows of the page."""
        if self.answer is None:
            return {"n": PAGE, "of": self.of}
        start = self.page * PAGE
        if self.order == "worst":
            return {"rows": [row["index"] for row in self.worst[start : start + PAGE]], "of": self.of}
        return {"rows": list(range(start, min(start + PAGE, self.count))), "of": self.of}

    @property
    def count(self) -> int:
        """Rows of the set."""
        return int(self.report["rows_kept"])

    @property
    def pages(self) -> int:
        """Pages in the order that is shown."""
        return max(1, -(-(len(self.worst) if self.order == "worst" else self.count) // PAGE))

    @property
    def worst(self) -> list[dict[str, int]]:
        """The rows to look at first: fewest trained tokens for their length."""
        return list(self._known()["worst_rows"])

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of the page."""
        return list(self._known()["rows"])

    @property
    def open_row(self) -> dict[str, Any] | None:
        """The row that is shown in full."""
        return next((row for row in self.rows if row["index"] == self.row), None)

    @property
    def sets(self) -> list[str]:
        """Names of the sets of rows, the one that is shown first."""
        return [str(self._known()["set"]), *self._known()["others"]]

    # What they amount to.

    @property
    def report(self) -> dict[str, Any]:
        """Counts of rows and tokens."""
        return dict(self._known()["report"])

    @property
    def share(self) -> float:
        """Share of the tokens that is trained on."""
        return float(self.report["supervised_tokens"] / max(self.report["tokens"], 1))

    def tiles(self) -> dict[str, str]:
        """Return the counts, named."""
        report = self.report
        lost = sum(count for name, count in report.items() if name.startswith("dropped_"))
        return {
            "Rows": f"{report['rows_kept']:,}",
            "Left out": f"{lost:,}",
            "Cut to length": f"{report['truncated']:,}",
            "Tokens": f"{report['tokens']:,}",
            "Trained tokens": f"{report['supervised_tokens']:,}",
            "Share trained": percent(self.share),
            "Longest row": f"{self.lengths[-1][0]:,}",
        }

    def remarks(self) -> list[str]:
        """Return what deserves a look before training, one sentence each."""
        report, found = self.report, []
        losses = {
            "dropped_no_answer": "left out, because they have no answer",
            "dropped_no_label": "left out, because they hold no trained token",
            "dropped_too_long": "left out, because they are longer than the limit",
            "dropped_invalid": "left out, because they cannot be read",
            "truncated": "cut to the limit, oldest turns first" if report["template"] == "chat" else "cut to the limit, at the left of the prompt",
            "rewritten": "only their last answers are trained on, because the chat template writes earlier ones differently once others follow",
        }
        for name, words in losses.items():
            if report[name]:
                found.append(f"{report[name]:,} of {report['rows_read']:,} rows: {words}.")
        if self.share < FEW:
            found.append(f"Only {percent(self.share)} of the tokens are trained on; the rest is read as context.")
        return found

    @property
    def lengths(self) -> list[tuple[int, int]]:
        """(tokens, rows) for each length, shortest first."""
        return [(int(tokens), int(rows)) for tokens, rows in self._known()["lengths"]]

    def quantile(self, share: float) -> int:
        """Return the length that this share of the rows does not exceed."""
        seen, wanted = 0, share * self.count
        for tokens, rows in self.lengths:
            seen += rows
            if seen >= wanted:
                return tokens
        return self.lengths[-1][0]

    def histogram(self) -> list[tuple[int, int, int]]:
        """Return (from, to, rows) of some bins of equal width."""
        low, high = self.lengths[0][0], self.lengths[-1][0]
        width = max(1, -(-(high - low + 1) // BINS))
        edges = range(low, high + 1, width)
        return [(edge, edge + width - 1, sum(rows for tokens, rows in self.lengths if edge <= tokens < edge + width)) for edge in edges]

    def packing(self, recipe: Mapping[str, Any]) -> Packing:
        """Return the share of filling with and without packing, at the length that the recipe gives."""
        section = recipe.get("packed_sequence") or {}
        given = section.get("packed_sequence_size") or (recipe.get("dataset") or {}).get("seq_length")
        length = int(given) if isinstance(given, (int, float)) and given > 0 else self.lengths[-1][0]
        batch = (recipe.get("step_scheduler") or {}).get("local_batch_size")
        return packing(self.lengths, length, int(batch) if isinstance(batch, int) and batch > 0 else BATCH)

    # What the others are told.

    def facts(self, recipe: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return what the launch needs to know: whether it is blocked, and why; None when nothing is known of this recipe."""
        if self.stale(recipe) or (self.answer is None and self.error is None):
            return None
        if self.error is not None:
            return {"state": "blocked", "why": self.error["what"], "fix": self.error["fix"]}
        report = self.report
        if not report["supervised_tokens"]:
            return {"state": "blocked", "why": "No token of the data would be trained on.", "fix": "give rows that have an answer"}
        return {"state": "ready", "why": "", "rows": report["rows_kept"], "tokens": report["tokens"], "trained": report["supervised_tokens"]}

    @property
    def nothing_to_train(self) -> bool:
        """Say whether the data were read and hold no trained token."""
        if self.error is not None:
            return "no token to train on" in self.error["what"]
        return self.answer is not None and not self.report["supervised_tokens"]

    def _known(self) -> dict[str, Any]:
        assert self.answer is not None
        return self.answer


def relevant(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sections of a recipe that decide what its data are; a mistake in another one is no matter here."""
    return {name: value for name, value in recipe.items() if name in _SECTIONS or name.startswith("validation_dataset")}


def key(recipe: Mapping[str, Any]) -> str:
    """Return the sections that decide what the data are, as text to compare."""
    return json.dumps(relevant(recipe), sort_keys=True, default=str)


def why_not(recipe: Mapping[str, Any]) -> str | None:
    """Say what a recipe lacks before its data can be looked at."""
    data, model = recipe.get("dataset") or {}, recipe.get("model") or {}
    if not (data.get("path_or_dataset") or data.get("_target_") or data.get("target") or data.get("name") == "mock"):
        return "Choose a dataset first"
    if data.get("name") == "text" and not data.get("seq_length"):
        return "Set the length of a block first"
    words = recipe.get("tokenizer") or {}
    if not (model.get("pretrained_model_name_or_path") or model.get("config") or words.get("pretrained_model_name_or_path")):
        return "Choose a model first: its tokenizer is needed"
    return None


def packing(lengths: Sequence[tuple[int, int]], length: int, batch: int) -> Packing:
    """Return what is filling when rows are packed into `length`, best fit first, and when each batch is filled to its longest row."""
    fitting = [(tokens, rows) for tokens, rows in lengths if tokens <= length]
    used = sum(tokens * rows for tokens, rows in fitting)
    packs = _packs(fitting, length)
    whole = sum(rows for _, rows in lengths)
    longest = _expected_longest(lengths, batch)
    mean = sum(tokens * rows for tokens, rows in lengths) / max(whole, 1)
    return Packing(
        length=length,
        packs=packs,
        packed_waste=1 - used / (packs * length) if packs else 0.0,
        batch=batch,
        padded_waste=1 - mean / longest if longest else 0.0,
        too_long=whole - sum(rows for _, rows in fitting),
    )


def _packs(lengths: Sequence[tuple[int, int]], size: int) -> int:
    """Count the packs of best fit, longest rows first, many equal rows at a time."""
    room: dict[int, int] = {}
    packs = 0
    for tokens, rows in sorted(lengths, reverse=True):
        left = rows
        while left:
            best = min((space for space, count in room.items() if space >= tokens and count), default=None)
            if best is None:
                each = size // tokens
                whole, rest = divmod(left, each)
                packs += whole + bool(rest)
                room[size - each * tokens] = room.get(size - each * tokens, 0) + whole
                room[size - rest * tokens] = room.get(size - rest * tokens, 0) + bool(rest)
                break
            taken = min(left, room[best])
            room[best] -= taken
            room[best - tokens] = room.get(best - tokens, 0) + taken
            left -= taken
    return packs


def _expected_longest(lengths: Sequence[tuple[int, int]], batch: int) -> float:
    """Return the expected length of the longest of `batch` rows drawn at random."""
    whole, below, found = sum(rows for _, rows in lengths), 0.0, 0.0
    seen = 0
    for tokens, rows in lengths:
        seen += rows
        share = (seen / whole) ** batch
        found += tokens * (share - below)
        below = share
    return found


def with_images(recipe: Mapping[str, Any]) -> bool:
    """Say whether the job of a recipe reads images."""
    return RECIPES.get(str(recipe.get("recipe"))) == "vlm"


def kinds(recipe: Mapping[str, Any]) -> dict[str, str]:
    """Return the kinds of rows that the job of a recipe reads, in words; the one that is set is always among them."""
    known = {name: words for name, words in KINDS.items() if name in IMAGE_DATASETS} if with_images(recipe) else KINDS
    kind = str((recipe.get("dataset") or {}).get("name") or "squad")
    return known if kind in known else {**known, kind: KINDS.get(kind, kind)}


def roles(recipe: Mapping[str, Any]) -> dict[str, str]:
    """Return the columns that rows of the kind column_mapped can have, and what each is for."""
    return {role: words for role, words in ROLES.items() if role != "image" or with_images(recipe)}


def image_words(number: int, image: Mapping[str, Any]) -> str:
    """Return what stands for the tokens of an image, counted from 0."""
    count = int(image["tokens"])
    return f"image {number + 1}, {count:,} token{'' if count == 1 else 's'}"


def stretches(tokens: Sequence[Mapping[str, Any]]) -> list[tuple[bool, list[Mapping[str, Any]], int]]:
    """Return (trained, tokens, left out) for each run of tokens; of a long ignored run only the two ends, with the count between them.

    The tokens of each image are a run of their own, which is whole: it is shown as one piece.
    """
    found: list[tuple[bool, list[Mapping[str, Any]], int]] = []
    for (trained, image), run in groupby(tokens, key=lambda token: (bool(token["trained"]), token.get("image"))):
        pieces = list(run)
        if trained or image is not None or len(pieces) <= LONG:
            found.append((trained, pieces, 0))
        else:
            found += [(False, pieces[:ENDS], len(pieces) - 2 * ENDS), (False, pieces[-ENDS:], 0)]
    return found


def percent(share: float) -> str:
    """Return a share in words a reader can compare: one digit after the point for small ones."""
    if 0 < share < 0.001:
        return "under 0.1 %"
    return f"{100 * share:.1f} %" if share < 0.995 else f"{100 * share:.0f} %"
