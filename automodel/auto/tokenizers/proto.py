"""Reading a SentencePiece file without its library: pieces, and the settings that change ids.

The file is a protocol buffer, a list of (field number, value) at each level; the numbers are those of `sentencepiece_model.proto`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum


class Kind(IntEnum):
    """What a piece is; only normal pieces take part in merges."""

    normal = 1
    unknown = 2
    control = 3
    user_defined = 4
    unused = 5
    byte = 6


@dataclass(frozen=True)
class Piece:
    """One entry of the vocabulary; its id is its place in the list."""

    text: str
    score: float = 0.0
    kind: Kind = Kind.normal


@dataclass(frozen=True, kw_only=True)
class SentencePiece:
    """A SentencePiece model as data; the defaults are those of the file format."""

    pieces: tuple[Piece, ...]
    model: str = "unigram"
    byte_fallback: bool = False
    suffix: bool = False
    unk: int = 0
    bos: int = 1
    eos: int = 2
    charsmap: bytes = b""
    dummy_prefix: bool = True
    remove_extra_spaces: bool = True
    escape_spaces: bool = True

    def name(self, index: int) -> str | None:
        """Return the text of a piece, or None for an id that is switched off (-1) or beyond the vocabulary."""
        return self.pieces[index].text if 0 <= index < len(self.pieces) else None


MODELS = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}


def read_sentencepiece(data: bytes) -> SentencePiece:
    """Return the model in the bytes of a `tokenizer.model`; ValueError says what is wrong with them."""
    pieces: list[Piece] = []
    trainer: dict[int, int | bytes] = {}
    normalizer: dict[int, int | bytes] = {}
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            pieces.append(_piece(value))
        elif number == 2 and isinstance(value, bytes):
            trainer = dict(_fields(value))
        elif number == 3 and isinstance(value, bytes):
            normalizer = dict(_fields(value))
    if not pieces:
        raise ValueError("no pieces in the file")
    charsmap = normalizer.get(2, b"")
    return SentencePiece(
        pieces=tuple(pieces),
        model=MODELS.get(_number(trainer, 3, 1), "unknown"),
        byte_fallback=bool(_number(trainer, 35, 0)),
        suffix=bool(_number(trainer, 24, 0)),
        unk=_number(trainer, 40, 0),
        bos=_number(trainer, 41, 1),
        eos=_number(trainer, 42, 2),
        charsmap=charsmap if isinstance(charsmap, bytes) else b"",
        dummy_prefix=bool(_number(normalizer, 3, 1)),
        remove_extra_spaces=bool(_number(normalizer, 4, 1)),
        escape_spaces=bool(_number(normalizer, 5, 1)),
    )


def _piece(data: bytes) -> Piece:
    found = dict(_fields(data))
    text, score = found.get(1, b""), found.get(2, b"\0\0\0\0")
    if not isinstance(text, bytes) or not isinstance(score, bytes):
        raise ValueError("a piece of another form")
    return Piece(text.decode("utf-8"), struct.unpack("<f", score)[0], Kind(_number(found, 3, 1)))


def _number(found: dict[int, int | bytes], number: int, default: int) -> int:
    value = found.get(number, default)
    if not isinstance(value, int):
        raise ValueError(f"field {number} is not a number")
    # A negative id (-1, "none") is written as an unsigned number of 64 bits.
    return value - (1 << 64) if value >= 1 << 63 else value


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, form = key >> 3, key & 7
        if form == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if form == 2:
            size, at = _varint(data, at)
        elif form in (1, 5):
            size = 8 if form == 1 else 4
        else:
            raise ValueError(f"not a SentencePiece file (wire type {form})")
        if at + size > len(data):
            raise ValueError("the file is cut off")
        yield number, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise ValueError("the file is cut off")
