"""Answer questions with a causal model, and score the answers the way SQuAD does."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, kw_only=True)
class Score:
    """Exact match and F1 over a set of questions, both in percent."""

    exact_match: float
    f1: float
    questions: int


def normalise(text: str) -> str:
    """Lower the case, drop punctuation and articles, and join words by single blanks."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, answers: Collection[str]) -> float:
    """Return 1 when the prediction equals one of the answers once both are normalised, else 0."""
    return float(any(normalise(prediction) == normalise(answer) for answer in answers))


def f1_score(prediction: str, answers: Collection[str]) -> float:
    """Return the best overlap in words with one of the answers, between 0 and 1."""
    return max((_overlap(normalise(prediction).split(), normalise(answer).split()) for answer in answers), default=0.0)


def _overlap(predicted: list[str], expected: list[str]) -> float:
    if not predicted or not expected:
        return float(predicted == expected)
    common = sum((Counter(predicted) & Counter(expected)).values())
    return 2 * common / (len(predicted) + len(expected))


def score(predictions: Sequence[str], answers: Sequence[Collection[str]]) -> Score:
    """Score one prediction for each question; raises ValueError when the numbers differ or there is no question."""
    if len(predictions) != len(answers) or not answers:
        raise ValueError(f"{len(predictions)} predictions for {len(answers)} questions")
    pairs = list(zip(predictions, answers, strict=True))
    exact = 100 * sum(exact_match(text, accepted) for text, accepted in pairs) / len(pairs)
    return Score(exact_match=exact, f1=100 * sum(f1_score(text, accepted) for text, accepted in pairs) / len(pairs), questions=len(pairs))


def answer_questions(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    *,
    stop_token_ids: Sequence[int],
    batch_size: int = 64,
    max_new_tokens: int = 24,
) -> list[str]:
    """Continue each prompt (token ids) greedily until a stop token, and return the texts in the order of the prompts.

    Prompts of like length share a batch, filled on the left, so that every answer starts at the same column.
    """
    import torch

    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    texts = [""] * len(prompts)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else stop_token_ids[0]
    net: Any = model
    training = net.training
    net.eval()
    with torch.inference_mode():
        for first in range(0, len(order), batch_size):
            rows = order[first : first + batch_size]
            width = len(prompts[rows[-1]])
            ids = torch.full((len(rows), width), pad, dtype=torch.long)
            mask = torch.zeros_like(ids)
            for line, row in enumerate(rows):
                ids[line, width - len(prompts[row]) :] = torch.as_tensor(prompts[row], dtype=torch.long)
                mask[line, width - len(prompts[row]) :] = 1
            out = net.generate(
                input_ids=ids.to(net.device),
                attention_mask=mask.to(net.device),
                max_new_tokens=max_new_tokens,
                do_sample=False,
                eos_token_id=list(stop_token_ids),
                pad_token_id=pad,
            )
            for row, answer in zip(rows, out[:, width:].tolist(), strict=True):
                texts[row] = str(tokenizer.decode(_until(answer, stop_token_ids), skip_special_tokens=True)).strip()
    net.train(training)
    return texts


def _until(ids: list[int], stops: Collection[int]) -> list[int]:
    return next((ids[:end] for end, token in enumerate(ids) if token in stops), ids)
