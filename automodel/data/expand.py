"""From a rendered text with places for images to the token row that the model's processor makes of it, with labels.

A processor puts as many tokens in the place of an image as the model wants to see. The labels come from positions in the text, so text
and row are laid side by side: they may differ at the places of images and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from automodel.data.encode import IGNORED, Encoded, end_ids, ended, eos_id, tokenize
from automodel.data.images import Picture
from automodel.data.turns import RenderedChat
from automodel.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image
    from transformers import PreTrainedTokenizerBase

# Names under which processors keep the token that stands for an image in a text.
_PLACE_NAMES = ("image_token", "boi_token")
_TEXT_ONLY = ("input_ids", "attention_mask")

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Expanded:
    """A token row, the text that it was made of and, for each of its images, where its tokens stand: [start, end)."""

    row: Encoded
    text: str
    runs: tuple[Span, ...]


class Expander:
    """Makes token rows and model inputs of texts with images, by the model's own processor."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        self.tokenizer: PreTrainedTokenizerBase = processor.tokenizer
        eos_id(self.tokenizer)
        self._ends = end_ids(self.tokenizer)
        self._made: dict[tuple[Any, ...], list[list[int]]] = {}
        self._single: dict[tuple[int, int], int] = {}
        if not self.tokenizer.is_fast:
            raise DataError(
                "The tokenizer of this processor does not say where its tokens stand in the text, so the answer cannot be told from the prompt.",
                found=type(self.tokenizer).__name__,
                expected="a fast tokenizer (with a tokenizer.json)",
                fix="use a model that has a tokenizer.json",
            )

    def __call__(self, chat: RenderedChat, pictures: Sequence[Picture], *, where: str) -> Expanded:
        """Return the row of a rendered conversation.

        Args:
            chat: its text, with one place for each image, and what of it is trained on.
            pictures: the images, in the order of their places.
            where: place of the row, for messages.

        Image tokens are never trained on. EOS is added, trained, where the text ends with an answer that has no mark of its end. Which tokens
        images get depends on their sizes alone, so the processor is asked once for images of the same sizes; `inputs` is what training sees.

        Raises:
            DataError: an image cannot be read, the text has not one place for each image, or the processor changes the text between them.
        """
        text, trained = chat.text, list(chat.trained)
        out = tokenize(self.tokenizer, [text])
        plain: list[int] = out["input_ids"][0]
        if trained and trained[-1][1] == len(text) and not ended(self.tokenizer, plain, self._ends):
            text += str(self.tokenizer.eos_token)
            trained = [*trained[:-1], (trained[-1][0], len(text))]
            out = tokenize(self.tokenizer, [text])
            plain = out["input_ids"][0]
        mark = self._mark(plain, len(pictures), text=text, where=where)
        images = [picture.open() for picture in pictures]
        whole, at, runs = self._laid(text, plain, mark, images, where)
        ids = np.array(whole, dtype=np.int32)
        labels = np.full(len(ids), IGNORED, dtype=np.int32)
        prompt = len(ids)
        for (start, end), target in reversed(list(zip(out.encodings[0].offsets, at, strict=True))):
            if target is not None and any(start < last and end > first for first, last in trained):
                labels[target] = ids[target]
            prompt = target if target is not None and end > chat.answer else prompt
        return Expanded(Encoded(ids, labels, prompt), text, self._parted(runs, mark, images, where))

    def _laid(
        self, text: str, plain: list[int], mark: str | None, images: Sequence[Image], where: str
    ) -> tuple[list[int], list[int | None], list[tuple[Span, int]]]:
        """Return the tokens of the row, where those of the text stand in it, and the runs of image tokens with their numbers of images."""
        place: Any = self.tokenizer.convert_tokens_to_ids(mark) if mark is not None else None
        texts, counts = _cut(plain, place)
        key = (tuple(image.size for image in images), tuple(counts))
        known = self._made.get(key)
        whole: list[int] = self.inputs(text, images, where=where)["input_ids"][0].tolist() if known is None else _joined(texts, known)
        laid = lay(plain, whole, place)
        if laid is None:
            raise self._changed(plain, whole, where)
        tokens = [whole[start:end] for (start, end), _ in laid[1]]
        # Tokens of plain text at a border may melt into the text beside them, and then depend on it.
        if all(run[0] in self._ends and run[-1] in self._ends for run in tokens):
            self._made[key] = tokens
        return whole, *laid

    def inputs(self, text: str, images: Sequence[Image], *, where: str) -> dict[str, Any]:
        """Return what the processor makes of one row: tensors with a leading dimension of 1, or of the number of images or patches."""
        given = {"images": [list(images)]} if images else {}
        try:
            return dict(self.processor(text=[text], **given, add_special_tokens=False, return_tensors="pt"))
        except (ValueError, TypeError, KeyError, IndexError, RuntimeError) as error:
            raise DataError(
                f"The processor of the model cannot read a row ({where}).",
                found=f"{type(self.processor).__name__}: {type(error).__name__}: {str(error)[:200]}",
                expected=f"a text with {len(images)} images that this processor takes",
                fix="look at that row: very small or very long images, or a text that holds the processor's own image token",
            ) from error

    def _mark(self, plain: list[int], count: int, *, text: str, where: str) -> str | None:
        """Return the token that stands for an image in the rendered text; None for a text without images."""
        names = [getattr(owner, name, None) for owner in (self.processor, self.tokenizer) for name in _PLACE_NAMES]
        known = dict.fromkeys(str(name) for name in names if name is not None)
        found = {token: plain.count(self.tokenizer.convert_tokens_to_ids(token)) for token in known}  # type: ignore[arg-type]  # as above
        if not count and not any(found.values()):
            return None
        fitting = [token for token, many in found.items() if many == count]
        if count and fitting:
            return fitting[0]
        raise DataError(
            f"The rendered text has not one place for each image ({where}).",
            found=", ".join(f"{many} times {token}" for token, many in found.items()) + f" for {count} images in {text[:80]!r}",
            expected="one place for each image",
            fix="use the chat template of the model's processor, and write no image token into the text itself",
        )

    def _parted(self, runs: list[tuple[Span, int]], mark: str | None, images: Sequence[Image], where: str) -> tuple[Span, ...]:
        """Part the runs of images that follow each other without text: each image alone says how many tokens are its own."""
        found: list[Span] = []
        for (start, end), count in runs:
            sizes = [end - start]
            if count > 1:
                alone = [self._alone(str(mark), one, where) for one in images[len(found) : len(found) + count]]
                # An image that is cut into fewer tiles in company cannot be told from its neighbours: the first one then stands for all.
                sizes = alone if sum(alone) == end - start else [end - start] + [0] * (count - 1)
            for size in sizes:
                found.append((start, start + size))
                start += size
        return tuple(found)

    def _alone(self, mark: str, image: Image, where: str) -> int:
        if image.size not in self._single:
            self._single[image.size] = len(self.inputs(mark, [image], where=where)["input_ids"][0])
        return self._single[image.size]

    def _changed(self, plain: list[int], whole: list[int], where: str) -> DataError:
        at = next((at for at, (one, other) in enumerate(zip(plain, whole, strict=False)) if one != other), min(len(plain), len(whole)))
        near = slice(max(at - 4, 0), at + 8)
        return DataError(
            f"The processor changes the text around an image, so the tokens that are trained on cannot be found ({where}).",
            found=f"{self.tokenizer.decode(whole[near])!r} where the text has {self.tokenizer.decode(plain[near])!r}",
            expected="a row that differs from the tokens of the text at the places of images only",
            fix="put the image at the beginning or the end of its message, or use another chat template (`dataset.chat_template: FILE`)",
        )


def lay(plain: list[int], whole: list[int], place: int | None) -> tuple[list[int | None], list[tuple[Span, int]]] | None:
    """Lay the tokens of a text over the row that a processor made of it.

    Args:
        plain: tokens of the text, with the token `place` where an image belongs.
        whole: tokens of the row: the same, with one or more tokens in each place.

    Returns:
        For each token of the text its position in the row (None for a place), and for each run of places without text between them the
        positions [start, end) that it fills, with the number of its images; None where text and row differ elsewhere, too.
    """
    texts, counts = _cut(plain, place)
    if whole[: len(texts[0])] != texts[0] or (len(texts) == 1 and whole != plain):
        return None
    limit = len(whole) - len(texts[-1])
    start = len(texts[0])
    at: list[int | None] = list(range(start))
    runs: list[tuple[Span, int]] = []
    for number, count in enumerate(counts):
        last = number == len(counts) - 1
        after = texts[number + 1]
        end = limit if last else _find(whole, after, start + count, limit)
        if end is None or end < start + count or whole[end : end + len(after)] != after:
            return None
        runs.append(((start, end), count))
        at += [None] * count + list(range(end, end + len(after)))
        start = end + len(after)
    return at, runs


def _cut(plain: list[int], place: int | None) -> tuple[list[list[int]], list[int]]:
    """Return the stretches of text around the runs of places, and how many places each run has; the first and last stretch may be empty."""
    texts: list[list[int]] = [[]]
    counts: list[int] = []
    for token in plain:
        if token != place:
            texts[-1].append(token)
        elif counts and not texts[-1] and len(texts) > 1:
            counts[-1] += 1
        else:
            counts.append(1)
            texts.append([])
    return texts, counts


def _joined(texts: list[list[int]], runs: list[list[int]]) -> list[int]:
    return texts[0] + [token for run, text in zip(runs, texts[1:], strict=True) for token in (*run, *text)]


def _find(whole: list[int], part: list[int], start: int, limit: int) -> int | None:
    return next((at for at in range(start, limit - len(part) + 1) if whole[at : at + len(part)] == part), None)


def extra_inputs(made: dict[str, Any], length: int) -> dict[str, Any]:
    """Return what a model wants beside tokens: values for each token as int64 arrays [length], pixels and their sizes as tensors."""
    extras: dict[str, Any] = {}
    for name, value in made.items():
        if name in _TEXT_ONLY:
            continue
        aligned = value.ndim == 2 and tuple(value.shape) == (1, length) and not value.is_floating_point()
        extras[name] = value[0].numpy() if aligned else value
    return extras
