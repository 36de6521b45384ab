"""Byte-level vocabularies: tiktoken's table of ranks, and vocab.json with merges.txt."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

from automodel.auto.tokenizers.merges import merges_of

RANK = re.compile(rb"[A-Za-z0-9+/=]+ \d+")
# How cl100k_base cuts text into words; GLM-4 has the same.
CL100K = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def is_ranks(data: bytes) -> bool:
    """Say whether a file is a tiktoken table: lines of base64 and a number."""
    return RANK.fullmatch(data.partition(b"\n")[0].strip()) is not None


def read_ranks(data: bytes) -> dict[bytes, int]:
    """Return token -> rank of a tiktoken file; ValueError names the line that is wrong."""
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        if RANK.fullmatch(line.strip()) is None:
            raise ValueError(f"line {number} is not 'base64 rank'")
        token, rank = line.split()
        try:
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except binascii.Error as error:
            raise ValueError(f"line {number}: {error}") from error
    return ranks


def from_ranks(ranks: Mapping[bytes, int], *, special: Mapping[str, int], pattern: str = CL100K) -> Any:
    """Return a `tokenizers.Tokenizer` with the ids of tiktoken; `special` are further entries of the vocabulary, by text."""
    letters = byte_letters()
    ids = {"".join(letters[byte] for byte in token): rank for token, rank in ranks.items()}
    merges = merges_of(sorted(ids, key=ids.__getitem__), ids)
    return _core({**ids, **special}, merges, pattern=pattern, whole_words=True)


def from_pairs(vocabulary: Mapping[str, int], merges: str, *, pattern: str | None = None) -> Any:
    """Return a `tokenizers.Tokenizer` of vocab.json and the text of merges.txt; without a pattern words are cut as in GPT-2."""
    lines = [line for line in merges.split("\n") if line.strip() and not line.startswith("#version")]
    pairs = [tuple(line.split(" ")) for line in lines]
    wrong = next((line for line, pair in zip(lines, pairs, strict=True) if len(pair) != 2), None)
    if wrong is not None:
        raise ValueError(f"merges.txt: {wrong!r} is not a pair")
    return _core(dict(vocabulary), pairs, pattern=pattern, whole_words=False)


def byte_letters() -> list[str]:
    """Return the letter that stands for each byte: itself where it is printable, else one from 256 on, as in GPT-2."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) if byte in printable else chr(256 + others.index(byte)) for byte in range(256)]


def _core(vocabulary: dict[str, int], merges: Any, *, pattern: str | None, whole_words: bool) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    core: Any = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=whole_words))
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None)
    core.pre_tokenizer = letters
    if pattern is not None:
        core.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), behavior="isolated"), letters])
    core.decoder = decoders.ByteLevel()
    return core
