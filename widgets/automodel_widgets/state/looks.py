"""Looks at data and tokenizers that run in the helper process; what a look has read is kept for the next page of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

# The last preview, by the recipe that it shows: paging through its rows must not read and tokenise the whole set again.
_kept: dict[str, Any] = {}
CONVERSATION = (
    {"role": "user", "content": "What lives in the sandy caves?"},
    {"role": "assistant", "content": "A badger."},
)
SENTENCE = "What lives in the sandy caves? A badger."


def preview(recipe: Mapping[str, Any], *, fresh: bool = True, rows: list[int] | None = None, of: str = "training", n: int = 3) -> dict[str, Any]:
    """Return a preview as plain data; unless `fresh`, rows come from what was read for the same recipe."""
    import automodel

    key = json.dumps(recipe, sort_keys=True, default=str)
    if fresh or key not in _kept:
        _kept.clear()
        _kept[key] = automodel.preview(recipe, n=1)
    found = _kept[key].at(range(n) if rows is None else rows, of=of)
    return dict(found.as_dict())


def tokenizer(place: str) -> dict[str, Any]:
    """Return what there is to know of a tokenizer: its size, its special tokens, its chat template and an example of both."""
    import automodel

    made: Any = automodel.NeMoAutoTokenizer.from_pretrained(place)
    template = made.chat_template
    example = made.apply_chat_template(list(CONVERSATION), tokenize=False) if template else SENTENCE
    ids = made(example, add_special_tokens=not template)["input_ids"]
    special = {name: str(token) for name, token in made.special_tokens_map.items() if isinstance(token, str)}
    ends = set(made.all_special_ids)
    return {
        "class_name": type(made).__name__,
        "vocabulary": len(made),
        "special": special,
        "template": template if isinstance(template, str) else None,
        "example": example,
        "tokens": [{"id": int(number), "text": str(made.decode([number])), "special": number in ends} for number in ids],
    }
