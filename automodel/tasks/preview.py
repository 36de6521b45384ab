"""The rows that training will see: the exact text, its tokens, and which of them are trained on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automodel.errors import RequestError
from automodel.tables import facts_html, facts_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from automodel.data import DataReport, PreviewRow, Shown, TokenizedDataset
    from automodel.recipe.schema import DatasetSection, Recipe

# Trained text stands in these marks, so that it is told apart without colour, too.
OPEN, CLOSE = "⟦", "⟧"
_ON, _OFF = "\x1b[1;32m", "\x1b[0m"
# Untrained tokens that are shown in front of the first trained one.
_LEAD = 12


# Rows that are named as the ones to look at first.
_WORST = 20


@dataclass(frozen=True)
class _Source:
    """What a preview was made from: the token rows by name, and the tokenizer that made them."""

    sets: Mapping[str, TokenizedDataset]
    tokenizer: PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class Preview:
    """Rows as they are trained, and the counts of their set; prints as text and HTML, trained text in ⟦ ⟧.

    Attributes:
        rows: the rows that were asked for; `ids` holds their token ids.
        report: counts of the set: read, kept, dropped, truncated, tokens.
        summary: the counts in words; `others` those of the further sets of the recipe, by name.
        longest: number of the longest row; `least_trained` of the one with the smallest share of trained tokens.
        lengths: (tokens, rows) for each length that rows of the set have, shortest first.
        worst: (row, tokens, trained tokens) of the rows to look at first: those with the smallest share of trained tokens.
    """

    name: str
    rows: tuple[PreviewRow, ...]
    ids: tuple[tuple[int, ...], ...]
    report: DataReport
    summary: str
    others: dict[str, str]
    longest: int
    least_trained: int
    lengths: tuple[tuple[int, int], ...] = ()
    worst: tuple[tuple[int, int, int], ...] = ()
    source: _Source | None = field(default=None, repr=False, compare=False)

    def at(self, rows: Sequence[int], *, of: str | None = None) -> Preview:
        """Return a preview of other rows, or of another set of the same recipe, without reading and tokenising again."""
        if self.source is None:
            raise ValueError("this preview was not made by preview()")
        return _show(self.source, of or self.name, rows)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values, for `--json`.

        Rows with images also have `images` (name, width, height, number of tokens, and `source`: a small picture as a data: address, or null),
        and `image`, the number of the image from 0, on each token that stands for one.
        """
        rows = [
            {
                "index": row.index,
                "text": row.text,
                "trained_text": row.trained_text,
                "token_count": row.token_count,
                "trained_count": row.trained_count,
                "tokens": _token_dicts(row, ids),
                **({"images": [_image_dict(image) for image in row.images]} if row.images else {}),
            }
            for row, ids in zip(self.rows, self.ids, strict=True)
        ]
        worst = {"longest": self.longest, "least_trained": self.least_trained}
        return {
            "set": self.name,
            "report": self.report.as_dict(),
            "rows": rows,
            "worst": worst,
            "others": self.others,
            "lengths": [list(pair) for pair in self.lengths],
            "worst_rows": [{"index": row, "token_count": tokens, "trained_count": trained} for row, tokens, trained in self.worst],
        }

    def facts(self) -> list[tuple[str, str]]:
        """Return label and text of the counts."""
        worst = f"longest row {self.longest}, least trained row {self.least_trained}"
        return [(self.name, self.summary), *self.others.items(), ("worst rows", worst)]

    def text(self, *, colour: bool = False) -> str:
        """Return the rows and counts for a terminal, trained text in ⟦ ⟧ and, if asked, in green."""
        parts = []
        for row in self.rows:
            head = f"--- row {row.index}: {row.token_count} tokens, {row.trained_count} trained"
            parts.append(f"{head}\n{_marked(row, colour=colour)}\ntokens: {_tokens(row, colour=colour)}\n")
        return "\n".join([*parts, f"{OPEN}{CLOSE} trained on", facts_text(self.facts())])

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        blocks: list[str] = []
        for row, ids in zip(self.rows, self.ids, strict=True):
            body = "".join(f"<mark title='trained on'>{OPEN}{escape(text)}{CLOSE}</mark>" if on else escape(text) for on, text in _spans(row.pieces))
            pieces = "".join(_token_html(text, on, None if at is None else ids[at]) for text, on, at in row.pieces)
            pictures = "".join(_image_html(number, image) for number, image in enumerate(row.images, start=1))
            blocks.append(
                f"<h4>Row {row.index}: {row.token_count} tokens, {row.trained_count} trained</h4>{pictures}"
                f"<pre style='white-space:pre-wrap'>{body}</pre><details><summary>tokens</summary>{pieces}</details>"
            )
        return "".join(blocks) + facts_html("Data", self.facts())


def _spans(pieces: Sequence[tuple[str, bool, int | None]]) -> list[tuple[bool, str]]:
    """Return the text in stretches of trained and untrained tokens."""
    return [(on, "".join(text for text, _, _ in stretch)) for on, stretch in groupby(pieces, key=lambda piece: piece[1])]


def _marked(row: PreviewRow, *, colour: bool) -> str:
    return "".join(_mark(text, colour=colour) if on else text for on, text in _spans(row.pieces))


def _mark(text: str, *, colour: bool) -> str:
    return f"{_ON}{OPEN}{text}{CLOSE}{_OFF}" if colour else f"{OPEN}{text}{CLOSE}"


def _tokens(row: PreviewRow, *, colour: bool) -> str:
    """Return the tokens around the first trained one, each quoted; what is before them is counted only."""
    pieces = row.pieces
    first = next((at for at, (_, on, _) in enumerate(pieces) if on), 0)
    start = max(0, first - _LEAD)
    shown = []
    for on, stretch in groupby(pieces[start:], key=lambda piece: piece[1]):
        quoted = " ".join(json.dumps(text, ensure_ascii=False) for text, _, _ in stretch)
        shown.append(_mark(quoted, colour=colour) if on else quoted)
    return (f"({start} more) " if start else "") + " ".join(shown)


def _token_dicts(row: PreviewRow, ids: Sequence[int]) -> list[dict[str, Any]]:
    images = {at: {"image": number} for number, image in enumerate(row.images) for at in range(*image.tokens)}
    return [
        {"id": number, "text": text, "trained": on, **images.get(at, {})} for at, (number, (text, on)) in enumerate(zip(ids, row.tokens, strict=True))
    ]


def _image_dict(image: Shown) -> dict[str, Any]:
    start, end = image.tokens
    return {"name": image.name, "width": image.width, "height": image.height, "tokens": end - start, "source": image.source}


def _image_html(number: int, image: Shown) -> str:
    start, end = image.tokens
    words = escape(f"image {number}: {image.name}, {image.width}x{image.height}, {end - start:,} tokens")
    picture = f"<img src='{escape(image.source)}' alt='{words}'>" if image.source else ""
    return f"<figure style='display:inline-block;margin:4px'>{picture}<figcaption>{words}</figcaption></figure>"


def _token_html(text: str, trained: bool, number: int | None) -> str:
    style = "border-bottom:2px solid;font-weight:bold" if trained else "opacity:.75"
    title = "image" if number is None else f"id {number}, trained on" if trained else f"id {number}"
    return f"<code title='{title}' style='margin:1px;{style}'>{escape(json.dumps(text, ensure_ascii=False))}</code> "


def preview(
    recipe_or_dataset: Recipe | DatasetSection | TokenizedDataset | Mapping[str, Any] | str | Path,
    *,
    n: int = 3,
    rows: Sequence[int] | None = None,
    of: str = "training",
    tokenizer: PreTrainedTokenizerBase | str | Path | None = None,
    overrides: Sequence[str] = (),
    allow_targets: Sequence[str] = (),
) -> Preview:
    """Show what training will see: text, tokens and loss mask, from the very arrays that are trained on.

    Args:
        recipe_or_dataset: a recipe (object, map or YAML file), or data alone: a `DatasetSection`, an id or file, or built token rows.
        n: number of rows from the beginning.
        rows: numbers of rows to show in place of the first ones.
        of: which set of a recipe: training, or the name of a validation set.
        tokenizer: for data alone: a tokenizer, or the id or folder of one.
        overrides: changes to a recipe as on the command line, `--a.b.c=value`.
        allow_targets: dotted `_target_` paths that may run.

    Raises:
        RequestError: the recipe or data are wrong, or no token would be trained on.
    """
    return _show(_Source(*_sets(recipe_or_dataset, tokenizer, overrides, allow_targets)), of, range(n) if rows is None else rows)


def _sets(
    given: Any, tokenizer: Any, overrides: Sequence[str], allow_targets: Sequence[str]
) -> tuple[dict[str, TokenizedDataset], PreTrainedTokenizerBase]:
    """Return the token rows of each set and the tokenizer that made them."""
    from automodel.data import TokenizedDataset, build_dataset
    from automodel.recipe import Recipe, as_loaded
    from automodel.recipe.schema import DatasetSection

    if isinstance(given, (str, Path)) and Path(given).suffix not in (".yaml", ".yml"):
        given = DatasetSection(path_or_dataset=str(given))
    if isinstance(given, TokenizedDataset):
        return {"training": given}, _reader(tokenizer)
    if isinstance(given, DatasetSection):
        reader = _reader(tokenizer)
        return {"training": build_dataset(given, reader)}, reader
    recipe = given if isinstance(given, Recipe) and not overrides else as_loaded(given, overrides=overrides, allow_targets=allow_targets).recipe
    return _sets_of(recipe)


def _sets_of(recipe: Recipe) -> tuple[dict[str, TokenizedDataset], PreTrainedTokenizerBase]:
    from automodel.recipe import check_complete, not_built
    from automodel.tasks.preflight import build_data, readers_of

    check_complete(recipe)
    not_built(recipe)
    tokenizer, processor = readers_of(recipe)
    training, validation = build_data(recipe, tokenizer, processor=processor)
    return {"training": training, **validation}, tokenizer


def _reader(tokenizer: Any) -> PreTrainedTokenizerBase:
    if tokenizer is None:
        fix = "preview(data, tokenizer='NAME')"
        raise RequestError("Data alone say nothing about tokens.", found="no tokenizer", expected="a tokenizer", fix=fix)
    if not isinstance(tokenizer, (str, Path)):
        return tokenizer  # type: ignore[no-any-return]  # a tokenizer object is taken as it is
    from automodel.auto import NeMoAutoTokenizer

    return NeMoAutoTokenizer.from_pretrained(tokenizer)  # type: ignore[no-any-return]  # as transformers types it


def _show(source: _Source, of: str, rows: Sequence[int]) -> Preview:
    from automodel.data import data_report, preview_row

    sets = source.sets
    if of not in sets:
        raise RequestError("There is no such set of rows.", found=of, expected=", ".join(sets), fix=f"take {next(iter(sets))}")
    data = sets[of]
    wrong = [row for row in rows if row >= len(data) and not isinstance(rows, range)]
    if wrong:
        raise RequestError("There is no such row.", found=str(wrong[0]), expected=f"0 to {len(data) - 1}", fix="leave rows out for the first ones")
    chosen = [row for row in rows if row < len(data)]
    worst = _worst(data)
    return Preview(
        name=of,
        rows=tuple(preview_row(data, source.tokenizer, row) for row in chosen),
        ids=tuple(tuple(data.input_ids(row).tolist()) for row in chosen),
        report=data.report,
        summary=data_report(data),
        others={name: str(other.report) for name, other in sets.items() if name != of},
        longest=int(data.lengths.argmax()),
        least_trained=worst[0][0],
        lengths=_length_counts(data),
        worst=worst,
        source=source,
    )


def _worst(data: TokenizedDataset) -> tuple[tuple[int, int, int], ...]:
    """Return row, tokens and trained tokens of the rows with the smallest share of trained tokens, the first row of equals first."""
    order = (data.supervised / data.lengths).argsort(kind="stable")[:_WORST]
    return tuple((int(row), int(data.lengths[row]), int(data.supervised[row])) for row in order)


def _length_counts(data: TokenizedDataset) -> tuple[tuple[int, int], ...]:
    counts = Counter(data.lengths.tolist())
    return tuple(sorted(counts.items()))
