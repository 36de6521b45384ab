"""Rows of images and text: conversations whose messages hold images, or columns of which one holds images.

Ids, labels and lengths are worked out once, by the model's own processor. Pixels are made anew whenever a row is asked for: a thousand rows
of text are some megabytes, their pixels gigabytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from automodel.data.chat import make_renderer
from automodel.data.conversations import Chat, Message, parts, read_chat, text_of
from automodel.data.dataset import Builder, Ints, Shown, TokenizedDataset
from automodel.data.expand import Expander, Span, extra_inputs
from automodel.data.formatting import user_text
from automodel.data.images import Picture, read_picture, read_pictures, thumbnail
from automodel.data.lengths import row_length
from automodel.data.rows import column_reader, missing_column, read_records
from automodel.data.tables import Record
from automodel.errors import DataError
from automodel.recipe.schema import DatasetSection

COLUMNS = ("images", "image")
_MARK = re.compile(r"(<image>)\n?")
_PICTURE_PARTS = ("image", "image_url", "input_image")
_PICTURE_KEYS = ("image", "image_url", "path", "url", "file", "bytes")
# Small pictures that are made for one row: enough to see what it is about.
_SHOWN = 4


@dataclass(frozen=True, slots=True)
class _Seen:
    """What is kept of a row: its rendered text, its images that are not opened, and where their tokens stand."""

    text: str
    pictures: tuple[Picture, ...]
    runs: tuple[Span, ...]
    where: str


class Pictures:
    """The images of the rows of a set."""

    def __init__(self, expander: Expander, rows: Sequence[_Seen]) -> None:
        self._expander, self._rows = expander, rows
        seen = [(len(row.pictures), len(row.text), number) for number, row in enumerate(rows) if row.pictures]
        self.example = min(seen)[2] if seen else None

    def inputs(self, index: int, ids: Ints) -> dict[str, Any]:
        """Return pixels and all else that the model wants beside the tokens of a row.

        Raises:
            DataError: an image is gone, or is not the one that the tokens were made for.
        """
        row = self._rows[index]
        made = self._expander.inputs(row.text, [picture.open() for picture in row.pictures], where=row.where)
        if made["input_ids"][0].tolist() != ids.tolist():
            raise DataError(
                f"An image was changed since the rows were read ({row.where}).",
                found=f"{made['input_ids'].shape[1]} tokens",
                expected=f"{len(ids)} tokens, as when the job began",
                fix="start the job again, and leave the images alone while it runs",
            )
        return extra_inputs(made, len(ids))

    def shown(self, index: int) -> list[Shown]:
        """Return the images of a row; the first ones with a small picture."""
        row = self._rows[index]
        found = []
        for number, (picture, run) in enumerate(zip(row.pictures, row.runs, strict=True)):
            image = picture.open()
            width, height = image.size
            source = thumbnail(image) if number < _SHOWN else None
            found.append(Shown(name=picture.name, width=width, height=height, tokens=run, source=source))
        return found


def build_image_text(section: DatasetSection, processor: Any, *, role: str, keep_text: bool) -> TokenizedDataset:
    """Read, render and expand rows of images and text; a row that is too long is left out, because half an image cannot be read."""
    renderer, expand = make_renderer(section, processor), Expander(processor)
    builder = Builder(limit=section.seq_length, keep_text=keep_text, template="chat", cuts=False)
    rows: list[_Seen] = []

    def take(chat: Chat, pictures: list[Picture]) -> None:
        rendered = renderer.render(chat)
        made = expand(rendered, pictures, where=chat.where)
        builder.rewritten += bool(rendered.rewritten)
        last = text_of(chat.messages[chat.turns[-1]]).strip() if chat.turns else ""
        if builder.add(made.row, prompt=rendered.text[: rendered.answer], answers=(last,)):
            rows.append(_Seen(made.text, tuple(pictures), made.runs, chat.where))

    _each(section, builder, take)
    return builder.finish(role=role, row_length=row_length(section), media=Pictures(expand, rows))


def check_image_text(section: DatasetSection, *, role: str) -> int:
    """Read every row without a processor, look whether its images are there, and return how many rows can be used."""
    builder = Builder(limit=None, keep_text=False, template="none", cuts=False)
    usable = 0

    def look(_chat: Chat, pictures: list[Picture]) -> None:
        nonlocal usable
        for picture in pictures:
            picture.check()
        usable += 1

    _each(section, builder, look)
    if not usable:
        builder.finish(role=role)
    return usable


def _each(section: DatasetSection, builder: Builder, take: Callable[[Chat, list[Picture]], None]) -> None:
    """Give each conversation that holds an answer to `take`, with its images; rows that cannot be read are left out and counted, if asked."""
    read = _column_chats(section) if section.name == "column_mapped" else _chats(section)
    for where, record in read_records(section):
        builder.rows_read += 1
        try:
            chat, pictures = read(where, record)
            if chat.turns or not section.answer_only_loss_mask:
                take(chat, pictures)
            else:
                builder.no_answer += 1
        except DataError as error:
            if not section.skip_invalid_samples:
                raise
            builder.skip(error)


Reader = Callable[[str, Record], tuple[Chat, list[Picture]]]


def _chats(section: DatasetSection) -> Reader:
    def read(where: str, record: Record) -> tuple[Chat, list[Picture]]:
        beside = [picture for column in COLUMNS for picture in read_pictures(record.get(column), where=where)]
        return place_pictures(read_chat(where, record, system=section.system_prompt), beside)

    return read


def _column_chats(section: DatasetSection) -> Reader:
    mapping = dict(section.column_mapping or {})
    read_row, write, column = column_reader(mapping, more=("image",)), user_text(section), mapping.get("image")

    def read(where: str, record: Record) -> tuple[Chat, list[Picture]]:
        row = read_row(where, record)
        if column is not None and column not in record:
            raise missing_column(where, column, record, role="image")
        pictures = read_pictures(record[column], where=where) if column is not None else []
        head = [{"role": "system", "content": section.system_prompt}] if section.system_prompt else []
        asked: list[dict[str, Any]] = [*({"type": "image"} for _ in pictures), {"type": "text", "text": write(row)}]
        answer = row.answers[0].strip() if row.answers else ""
        messages: tuple[Message, ...] = (*head, {"role": "user", "content": asked}, {"role": "assistant", "content": answer})
        return Chat(tuple(_in_parts(message) for message in messages), (), where), pictures

    return read


def place_pictures(chat: Chat, beside: Sequence[Picture]) -> tuple[Chat, list[Picture]]:
    """Return the conversation with a bare part for each image, and the images in the order of their parts.

    An image stands in its part, or the part (also the word <image> in a text) takes the next one of the column beside. Without any part,
    the images of the column come in front of the first message of the user.

    Raises:
        DataError: there are more places than images, or fewer.
    """
    waiting, found = list(beside), []
    messages = [_in_parts(message, marks=bool(beside)) for message in chat.messages]
    if beside and not any(part["type"] in _PICTURE_PARTS for message in messages for part in message["content"]):
        first = next((at for at, message in enumerate(messages) if message["role"] == "user"), 0)
        messages[first] = {**messages[first], "content": [*({"type": "image"} for _ in beside), *messages[first]["content"]]}
    for at, message in enumerate(messages):
        content = []
        for part in message["content"]:
            if part["type"] in _PICTURE_PARTS:
                own = _own(part, chat.where)
                if own is None and not waiting:
                    raise _uneven(chat.where, "more places for images than images", len(beside))
                found.append(waiting.pop(0) if own is None else own)
                content.append({"type": "image"})
            elif part["type"] == "text":
                content.append(part)
            else:
                raise DataError(
                    f"A message holds something that is neither text nor image ({chat.where}, message {at + 1}).",
                    found=f"a part of the type {part['type']}",
                    expected="parts of the types text and image",
                    fix="leave out that row, or that part",
                )
        messages[at] = {**message, "content": content}
    if waiting:
        raise _uneven(chat.where, "more images than places for them", len(beside))
    return replace(chat, messages=tuple(messages)), found


def _own(part: dict[str, Any], where: str) -> Picture | None:
    value = next((part[key] for key in _PICTURE_KEYS if part.get(key) is not None), None)
    return None if value is None else read_picture(value, where=where)


def _in_parts(message: Message, *, marks: bool = False) -> Message:
    """Return a message whose content is a list: templates of image-text models may leave out, without a word, a content that is a text.

    With `marks`, the word <image> in a text is the place of an image, as in the data sets of LLaVA.
    """
    content = list(_unmarked(parts(message["content"]))) if marks else parts(message["content"])
    return {**message, "content": content}


def _unmarked(content: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for part in content:
        if part["type"] != "text":
            yield part
            continue
        for piece in _MARK.split(part["text"]):
            if piece == "<image>":
                yield {"type": "image"}
            elif piece:
                yield {"type": "text", "text": piece}


def _uneven(where: str, what: str, count: int) -> DataError:
    return DataError(
        f"A row has {what} ({where}).",
        found=f"{count} images in the column beside the messages",
        expected='one {"type": "image"} part, or one <image> in a text, for each image',
        fix="correct or leave out that row",
    )
