"""From a vocabulary file and the family's table entry to a tokenizer of transformers, without code of the repository."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from automodel.auto.configs import HUB_KEYS
from automodel.auto.resolution import Resolution
from automodel.auto.tokenizers.bytelevel import CL100K, from_pairs, from_ranks, is_ranks, read_ranks
from automodel.auto.tokenizers.families import FAMILIES, Backend, Family, family_of
from automodel.auto.tokenizers.files import NAMED, Added, Place, Settings, read_settings
from automodel.auto.tokenizers.proto import SentencePiece, read_sentencepiece
from automodel.auto.tokenizers.spm import from_sentencepiece
from automodel.errors import ModelError

# Files of one vocabulary each, the surest first.
VOCABULARIES = ("tokenizer.model", "cl100k_base.tiktoken", "vocab.json")
UNVERIFIED = "not verified against the real file: no vocabulary of this family is part of the tests, only the way such files are read"
MODEL_TYPES = frozenset(family.model_type for family in FAMILIES)
# Arguments of `AutoTokenizer.from_pretrained` that mean nothing here: there is one class, and no code of the repository.
NOT_OURS = (*HUB_KEYS, "use_fast", "trust_remote_code", "code_revision", "tokenizer_type", "config")


@dataclass
class Draft:
    """A tokenizer in the making: the fast core, its tokens by name, and what was decided on the way."""

    core: Any
    special: dict[str, str]
    tokens: dict[str, Added]
    events: list[str] = field(default_factory=list)


def family_tokenizer(source: str, *, model_type: str | None, options: Mapping[str, Any]) -> tuple[Any, Resolution] | None:
    """Return the tokenizer of a family that transformers lacks, with its record; None for all others and where tokenizer.json lies.

    Args:
        source: hub id or folder.
        model_type: that of config.json; None where there is no config, then `tokenizer_class` decides.
        options: the other arguments of `from_pretrained`.

    Raises:
        ModelError: the vocabulary file is damaged or of a kind that cannot be read.
    """
    if model_type is not None and model_type not in MODEL_TYPES:
        return None
    place = Place(source, {name: options[name] for name in HUB_KEYS if name in options})
    if place.find("tokenizer.json") is not None:
        return None
    found = next(((name, path) for name in VOCABULARIES if (path := place.find(name)) is not None), None)
    if found is None:
        return None
    name, path = found
    data = path.read_bytes()
    backend: Backend = "pairs" if name.endswith(".json") else "ranks" if is_ranks(data) else "sentencepiece"
    settings = read_settings(place)
    family = family_of(_description(place, settings, model_type), backend=backend)
    if family is None:
        return None
    try:
        draft = _draft(family, settings, data, merges=place.find("merges.txt"))
    except (ValueError, UnicodeDecodeError, KeyError) as error:
        start = "a pointer of git-lfs, not the file" if data.startswith(b"version https://git-lfs") else str(error)
        fix = "copy or download it again (for git: `git lfs pull`)"
        raise ModelError(f"the tokenizer of {source} cannot be built", found=f"{name}: {start}", expected="a whole vocabulary", fix=fix) from error
    tokenizer = _finish(draft, family, settings, options)
    resolution = Resolution(implementation="native", class_name=type(tokenizer).__name__, events=draft.events)
    resolution.reasons = [f"built from {name} as the {family.model_type} family reads it, without code of the repository", UNVERIFIED]
    return tokenizer, resolution


def _description(place: Place, settings: Settings, model_type: str | None) -> dict[str, Any]:
    config = place.read_json("config.json")
    words = [Path(place.source).name, config.get("_name_or_path"), settings.config.get("name_or_path"), config.get("architectures")]
    words += [config.get("auto_map")]
    return {"model_type": model_type, "tokenizer_class": settings.config.get("tokenizer_class"), "names": " ".join(map(str, words)).lower()}


def _draft(family: Family, settings: Settings, data: bytes, *, merges: Path | None) -> Draft:
    if family.backend == "sentencepiece":
        source = read_sentencepiece(data)
        first = settings.config.get("legacy") is False
        entries = {piece.text: index for index, piece in enumerate(source.pieces)}
        placed = _placed(family, settings, entries)
        core = from_sentencepiece(source, renamed={index: token.text for index, token in placed.items()}, first_only=first)
        return _with_tokens(core, family, settings, placed, source=source)
    if family.backend == "ranks":
        ranks = read_ranks(data)
        placed = _placed(family, settings, {f"rank {rank}": rank for rank in ranks.values()})
        core = from_ranks(ranks, special={token.text: index for index, token in placed.items()}, pattern=family.pattern or CL100K)
        return _with_tokens(core, family, settings, placed)
    if merges is None:
        raise ValueError("vocab.json without merges.txt")
    vocabulary: dict[str, int] = json.loads(data)
    placed = _placed(family, settings, vocabulary)
    entries = {**vocabulary, **{token.text: index for index, token in placed.items()}}
    return _with_tokens(from_pairs(entries, merges.read_text(encoding="utf-8"), pattern=family.pattern), family, settings, placed)


def _placed(family: Family, settings: Settings, entries: Mapping[str, int]) -> dict[int, Added]:
    """Return the tokens with an id of their own: the family's, those that follow the vocabulary, and over them those of the files."""
    texts = {index: text for text, index in entries.items()}
    known = {token.text: token for token in settings.placed.values()}
    placed = {
        index: Added(text=text)
        for text, index in family.placed.items()
        if text not in entries and text not in known and (not family.over or texts.get(index, "").startswith(family.over))
    }
    after = max(texts, default=-1) + 1
    rest = {after + at: text for at, text in enumerate(family.appended) if text not in known}
    placed |= {index: Added(text=text, single_word=text in family.words) for index, text in rest.items()}
    for index, token in settings.placed.items():
        placed[index] = replace(token, single_word=token.single_word or token.text in family.words)
    return placed


def _with_tokens(core: Any, family: Family, settings: Settings, placed: Mapping[int, Added], *, source: SentencePiece | None = None) -> Draft:
    special = {name: token for name, token in family.special.items() if core.token_to_id(token) is not None}
    if source is not None:
        own = {"bos_token": source.bos, "eos_token": source.eos, "unk_token": source.unk}
        special |= {name: text for name, index in own.items() if name in family.special and (text := core.id_to_token(index)) is not None}
    missing = sorted(set(family.special) - set(special) - set(settings.special))
    special |= settings.special
    draft = Draft(core, special, {placed[index].text: placed[index] for index in sorted(placed)})
    draft.events += [f"tokenizer: the vocabulary has no {family.special[name]!r}, so there is no {name}" for name in missing]
    for token in settings.extra:
        draft.tokens.setdefault(token.text, token)
    for text in (*special.values(), *_roles(core, family).values()):
        draft.tokens.setdefault(text, Added(text=text))
    return draft


def _roles(core: Any, family: Family) -> dict[str, str]:
    found = {role: core.id_to_token(index) for role, index in family.roles.items()}
    return {role: text for role, text in found.items() if text is not None and text.startswith(family.over)}


def _finish(draft: Draft, family: Family, settings: Settings, options: Mapping[str, Any]) -> Any:
    from tokenizers import AddedToken
    from transformers import PreTrainedTokenizerFast

    given = {name: value for name, value in options.items() if name not in NOT_OURS}
    draft.special |= {name: str(given.pop(name)) for name in NAMED if given.get(name) is not None}
    for text in draft.special.values():
        draft.tokens.setdefault(text, Added(text=text))
    for token in draft.tokens.values():
        flags = {"lstrip": token.lstrip, "rstrip": token.rstrip, "single_word": token.single_word}
        made = AddedToken(token.text, normalized=False, special=token.special, **flags)
        draft.core.add_special_tokens([made]) if token.special else draft.core.add_tokens([made])
    _begin(draft, family, settings)
    named = set(draft.special.values())
    extra = [token.text for token in draft.tokens.values() if token.special and token.text not in named]
    kept = {name: settings.config[name] for name in ("model_max_length", "padding_side", "truncation_side") if name in settings.config}
    arguments: dict[str, Any] = {"padding_side": family.side, "clean_up_tokenization_spaces": False, **kept, **draft.special, **given}
    if "chat_template" not in given:
        arguments["chat_template"] = settings.template or _template(draft, family)
    names = ["input_ids", "attention_mask"]
    fast: Any = PreTrainedTokenizerFast  # untyped in one release, typed in the other
    return fast(tokenizer_object=draft.core, additional_special_tokens=extra, model_input_names=names, **arguments)


def _begin(draft: Draft, family: Family, settings: Settings) -> None:
    """Set what stands before and after every text; a pair of texts follows each other and, with a prefix, ends with EOS."""
    from tokenizers.processors import TemplateProcessing

    bos, eos = draft.special.get("bos_token"), draft.special.get("eos_token")
    before = list(family.prefix)
    if bos is not None and settings.config.get("add_bos_token", family.bos):
        before.append(bos)
    after = [eos] if eos is not None and settings.config.get("add_eos_token", False) else []
    if not before and not after:
        return
    second = [] if family.prefix else before
    end = [eos] if family.prefix and eos is not None else after
    pair = [*before, "$A:0", *([] if family.prefix else after), *(f"{token}:1" for token in second), "$B:1", *(f"{token}:1" for token in end)]
    tokens = [(token, draft.core.token_to_id(token)) for token in dict.fromkeys((*before, *after, *end))]
    draft.core.post_processor = TemplateProcessing(single=[*before, "$A", *after], pair=pair, special_tokens=tokens)


def _template(draft: Draft, family: Family) -> str | None:
    """Return the chat form of the family, or None, with the reason noted, where the vocabulary lacks its marks."""
    if family.template is None:
        return None
    roles = _roles(draft.core, family)
    lacking = [mark for mark in family.marks if draft.core.token_to_id(mark) is None] + [role for role in family.roles if role not in roles]
    if lacking:
        draft.events.append(f"tokenizer: no chat template, because the vocabulary lacks {', '.join(lacking)}")
        return None
    draft.events.append(f"tokenizer: the folder has no chat template, so that of the {family.model_type} family is used")
    text = family.template
    for role, token in roles.items():
        text = text.replace("{" + role + "}", token)
    return text
