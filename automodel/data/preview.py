"""Preview: what training will see, row by row, and the counts of the whole set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from automodel.data.dataset import Ints, Shown, TokenizedDataset
from automodel.data.encode import IGNORED

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class PreviewRow:
    """One row as it is trained: its text, its tokens with whether each is trained on, and its images."""

    index: int
    text: str
    tokens: list[tuple[str, bool]]
    token_count: int
    trained_count: int
    images: tuple[Shown, ...] = ()

    @property
    def pieces(self) -> list[tuple[str, bool, int | None]]:
        """The text of each token, whether it is trained on, and its place; one piece without a place stands for all tokens of an image."""
        found: list[tuple[str, bool, int | None]] = []
        places = [(text, on, at) for at, (text, on) in enumerate(self.tokens)]
        done = 0
        for number, image in enumerate(self.images, start=1):
            start, end = image.tokens
            count = "1 token" if end - start == 1 else f"{end - start:,} tokens"
            found += [*places[done:start], (f"[image {number}: {image.width}x{image.height}, {count}]", False, None)]
            done = end
        return [*found, *places[done:]]

    @property
    def trained_text(self) -> str:
        """The part of the text that is trained on."""
        return "".join(text for text, trained in self.tokens if trained)


def preview_rows(dataset: TokenizedDataset, tokenizer: PreTrainedTokenizerBase, n: int = 3) -> list[PreviewRow]:
    """Return the first `n` rows, decoded from the very tokens and labels that training uses."""
    return [preview_row(dataset, tokenizer, index) for index in range(min(n, len(dataset)))]


def preview_row(dataset: TokenizedDataset, tokenizer: PreTrainedTokenizerBase, index: int) -> PreviewRow:
    """Return one row, decoded from the very tokens and labels that training uses."""
    ids, labels = dataset.input_ids(index), dataset.labels(index)
    # The first position has no token in front of it that could predict it, so its label trains nothing.
    trained = [at > 0 and bool(label != IGNORED) for at, label in enumerate(labels)]
    pieces = token_texts(tokenizer, ids)
    return PreviewRow(
        index=index,
        text="".join(pieces),
        tokens=list(zip(pieces, trained, strict=True)),
        token_count=len(ids),
        trained_count=int(dataset.supervised[index]),
        images=tuple(dataset.media.shown(index)) if dataset.media is not None else (),
    )


def token_texts(tokenizer: PreTrainedTokenizerBase, ids: Ints) -> list[str]:
    """Return the text that each token adds; the parts of a character that is split over tokens are empty but for the last one."""
    pieces: list[str] = []
    start, shown = 0, ""
    numbers = ids.tolist()
    for at in range(len(numbers)):
        text = str(tokenizer.decode(numbers[start : at + 1], clean_up_tokenization_spaces=False))
        if text.endswith("\ufffd"):
            pieces.append("")
            continue
        pieces.append(text[len(shown) :])
        # One token of context is kept, because some tokenizers drop the space in front of the first token.
        start, shown = at, str(tokenizer.decode(numbers[at : at + 1], clean_up_tokenization_spaces=False))
    return pieces


def data_report(dataset: TokenizedDataset) -> str:
    """Return the counts of a data set in a few lines: rows, drops, lengths, share of trained tokens."""
    low, middle, high = (int(value) for value in np.percentile(dataset.lengths, [10, 50, 90]))
    report = dataset.report
    ways = {"chat": "the tokenizer's chat template", "plain": "a plain prompt", "none": "no prompt"}
    return "\n".join(
        [
            f"rows      {report}",
            f"template  {ways[report.template]}",
            f"lengths   10% {low}, median {middle}, 90% {high}, longest {int(dataset.lengths.max())} tokens",
            f"trained   {report.supervised_tokens / report.tokens:.1%} of the tokens",
        ]
    )
