"""Plain text for pretraining: documents joined with EOS and cut into blocks of equal length, all tokens trained."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from automodel.data.dataset import Builder, TokenizedDataset
from automodel.data.encode import Encoded, added_prefix, eos_id, tokenize
from automodel.data.lengths import row_length
from automodel.data.rows import missing_column, read_records
from automodel.data.tables import Record
from automodel.errors import DataError
from automodel.recipe.schema import DatasetSection

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BATCH = 1000


def text_of(section: DatasetSection, where: str, record: Record) -> str:
    """Return the document of a row; raises DataError when the text column is missing."""
    text = record.get(section.text_column)
    if not isinstance(text, str):
        if section.text_column in record and text is None:
            return ""
        raise missing_column(where, section.text_column, record)
    return text


def build_text(section: DatasetSection, tokenizer: PreTrainedTokenizerBase, *, role: str, keep_text: bool) -> TokenizedDataset:
    """Build blocks of `seq_length` tokens; the last one may be shorter. Rows of the report are documents read and blocks kept."""
    if section.seq_length is None:
        raise DataError(
            "Plain text needs a block length.",
            found="seq_length is absent",
            expected="the number of tokens of a row",
            fix="set `seq_length: 1024` in the dataset section",
        )
    eos, prefix = eos_id(tokenizer), added_prefix(tokenizer)
    documents = (text_of(section, where, record) for where, record in read_records(section))
    builder = Builder(limit=None, keep_text=keep_text, template="none")
    pieces = []
    while batch := list(islice(documents, _BATCH)):
        builder.rows_read += len(batch)
        full = [text for text in batch if text.strip()]
        builder.no_answer += len(batch) - len(full)
        if full:
            pieces += [np.array([*prefix, *ids, eos], dtype=np.int32) for ids in tokenize(tokenizer, full)["input_ids"]]
    stream = np.concatenate(pieces) if pieces else np.zeros(0, np.int32)
    for start in range(0, len(stream), section.seq_length):
        block = stream[start : start + section.seq_length]
        builder.add(Encoded(block, block, 0), answers=(str(tokenizer.decode(block.tolist())),) if keep_text else ())
    return builder.finish(role=role, row_length=row_length(section))
