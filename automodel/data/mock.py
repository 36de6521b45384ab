"""Mock data: random tokens from a seed, for speed tests and dry runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from automodel.data.dataset import DataReport, TokenizedDataset
from automodel.errors import DataError
from automodel.recipe.schema import DatasetSection

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def build_mock(section: DatasetSection, tokenizer: PreTrainedTokenizerBase | None, *, role: str) -> TokenizedDataset:
    """Return `num_samples` rows of `seq_length` random tokens below `vocab_size`, all trained; a function of `seed` only."""
    vocab = section.vocab_size or (len(tokenizer) if tokenizer is not None else None)
    rows, length = section.num_samples, section.seq_length
    if vocab is None or rows is None or length is None or length < 2:
        raise DataError(
            f"The mock {role} data need a size.",
            found=f"num_samples: {rows}, seq_length: {length}, vocab_size: {vocab}",
            expected="num_samples of 1 or more, seq_length of 2 or more, and a vocab_size",
            fix="for instance `num_samples: 1000`, `seq_length: 512`, `vocab_size: 32000`",
        )
    rows = min(rows, section.limit_dataset_samples or rows)
    # Raw bits, because numpy never changes those; the small bias of the remainder does not matter to mock data.
    ids = (np.random.PCG64(section.seed).random_raw(rows * length) % np.uint64(vocab)).astype(np.int32)
    report = DataReport(
        rows_read=rows,
        rows_kept=rows,
        dropped_no_label=0,
        dropped_too_long=0,
        dropped_no_answer=0,
        truncated=0,
        tokens=rows * length,
        supervised_tokens=rows * (length - 1),
        template="none",
    )
    return TokenizedDataset(
        ids, labels=ids, lengths=np.full(rows, length, np.int32), prompt_lengths=np.zeros(rows, np.int32), report=report, row_length=None
    )


def mock_tokenizer(vocabulary: int) -> PreTrainedTokenizerBase:
    """Return a tokenizer for made-up tokens: each is the number that it is, the first ends a text."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<eos>": 0, **{str(number): number for number in range(1, vocabulary)}}
    core = Tokenizer(models.WordLevel(words, unk_token="<eos>"))  # noqa: S106  a token of text, no secret
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    special = dict.fromkeys(("eos_token", "pad_token", "unk_token"), "<eos>")
    made: PreTrainedTokenizerBase = PreTrainedTokenizerFast(tokenizer_object=core, **special)  # type: ignore[no-untyped-call]  # its stub has no types
    return made
