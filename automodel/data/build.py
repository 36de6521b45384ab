"""Building: from a dataset section to token rows, one function for each kind of data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from automodel.data.chat import build_chat, chats
from automodel.data.custom import build_custom
from automodel.data.dataset import Builder, TokenizedDataset
from automodel.data.encode import Encoder
from automodel.data.formatting import make_formatter
from automodel.data.lengths import row_length, truncates
from automodel.data.mock import build_mock
from automodel.data.rows import Row, column_reader, read_records, squad_row
from automodel.data.text import build_text, text_of
from automodel.data.vision import build_image_text, check_image_text
from automodel.errors import DataError, NotBuiltError
from automodel.recipe.built import BUILT_DATASETS, IMAGE_DATASETS
from automodel.recipe.schema import DatasetSection

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Rows tokenised in one call: enough to keep the tokenizer's threads busy, few enough to stay small in memory.
_BATCH = 1000


def build_dataset(
    section: DatasetSection, tokenizer: PreTrainedTokenizerBase, *, role: str = "training", keep_text: bool = False, processor: Any = None
) -> TokenizedDataset:
    """Read, format and tokenise the rows of a dataset section.

    Args:
        section: the `dataset` or `validation_dataset` section of a recipe.
        tokenizer: the tokenizer of the model.
        role: what the data are for; only for messages.
        keep_text: keep prompts and answers as text, for samples and previews.
        processor: of a model for images and text: then rows may hold images.

    Raises:
        DataError: the data cannot be read, or hold nothing to train on.
    """
    section = _checked(section, images=processor is not None)
    if processor is not None:
        data = build_image_text(section, processor, role=role, keep_text=keep_text)
    elif section.target:
        data = build_custom(section, tokenizer, role=role, keep_text=keep_text)
    elif section.name == "mock":
        data = build_mock(section, tokenizer, role=role)
    elif section.name == "text":
        data = build_text(section, tokenizer, role=role, keep_text=keep_text)
    elif section.name == "chat":
        data = build_chat(section, tokenizer, role=role, keep_text=keep_text)
    else:
        data = _build_questions(section, tokenizer, role=role, keep_text=keep_text)
    return data


def check_dataset(section: DatasetSection, *, role: str = "training", images: bool = False) -> int:
    """Read every row of local data without tokenising, and return how many can be used; raises DataError as `build_dataset` would.

    With `images`, rows may hold images, whose files must be there.
    """
    section = _checked(section, images=images)
    if images:
        return check_image_text(section, role=role)
    if section.target or section.name == "mock":
        return 0
    if section.name == "text":
        return sum(bool(text_of(section, where, record)) for where, record in read_records(section))
    builder = Builder(limit=None, keep_text=False, template="none")
    usable = sum(1 for _ in (chats if section.name == "chat" else _questions)(section, builder))
    if not usable:
        builder.finish(role=role)
    return usable


def _checked(section: DatasetSection, *, images: bool) -> DatasetSection:
    if images and (section.target or section.name not in IMAGE_DATASETS):
        raise NotBuiltError(
            "Data of this kind hold no images.",
            found=f"_target_: {section.target}" if section.target else f"name: {section.name}",
            expected=" or ".join(IMAGE_DATASETS),
            fix="use `name: chat` with image parts in the messages, or `name: column_mapped` with an image column",
        )
    if not section.target and section.name not in BUILT_DATASETS:
        raise NotBuiltError(
            f"Data of the kind '{section.name}' are not built yet.",
            found=f"name: {section.name}",
            expected=f"{', '.join(BUILT_DATASETS)}, or an own _target_",
            fix="bring the rows into question-and-answer form and use `name: column_mapped`",
        )
    if section.padding == "max_length" and section.seq_length is None:
        raise DataError(
            "padding: max_length needs a length.", found="seq_length is absent", expected="seq_length", fix="set `seq_length` in the dataset section"
        )
    return section


def _questions(section: DatasetSection, builder: Builder) -> Iterator[Row]:
    read: Callable[..., Row] = squad_row if section.name == "squad" and not section.column_mapping else column_reader(section.column_mapping)
    for where, record in read_records(section):
        builder.rows_read += 1
        row = read(where, record)
        if row.answers:
            yield row
        else:
            builder.no_answer += 1


def _build_questions(section: DatasetSection, tokenizer: PreTrainedTokenizerBase, *, role: str, keep_text: bool) -> TokenizedDataset:
    render, chat = make_formatter(section, tokenizer)
    encode = Encoder(tokenizer, chat=chat, seq_length=section.seq_length, truncate=truncates(section), answer_only=section.answer_only_loss_mask)
    builder = Builder(limit=section.seq_length, keep_text=keep_text, template="chat" if chat else "plain")
    rows = _questions(section, builder)
    while batch := list(islice(rows, _BATCH)):
        rendered = [render(row) for row in batch]
        for row, text, encoded in zip(batch, rendered, encode(rendered), strict=True):
            builder.add(encoded, prompt=text.text[: text.prompt_end], answers=row.answers)
    return builder.finish(role=role, row_length=row_length(section))
