"""From scores to merges: SentencePiece and tiktoken rank what comes out of a merge, byte-pair tables rank the pair that goes in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def merges_of(ranked: Iterable[str], ids: Mapping[str, int]) -> list[tuple[str, str]]:
    """Return the pairs that make each text, best text first.

    Both libraries join any two neighbours whose text together is known, so each way to cut a text in two known parts is a pair.

    Args:
        ranked: the texts that a merge may give, the one to be made first at the front.
        ids: the texts that may be parts, with their ids, which order the pairs of one text.
    """
    merges: list[tuple[str, str]] = []
    for text in ranked:
        pairs = [(text[:cut], text[cut:]) for cut in range(1, len(text))]
        known = [(ids[left], ids[right], left, right) for left, right in pairs if left in ids and right in ids]
        merges += [(left, right) for _, _, left, right in sorted(known)]
    return merges
