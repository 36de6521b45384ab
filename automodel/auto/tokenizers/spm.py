"""A SentencePiece file as a fast tokenizer, with the ids of the SentencePiece library."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from automodel.auto.tokenizers.merges import merges_of
from automodel.auto.tokenizers.proto import Kind, SentencePiece

SPACE = "▁"


def from_sentencepiece(source: SentencePiece, *, renamed: Mapping[int, str], first_only: bool = False) -> Any:
    """Return a `tokenizers.Tokenizer` without special tokens and without a post-processor.

    Args:
        source: what the file says.
        renamed: other texts for some ids, and the texts of ids beyond the file.
        first_only: begin only the text with a space, not what follows a special token as well.

    Raises:
        ValueError: a kind of model that the fast library has no twin of.
    """
    from tokenizers import Tokenizer, models

    if source.suffix:
        raise ValueError("spaces at the end of words (treat_whitespace_as_suffix)")
    unknown = renamed.get(source.unk, source.name(source.unk))
    defined = [piece.text for piece in source.pieces if piece.kind == Kind.user_defined]
    if source.model == "bpe":
        # Symbols that the user defined are one word each (see _pieces), which is found whole in the vocabulary.
        model: Any = models.BPE(
            vocab=_vocabulary(source, renamed),
            merges=_merges(source),
            unk_token=unknown,
            fuse_unk=True,
            byte_fallback=source.byte_fallback,
            ignore_merges=bool(defined),
        )
    elif source.model == "unigram":
        named = _vocabulary(source, renamed)
        scores = [piece.score for piece in source.pieces] + [0.0] * len(named)
        texts = [text for text, _ in sorted(named.items(), key=lambda item: item[1])]
        model = models.Unigram([(text, scores[index]) for index, text in enumerate(texts)], source.unk, source.byte_fallback)
    else:
        raise ValueError(f"a {source.model} model")
    core: Any = Tokenizer(model)
    core.normalizer = _normalizer(source, prefix=source.dummy_prefix and not first_only)
    core.pre_tokenizer = _pieces(defined, first=source.dummy_prefix and first_only)
    core.decoder = _decoder(source)
    return core


def _vocabulary(source: SentencePiece, renamed: Mapping[int, str]) -> dict[str, int]:
    texts = {index: piece.text for index, piece in enumerate(source.pieces)} | dict(renamed)
    vocabulary: dict[str, int] = {}
    for index in sorted(texts):
        # A name that stands twice keeps its later id, as a special token that has the text of a piece does in the library's own classes.
        vocabulary[texts[index]] = index
    return vocabulary


def _merges(source: SentencePiece) -> list[tuple[str, str]]:
    normal = {piece.text: index for index, piece in enumerate(source.pieces) if piece.kind == Kind.normal}
    ranked = sorted(normal, key=lambda text: (-source.pieces[normal[text]].score, normal[text]))
    return merges_of(ranked, normal)


def _normalizer(source: SentencePiece, *, prefix: bool) -> Any:
    from tokenizers import Regex, normalizers

    steps: list[Any] = []
    if source.charsmap:
        steps.append(normalizers.Precompiled(source.charsmap))
    if source.remove_extra_spaces:
        # Only the space itself counts; Strip of the library would take newlines too.
        steps += [normalizers.Replace(Regex(r"\A +| +\z"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    space = SPACE if source.escape_spaces else " "
    if prefix:
        steps.append(normalizers.Prepend(space))
    if source.escape_spaces:
        steps.append(normalizers.Replace(" ", SPACE))
    return normalizers.Sequence(steps)


def _pieces(defined: list[str], *, first: bool) -> Any:
    from tokenizers import Regex, pre_tokenizers

    steps: list[Any] = []
    if first:
        steps.append(pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="first", split=False))
    if defined:
        longest = sorted(defined, key=len, reverse=True)
        steps.append(pre_tokenizers.Split(Regex("|".join(re.escape(text) for text in longest)), behavior="isolated"))
    if not steps:
        return None
    return steps[0] if len(steps) == 1 else pre_tokenizers.Sequence(steps)


def _decoder(source: SentencePiece) -> Any:
    from tokenizers import decoders

    steps: list[Any] = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if source.dummy_prefix:
        steps.append(decoders.Strip(content=" ", left=1, right=0))
    return decoders.Sequence(steps)
