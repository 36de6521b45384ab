"""The token rows of a data set in flat arrays, and what became of the rows that were read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from automodel.data.encode import IGNORED, Encoded
from automodel.errors import DataError

Ints = NDArray[np.int32]
Template = Literal["chat", "plain", "none"]


@dataclass(frozen=True, kw_only=True)
class DataReport:
    """Counts of rows and tokens; supervised tokens are those with a label once labels are shifted by one.

    `rewritten` counts conversations of which earlier answers are only read, because the chat template writes them differently later on.
    """

    rows_read: int
    rows_kept: int
    dropped_no_label: int
    dropped_too_long: int
    dropped_no_answer: int
    truncated: int
    tokens: int
    supervised_tokens: int
    template: Template
    dropped_invalid: int = 0
    rewritten: int = 0

    def as_dict(self) -> dict[str, int | str]:
        """Return the counts, for events and `--json`."""
        return asdict(self)

    def __str__(self) -> str:
        text = f"{self.rows_kept:,} of {self.rows_read:,} rows, {self.tokens:,} tokens, {self.supervised_tokens:,} trained on"
        losses = (
            (self.dropped_no_answer, "without an answer left out"),
            (self.dropped_no_label, "without a trained token left out"),
            (self.dropped_too_long, "too long left out"),
            (self.dropped_invalid, "that cannot be read left out"),
            (self.truncated, "cut to seq_length"),
            (self.rewritten, "trained on the last answers only, because the chat template writes earlier ones differently once others follow"),
        )
        return "; ".join([text, *(f"{count:,} {words}" for count, words in losses if count)])


class Media(Protocol):
    """What rows hold beside tokens, made anew each time it is asked for: pixels are many times larger than the text.

    `example` is the number of a row with few images, or None where no row has any.
    """

    example: int | None

    def inputs(self, index: int, ids: Ints) -> dict[str, Any]:
        """Return what the model wants beside the tokens `ids` of a row; values for each token as arrays [length], the rest as tensors."""
        ...

    def shown(self, index: int) -> list[Shown]:
        """Return what a person sees of the images of a row, in their order."""
        ...


@dataclass(frozen=True, kw_only=True)
class Shown:
    """An image of a row as it is shown: its name, its size in pixels, its tokens [start, end), and a small picture as a data: address, if made."""

    name: str
    width: int
    height: int
    tokens: tuple[int, int]
    source: str | None = None


class TokenizedDataset:
    """Token rows, held as one flat int32 array each of ids and labels; built by `build_dataset`.

    Attributes:
        lengths: tokens of each row, int32 [rows].
        supervised: trained tokens of each row after the shift, int32 [rows].
        prompt_lengths: tokens in front of the answer, int32 [rows]; 0 for text without a prompt.
        report: what was read, kept and dropped.
        row_length: length that every row is filled to, or None.
        stop_token_ids: the tokens that end the trained answers; generation should stop at them.
        media: the images of the rows, or None for text alone.
    """

    def __init__(
        self,
        ids: Ints,
        *,
        labels: Ints,
        lengths: Ints,
        prompt_lengths: Ints,
        report: DataReport,
        texts: list[tuple[str, tuple[str, ...]]] | None = None,
        row_length: int | None = None,
        media: Media | None = None,
    ) -> None:
        self._ids, self._labels, self._texts, self.media = ids, labels, texts, media
        self._starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
        self.lengths, self.prompt_lengths, self.report, self.row_length = lengths, prompt_lengths, report, row_length
        self.supervised = _supervised(labels, self._starts)
        trained = np.flatnonzero(labels != IGNORED)
        # A template may write more behind the end of the last answer, so its end is the last trained token of the row.
        ends = trained[np.searchsorted(trained, self._starts[1:]) - 1]
        self.stop_token_ids: tuple[int, ...] = tuple(int(token) for token in np.unique(ids[ends])) if report.template != "none" else ()

    def __len__(self) -> int:
        return len(self.lengths)

    def _row(self, index: int) -> slice:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        return slice(int(self._starts[index]), int(self._starts[index + 1]))

    def input_ids(self, index: int) -> Ints:
        """Return the tokens of a row, int32 [length]."""
        return self._ids[self._row(index)]

    def labels(self, index: int) -> Ints:
        """Return the labels of a row, int32 [length], aligned with its tokens; -100 where not trained."""
        return self._labels[self._row(index)]

    def prompt_ids(self, index: int) -> Ints:
        """Return the tokens in front of the answer, exactly as trained: what to generate from."""
        return self.input_ids(index)[: self.prompt_lengths[index]]

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self._row(index)
        tokens = {"input_ids": self._ids[row], "labels": self._labels[row]}
        return tokens if self.media is None else {**tokens, **self.media.inputs(index % len(self), self._ids[row])}

    def example(self, index: int) -> tuple[str, str]:
        """Return prompt and answer of a row as text; needs `keep_text=True` when the set is built."""
        prompt, answers = self._text(index)
        return prompt, answers[0] if answers else ""

    def answers(self, index: int) -> tuple[str, ...]:
        """Return all accepted answers of a row; needs `keep_text=True` when the set is built."""
        return self._text(index)[1]

    def _text(self, index: int) -> tuple[str, tuple[str, ...]]:
        if self._texts is None:
            raise ValueError("the texts were not kept: build the data set with keep_text=True")
        return self._texts[index]

    def __repr__(self) -> str:
        return f"TokenizedDataset({self.report})"


def _supervised(labels: Ints, starts: NDArray[np.int64]) -> Ints:
    trained = labels != IGNORED
    # The label at a row's first position is never used: nothing stands before it that could predict it.
    trained[starts[:-1]] = False
    return np.add.reduceat(trained, starts[:-1], dtype=np.int32)


class Builder:
    """Gathers encoded rows, drops those that cannot be trained on, and counts.

    Args:
        limit: longest row in tokens; longer ones are dropped.
        keep_text: keep prompts and answers as text.
        template: what wrote the prompts.
        cuts: rows of this kind can be cut to the limit; only for messages.
    """

    def __init__(self, *, limit: int | None, keep_text: bool, template: Template, cuts: bool = True) -> None:
        self._limit, self._template, self._cuts = limit, template, cuts
        self._rows: list[Encoded] = []
        self._texts: list[tuple[str, tuple[str, ...]]] | None = [] if keep_text else None
        self.rows_read = self.no_answer = self.rewritten = 0
        self._no_label = self._too_long = self._invalid = 0
        self._reason: DataError | None = None

    def skip(self, reason: DataError) -> None:
        """Count one row that cannot be read; the first reason is told when no row is left."""
        self._invalid += 1
        self._reason = self._reason or reason

    def add(self, row: Encoded, *, prompt: str = "", answers: Sequence[str] = ()) -> bool:
        """Take one row, or drop and count it; return whether it was taken."""
        if self._limit is not None and len(row.ids) > self._limit:
            self._too_long += 1
            return False
        if not (row.labels[1:] != IGNORED).any():
            self._no_label += 1
            return False
        self._rows.append(row)
        if self._texts is not None:
            self._texts.append((prompt, tuple(answers)))
        return True

    def finish(self, *, role: str, row_length: int | None = None, media: Media | None = None) -> TokenizedDataset:
        """Return the data set; raises DataError with all counts when no row is left."""
        if not self._rows:
            raise self._nothing_left(role) from self._reason
        lengths = np.array([len(row.ids) for row in self._rows], dtype=np.int32)
        labels = np.concatenate([row.labels for row in self._rows])
        report = DataReport(
            rows_read=self.rows_read,
            rows_kept=len(lengths),
            dropped_no_label=self._no_label,
            dropped_too_long=self._too_long,
            dropped_no_answer=self.no_answer,
            truncated=sum(row.truncated for row in self._rows),
            tokens=int(lengths.sum()),
            supervised_tokens=sum(int((row.labels[1:] != IGNORED).sum()) for row in self._rows),
            template=self._template,
            dropped_invalid=self._invalid,
            rewritten=self.rewritten,
        )
        return TokenizedDataset(
            np.concatenate([row.ids for row in self._rows]),
            labels=labels,
            lengths=lengths,
            prompt_lengths=np.array([row.prompt for row in self._rows], dtype=np.int32),
            report=report,
            texts=self._texts,
            row_length=row_length,
            media=media,
        )

    def _nothing_left(self, role: str) -> DataError:
        longer = "a larger dataset.seq_length" + (f" (now {self._limit})" if self._limit is not None else "")
        fixes = {
            f"dataset.truncation: true, or {longer}" if self._cuts else longer: self._too_long,
            f"{longer}, or labels that are not all -100": self._no_label,
            "rows that have an answer": self.no_answer,
            f"rows that can be read; the first that cannot: {self._reason.what}" if self._reason else "": self._invalid,
        }
        main = max(fixes, key=lambda fix: fixes[fix])
        found = f"{self._no_label:,} with all labels masked, {self._too_long:,} longer than seq_length, {self.no_answer:,} without an answer"
        return DataError(
            f"The {role} data hold no token to train on: all {self.rows_read:,} rows were dropped.",
            found=found + (f", {self._invalid:,} that cannot be read" if self._invalid else ""),
            expected="at least one row with a trained token",
            fix=f"use {main}",
        )
