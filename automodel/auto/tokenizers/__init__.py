"""Tokenizers of the families that transformers has no class for, from their own files, without code of the repository."""

from __future__ import annotations

from automodel.auto.tokenizers.build import VOCABULARIES, family_tokenizer
from automodel.auto.tokenizers.families import FAMILIES, Family

__all__ = ["FAMILIES", "VOCABULARIES", "Family", "family_tokenizer"]
