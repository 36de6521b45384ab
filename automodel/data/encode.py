"""Encoding: from texts to token rows with labels that come from positions, never from comparing token ids.

The whole text is tokenised at once, so what is trained on is exactly what the tokenizer makes of that text; the token that straddles the
border between prompt and answer belongs to the answer.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from automodel.data.formatting import Rendered
from automodel.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100


@dataclass(frozen=True, slots=True)
class Encoded:
    """One token row: `labels` are aligned with `ids` (HF style), -100 where not trained; the prompt is `ids[:prompt]`."""

    ids: NDArray[np.int32]
    labels: NDArray[np.int32]
    prompt: int
    truncated: bool = False


@dataclass(slots=True)
class Spans:
    """Token places in a row: fixed head, then the prompt with its context, the answer from `answer` to `end`, then an untrained tail."""

    ids: list[int]
    head: int
    context: tuple[int, int]
    answer: int
    end: int


class Encoder:
    """Tokenises rendered examples of one tokenizer.

    Args:
        tokenizer: a Hugging Face tokenizer; fast ones give exact borders, slow ones borders by common prefix.
        chat: the texts come from a chat template, which writes all special tokens itself.
        seq_length: longest row in tokens, or None.
        truncate: cut rows that are longer (from the left of the context); otherwise they are returned whole.
        answer_only: give labels to the answer and its end-of-turn token only.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, chat: bool, seq_length: int | None, truncate: bool, answer_only: bool) -> None:
        self._tokenizer, self._chat = tokenizer, chat
        self._limit = seq_length if truncate else None
        self._answer_only = answer_only
        self._eos = eos_id(tokenizer)
        self._prefix = [] if chat else added_prefix(tokenizer)
        self._ends = end_ids(tokenizer) if chat else frozenset({self._eos})

    def __call__(self, batch: Sequence[Rendered]) -> list[Encoded]:
        """Encode a batch of rendered examples, in order."""
        out = tokenize(self._tokenizer, [item.text for item in batch])
        rows: list[list[int]] = out["input_ids"]
        if self._tokenizer.is_fast:
            spans = [self._by_offsets(ids, encoding, item) for ids, encoding, item in zip(rows, out.encodings, batch, strict=True)]
        else:
            prompts: list[list[int]] = tokenize(self._tokenizer, [item.text[: item.prompt_end] for item in batch])["input_ids"]
            spans = [self._by_prefix(ids, prompt) for ids, prompt in zip(rows, prompts, strict=True)]
        return [self._finish(span) for span in spans]

    def _by_offsets(self, ids: list[int], encoding: Any, item: Rendered) -> Spans:
        ends = [end for _, end in encoding.offsets]
        answer = bisect_right(ends, item.prompt_end)
        tail = bisect_right(ends, item.answer_end)
        context = (0, 0)
        if self._limit is not None and len(ids) + len(self._prefix) + 1 > self._limit:
            context = (bisect_right(ends, item.context[0]), bisect_right(ends, item.context[1]))
        return self._close(ids, context, answer, tail)

    def _by_prefix(self, ids: list[int], prompt: list[int]) -> Spans:
        answer = 0
        while answer < min(len(ids), len(prompt)) and ids[answer] == prompt[answer]:
            answer += 1
        return self._close(ids, (0, 0), answer, answer)

    def _close(self, ids: list[int], context: tuple[int, int], answer: int, tail: int) -> Spans:
        """Find the end-of-turn token behind the answer, or append EOS where the text has none; put BOS in front where the tokenizer does."""
        end = len(ids) + 1
        if self._chat:
            end = next((at + 1 for at in range(tail, len(ids)) if ids[at] in self._ends), end)
        if end > len(ids):
            ids = [*ids, self._eos]
        if self._chat:
            return Spans(ids, int(bool(ids) and ids[0] == self._tokenizer.bos_token_id), context, answer, end)
        head = len(self._prefix)
        return Spans([*self._prefix, *ids], head, (context[0] + head, context[1] + head), answer + head, end + head)

    def _finish(self, span: Spans) -> Encoded:
        size = len(span.ids)
        cut = self._limit is not None and size > self._limit
        if cut:
            assert self._limit is not None
            span = shorten(span, self._limit)
        ids = np.array(span.ids, dtype=np.int32)
        if not self._answer_only:
            return Encoded(ids, ids.copy(), span.answer, cut)
        labels = np.full(len(ids), IGNORED, dtype=np.int32)
        labels[span.answer : span.end] = ids[span.answer : span.end]
        return Encoded(ids, labels, span.answer, cut)


def shorten(span: Spans, limit: int) -> Spans:
    """Cut a row to `limit` tokens: first the tail, then the context from its left, then the rest of the prompt from its left.

    The answer is cut (from its right) only when it alone does not fit; then at most half of the row stays prompt.
    """
    ids = span.ids[: span.end]
    first, last = max(span.context[0], span.head), max(span.context[1], span.head)
    gone = min(max(len(ids) - limit, 0), last - first)
    prompt = ids[span.head : first] + ids[first + gone : span.answer]
    head, answer = ids[: span.head], ids[span.answer :]
    room = limit - len(head) - len(answer)
    if room < 0:
        room = min(limit // 2, max(limit - len(head), 0))
    prompt = prompt[len(prompt) - min(room, len(prompt)) :]
    answer = answer[: max(limit - len(head) - len(prompt), 0)]
    start = len(head) + len(prompt)
    row = (head + prompt + answer)[:limit]
    return Spans(row, span.head, (0, 0), min(start, len(row)), len(row))


def tokenize(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> Any:
    """Tokenise texts as they are: no special tokens added, nothing cut, no warning about the model's length."""
    return tokenizer(
        texts, add_special_tokens=False, padding=False, truncation=False, return_attention_mask=False, return_token_type_ids=False, verbose=False
    )


def eos_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the id of the end-of-text token; raises DataError when the tokenizer has none."""
    found = tokenizer.eos_token_id
    if not isinstance(found, int):
        raise DataError(
            "The tokenizer has no EOS token, so the model could not learn where an answer ends.",
            found=f"eos_token = {tokenizer.eos_token!r}",
            expected="a tokenizer of a generating model",
            fix="use the tokenizer of a causal language model, or add an eos_token to its tokenizer_config.json",
        )
    return found


def added_prefix(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the tokens that the tokenizer puts in front of a text by itself (usually BOS or nothing)."""
    bare: list[int] = tokenizer("x", add_special_tokens=False)["input_ids"]
    full: list[int] = tokenizer("x")["input_ids"]
    for start in range(len(full) - len(bare) + 1):
        if full[start : start + len(bare)] == bare:
            return full[:start]
    return []


def end_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return the tokens that can end a turn: every special or added token, except for the runs of spaces that some tokenizers add."""
    added = {number for number, token in tokenizer.added_tokens_decoder.items() if str(token).strip()}
    return frozenset(added) | frozenset(tokenizer.all_special_ids)


def ended(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], ends: frozenset[int]) -> bool:
    """Say whether the last token that is no white space is one that can end a turn."""
    return next((number in ends for number in reversed(ids) if number in ends or str(tokenizer.decode([number])).strip()), False)
