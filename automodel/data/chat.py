"""Conversations as token rows: every answer is trained on, and rows that are too long lose their oldest turns first."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from automodel.data.conversations import INSTRUCTIONS, Chat, read_chat, text_of, text_only
from automodel.data.dataset import Builder, TokenizedDataset
from automodel.data.encode import IGNORED, Encoded, Spans, end_ids, ended, eos_id, shorten, tokenize
from automodel.data.formatting import read_chat_template, span_of
from automodel.data.lengths import row_length, truncates
from automodel.data.rows import read_records
from automodel.data.turns import ChatRenderer, RenderedChat
from automodel.errors import DataError
from automodel.recipe.schema import DatasetSection

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BATCH = 1000


def make_renderer(section: DatasetSection, source: Any) -> ChatRenderer:
    """Return what writes the conversations of a dataset section by the chat template of a tokenizer or processor.

    Raises:
        DataError: there is no chat template, or it cannot be read.
    """
    if section.use_hf_chat_template is False:
        raise DataError(
            "Conversations cannot be written without a chat template.",
            found="use_hf_chat_template: false",
            expected="the tokenizer's chat template, or an own one",
            fix="remove `use_hf_chat_template`; a template of your own is `chat_template: FILE`",
        )
    return ChatRenderer(
        source,
        template=read_chat_template(section.chat_template),
        everything=not section.answer_only_loss_mask,
        mask_history=section.mask_history,
        mask_reasoning=section.mask_reasoning_content,
    )


def chats(section: DatasetSection, builder: Builder) -> Iterator[Chat]:
    """Yield the conversations that hold an answer; the others are counted."""
    return (chat for chat, _ in _rendered(section, builder, None))


def build_chat(section: DatasetSection, tokenizer: PreTrainedTokenizerBase, *, role: str, keep_text: bool) -> TokenizedDataset:
    """Read, write by the chat template and tokenise conversations."""
    renderer = make_renderer(section, tokenizer)
    encode = _ChatEncoder(tokenizer, renderer, limit=section.seq_length if truncates(section) else None)
    builder = Builder(limit=section.seq_length, keep_text=keep_text, template="chat")
    rows = _rendered(section, builder, renderer)
    while batch := list(islice(rows, _BATCH)):
        for (chat, rendered), encoded in zip(batch, encode(batch), strict=True):
            builder.rewritten += bool(rendered.rewritten)
            last = text_of(chat.messages[chat.turns[-1]]).strip() if chat.turns else ""
            builder.add(encoded, prompt=rendered.text[: rendered.answer], answers=(last or rendered.text[rendered.answer :],))
    return builder.finish(role=role, row_length=row_length(section))


def _rendered(section: DatasetSection, builder: Builder, renderer: ChatRenderer | None) -> Iterator[tuple[Chat, RenderedChat]]:
    for where, record in read_records(section):
        builder.rows_read += 1
        try:
            chat = text_only(read_chat(where, record, system=section.system_prompt))
            rendered = renderer.render(chat) if renderer else RenderedChat("", (), 0)
        except DataError as error:
            if not section.skip_invalid_samples:
                raise
            builder.skip(error)
            continue
        if chat.turns or not section.answer_only_loss_mask:
            yield chat, rendered
        else:
            builder.no_answer += 1


class _ChatEncoder:
    """Tokenises rendered conversations, and makes those that are too long fit."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, renderer: ChatRenderer, *, limit: int | None) -> None:
        self._tokenizer, self._renderer, self._limit = tokenizer, renderer, limit
        self._eos, self._ends = eos_id(tokenizer), end_ids(tokenizer)

    def __call__(self, batch: Sequence[tuple[Chat, RenderedChat]]) -> list[Encoded]:
        """Encode conversations, in order."""
        rows = self._encode([rendered for _, rendered in batch])
        return [self._fit(chat) if self._long(row) else row for (chat, _), row in zip(batch, rows, strict=True)]

    def _long(self, row: Encoded) -> bool:
        return self._limit is not None and len(row.ids) > self._limit

    def _encode(self, batch: Sequence[RenderedChat]) -> list[Encoded]:
        out = tokenize(self._tokenizer, [item.text for item in batch])
        found = []
        for number, item in enumerate(batch):
            ids: list[int] = out["input_ids"][number]
            offsets = out.encodings[number].offsets if self._tokenizer.is_fast else None
            mask = np.zeros(len(ids) + 1, dtype=bool)
            for start, end in item.trained:
                mask[self._border(ids, offsets, item.text, start) : self._border(ids, offsets, item.text, end, behind=True)] = True
            found.append(self._close(ids, mask, self._border(ids, offsets, item.text, item.answer)))
        return found

    def _border(self, ids: list[int], offsets: list[tuple[int, int]] | None, text: str, place: int, *, behind: bool = False) -> int:
        """Return the first token that begins an answer at a place of the text, or is behind one that ends there; a token over the border is its."""
        if offsets is None:
            head: list[int] = tokenize(self._tokenizer, [text[:place]])["input_ids"][0]
            return next((at for at, (one, other) in enumerate(zip(ids, head, strict=False)) if one != other), min(len(ids), len(head)))
        if behind:
            return bisect_left(offsets, place, key=lambda token: token[0])
        return bisect_right(offsets, place, key=lambda token: token[1])

    def _close(self, ids: list[int], mask: NDArray[np.bool_], answer: int) -> Encoded:
        """Append EOS, trained, where the row ends with an answer that has no end-of-turn mark."""
        if ids and mask[len(ids) - 1] and not ended(self._tokenizer, ids, self._ends):
            ids = [*ids, self._eos]
            mask[-1] = True
        row = np.array(ids, dtype=np.int32)
        return Encoded(row, np.where(mask[: len(row)], row, np.int32(IGNORED)), answer)

    def _fit(self, chat: Chat) -> Encoded:
        """Leave out the oldest turns behind the system message until the row fits; where the last one is too long itself, it is cut."""
        shorter = list(_shorter(chat))
        made: dict[int, Encoded] = {}

        def fits(number: int) -> bool:
            made[number] = self._encode([self._renderer.render(shorter[number])])[0]
            return not self._long(made[number])

        first = min(bisect_left(range(len(shorter)), True, key=fits), len(shorter) - 1)
        return self._cut(shorter[first], made[first]) if self._long(made[first]) else replace(made[first], truncated=True)

    def _cut(self, chat: Chat, row: Encoded) -> Encoded:
        """Cut one turn as the prompt and answer of a question are cut: first what the user says, from its left."""
        assert self._limit is not None
        text = self._renderer.render(chat).text
        asked = next((text_of(message) for message in reversed(chat.messages) if message["role"] == "user"), "")
        ids, trained = row.ids.tolist(), np.flatnonzero(row.labels != IGNORED)
        whole = len(trained) == len(ids)
        start, end = (row.prompt, len(ids)) if whole or not len(trained) else (int(trained[0]), int(trained[-1]) + 1)
        offsets = tokenize(self._tokenizer, [text]).encodings[0].offsets if self._tokenizer.is_fast else None
        first, last = (min(self._border(ids, offsets, text, place), start) for place in span_of(text, asked.strip()))
        head = int(ids[0] == self._tokenizer.bos_token_id and start > 0)
        cut = shorten(Spans(ids, head, (first, last), start, end), self._limit)
        short = np.array(cut.ids, dtype=np.int32)
        labels = short.copy() if whole else np.full(len(short), IGNORED, dtype=np.int32)
        labels[cut.answer :] = row.labels[start : start + len(short) - cut.answer]
        return Encoded(short, labels, min(row.prompt - start + cut.answer, len(short)), truncated=True)


def _shorter(chat: Chat) -> Iterator[Chat]:
    """Yield a conversation up to its last answer, and then without its oldest turns, one by one."""
    head = next((at for at, message in enumerate(chat.messages) if message["role"] not in INSTRUCTIONS), 0)
    last = chat.turns[-1] if chat.turns else len(chat.messages) - 1
    for start in range(head, last + 1):
        if start == head or chat.messages[start]["role"] == "user":
            yield replace(chat, messages=(*chat.messages[:head], *chat.messages[start : last + 1]))
