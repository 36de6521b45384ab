"""What lies in a tokenizer's folder or repository: vocabulary files, and the settings beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from automodel.errors import ModelError

NAMED = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")
QUIET = {
    "_raise_exceptions_for_missing_entries": False,
    "_raise_exceptions_for_gated_repo": False,
    "_raise_exceptions_for_connection_errors": False,
}


class Place:
    """A folder or hub id that files are asked for by name; `hub` are the download arguments."""

    def __init__(self, source: str, hub: Mapping[str, Any]) -> None:
        self.source = source
        self._hub = dict(hub)

    def find(self, name: str) -> Path | None:
        """Return the path of a file, or None when there is none."""
        from transformers.utils.hub import cached_file

        try:
            found = cached_file(self.source, name, **QUIET, **self._hub)
        except OSError:
            return None  # the caller goes on without it, and transformers then says why the repository cannot be read
        return None if found is None else Path(found)

    def read_json(self, name: str) -> dict[str, Any]:
        """Return a JSON file, empty when there is none."""
        path = self.find(name)
        if path is None:
            return {}
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ModelError(f"{path} cannot be read", found=str(error), expected="JSON", fix="copy or download it again") from error
        return dict(found)


@dataclass(frozen=True, kw_only=True)
class Added:
    """A token that is matched in the text before everything else."""

    text: str
    special: bool = True
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the files beside the vocabulary say; empty where they are silent."""

    config: Mapping[str, Any] = field(default_factory=dict)
    special: Mapping[str, str] = field(default_factory=dict)
    placed: Mapping[int, Added] = field(default_factory=dict)
    extra: tuple[Added, ...] = ()
    template: Any = None


def read_settings(place: Place) -> Settings:
    """Return what tokenizer_config.json, special_tokens_map.json, added_tokens.json and the chat template files say."""
    config, named = place.read_json("tokenizer_config.json"), place.read_json("special_tokens_map.json")
    special = {name: _text(found[name]) for found in (named, config) for name in NAMED if found.get(name)}
    placed = {int(index): Added(text=text, special=text in special.values()) for text, index in place.read_json("added_tokens.json").items()}
    placed |= {int(index): _added(token) for index, token in (config.get("added_tokens_decoder") or {}).items()}
    listed = config.get("additional_special_tokens") or named.get("additional_special_tokens") or config.get("extra_special_tokens") or []
    tokens = list(listed.values()) if isinstance(listed, dict) else listed
    template = config.get("chat_template") or place.read_json("chat_template.json").get("chat_template")
    path = place.find("chat_template.jinja")
    if path is not None:
        template = path.read_text(encoding="utf-8")
    return Settings(config=config, special=special, placed=placed, extra=tuple(_added(token) for token in tokens), template=template)


def _text(token: Any) -> str:
    return str(token["content"] if isinstance(token, Mapping) else token)


def _added(token: Any) -> Added:
    if not isinstance(token, Mapping):
        return Added(text=str(token))
    flags = {name: bool(token.get(name, False)) for name in ("lstrip", "rstrip", "single_word")}
    return Added(text=str(token["content"]), special=bool(token.get("special", True)), **flags)
