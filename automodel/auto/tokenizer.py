"""The tokenizer: that of the files, whatever the installed release makes of its class."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automodel.auto import compat
from automodel.auto.configs import HUB_KEYS, check_source, hub_error
from automodel.auto.resolution import Resolution
from automodel.auto.thin import thin_tokenizer
from automodel.auto.tokenizers import VOCABULARIES, family_tokenizer
from automodel.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Text whose pieces differ as soon as a pre-tokenizer or normalizer differs: digits, spaces, case, marks, other scripts.
PROBE = "Don't  stop: 12345 times, x_y=3.14!\n\n\tÀé ﬁ naïve — 東京 は 😀 CamelCaseWord  1,000,000\r\n'll we're   end "

Factory = Callable[..., Any]


class NeMoAutoTokenizer:
    """Loads tokenizers: one registered for the model_type if there is one, else the files as they are."""

    _registered: dict[str, Any] = {}  # noqa: RUF012  the registry of the class

    def __init__(self) -> None:
        raise TypeError("NeMoAutoTokenizer is used through NeMoAutoTokenizer.from_pretrained(...)")

    @classmethod
    def register(cls, model_type: str, cls_or_factory: type | Factory | str) -> None:
        """Use a class (its from_pretrained), a function, or "module:Name" for tokenizers of a model_type; the last registration counts."""
        cls._registered[model_type] = cls_or_factory

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *args: Any,
        force_hf: bool = False,
        force_default: bool = False,
        add_bos_token: bool | None = None,
        add_eos_token: bool | None = None,
        trust_remote_code: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Load a tokenizer from a hub id or folder.

        Args:
            pretrained_model_name_or_path: hub id or folder.
            args: passed to transformers.
            force_hf: return what AutoTokenizer of transformers gives, unchanged.
            force_default: skip the registered tokenizers.
            add_bos_token: begin every text with BOS; None leaves it as the files have it.
            add_eos_token: end every text with EOS; None leaves it as the files have it.
            trust_remote_code: whether tokenizer code of the repository may run.
            kwargs: those of transformers.

        Returns:
            A transformers tokenizer with `resolution`: the class, and what was changed and why (pad token, pre-tokenizer).

        Raises:
            ModelError: not found, gated, offline, or its files do not make a tokenizer.
        """
        place = check_tokenizer_source(pretrained_model_name_or_path)
        if force_hf:
            return _auto(place, args, trust_remote_code=trust_remote_code, kwargs=kwargs)
        kind = model_type_of(place, {name: kwargs[name] for name in HUB_KEYS if name in kwargs})
        if kind in cls._registered and not force_default:
            return _call(cls._registered[kind], place, args, kwargs=kwargs, kind=kind)
        family = family_tokenizer(place, model_type=kind, options=kwargs)
        if family is not None:
            tokenizer, resolution = family
        else:
            tokenizer = _auto(place, args, trust_remote_code=trust_remote_code, kwargs=kwargs)
            resolution = Resolution(implementation="hf", class_name=type(tokenizer).__name__)
            tokenizer = _literal(place, tokenizer, resolution, kwargs)
        _fill_pad(tokenizer, resolution)
        if add_bos_token is not None or add_eos_token is not None:
            _ends(tokenizer, bos=add_bos_token, eos=add_eos_token)
        tokenizer = thin_tokenizer(tokenizer)
        tokenizer.resolution = resolution
        return tokenizer


def check_tokenizer_source(source: str | Path) -> str:
    """Return the id or folder as a string; a folder needs no config.json here, but some file of a tokenizer."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        names = {p.name for p in folder.iterdir()}
        known = {"tokenizer.json", "tokenizer_config.json", *VOCABULARIES, "vocab.txt", "spiece.model", "tekken.json"}
        if not names & known:
            found = ", ".join(sorted(names)[:8]) or "an empty folder"
            fix = "set tokenizer.pretrained_model_name_or_path to the folder or hub id of the model it belongs to"
            raise ModelError(f"{folder} holds no tokenizer", found=found, expected="tokenizer.json", fix=fix)
        return str(folder)
    return check_source(source)


def model_type_of(place: str, hub: dict[str, Any]) -> str | None:
    """Return the model_type beside a tokenizer, or None when there is no config."""
    from transformers.utils.hub import cached_file

    try:
        quiet = {
            "_raise_exceptions_for_missing_entries": False,
            "_raise_exceptions_for_gated_repo": False,
            "_raise_exceptions_for_connection_errors": False,
        }
        file = cached_file(place, "config.json", **quiet, **hub)
    except OSError as error:
        raise hub_error(place, error) from error
    if file is None:
        return None
    found = json.loads(Path(file).read_text(encoding="utf-8")).get("model_type")
    return str(found) if found else None


def _auto(place: str, args: tuple[Any, ...], *, trust_remote_code: bool, kwargs: dict[str, Any]) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(place, *args, trust_remote_code=trust_remote_code, **kwargs)
    except OSError as error:
        raise hub_error(place, error) from error
    except (ValueError, KeyError, AttributeError, TypeError, ImportError) as error:
        # The class that transformers picks may not fit the files, or not exist in this release; tokenizer.json needs no class.
        fast = _from_file(place, kwargs)
        if fast is None:
            fix = "see the message; slow tokenizers may need `pip install sentencepiece tiktoken`"
            raise _unbuildable(place, error, fix) from error
        return fast


def _from_file(place: str, kwargs: dict[str, Any], **special: Any) -> Any:
    """Build the generic tokenizer, which takes tokenizer.json literally; None when there is no such file."""
    from transformers import PreTrainedTokenizerFast

    if _tokenizer_json(place, kwargs) is None:
        return None
    try:
        return PreTrainedTokenizerFast.from_pretrained(place, **{**special, **kwargs})
    except Exception as error:  # the library below raises bare `Exception` for a file it cannot use
        raise _unbuildable(place, error, "copy or download tokenizer.json again") from error


def _unbuildable(place: str, error: Exception, fix: str) -> ModelError:
    text = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return ModelError(f"the tokenizer of {place} cannot be built", found=text, expected="a whole tokenizer.json, or a known class", fix=fix)


def _tokenizer_json(place: str, kwargs: dict[str, Any]) -> str | None:
    from transformers.utils.hub import cached_file

    hub = {name: kwargs[name] for name in HUB_KEYS if name in kwargs}
    found = cached_file(place, "tokenizer.json", _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False, **hub)
    return None if found is None else str(found)


def _literal(place: str, tokenizer: Any, resolution: Resolution, kwargs: dict[str, Any]) -> Any:
    """Return the tokenizer of tokenizer.json where the class would give other ids."""
    name = type(tokenizer).__name__
    if name in compat.LITERAL_CLASSES:
        resolution.reasons.append("tokenizer.json is used as it is")
        return _plain_inputs(tokenizer)
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        resolution.reasons.append(f"{name} is the class that transformers has for it")
        return tokenizer
    file = _tokenizer_json(place, kwargs)
    if file is None:
        resolution.reasons.append(f"{name} is the class that transformers has for it")
        return tokenizer
    from tokenizers import Tokenizer

    written = Tokenizer.from_file(file)
    if _parts(written) == _parts(tokenizer.backend_tokenizer) and written.encode(PROBE, add_special_tokens=False).ids == tokenizer.encode(
        PROBE, add_special_tokens=False
    ):
        resolution.reasons.append(f"{name} gives the same ids as tokenizer.json")
        return tokenizer
    special = compat.special_tokens(compat.SPECIAL, tokenizer)
    special = {key: value for key, value in special.items() if written.token_to_id(str(value)) is not None}
    fast = _from_file(place, kwargs, model_input_names=list(tokenizer.model_input_names), padding_side=tokenizer.padding_side, **special)
    resolution.class_name = type(fast).__name__
    resolution.reasons.append("tokenizer.json is used as it is")
    resolution.events.append(f"tokenizer: {name} of this transformers splits text otherwise than tokenizer.json, so the file is used as it is")
    return fast


def _parts(core: Any) -> list[Any]:
    # The probe alone is not enough: a small vocabulary may have no merge that shows the difference.
    return [None if part is None else part.__getstate__() for part in (core.normalizer, core.pre_tokenizer, core.decoder)]


def _plain_inputs(tokenizer: Any) -> Any:
    # The generic class of transformers 4 returns token_type_ids, which generate() of a decoder refuses.
    if "model_input_names" not in tokenizer.init_kwargs and tokenizer.cls_token is None:
        tokenizer.model_input_names = ["input_ids", "attention_mask"]
    return tokenizer


def _fill_pad(tokenizer: Any, resolution: Resolution) -> None:
    if tokenizer.pad_token is not None:
        return
    if tokenizer.eos_token is None:
        resolution.events.append("tokenizer: no pad token and no EOS token; rows of unequal length cannot be put into one batch")
        return
    tokenizer.pad_token = tokenizer.eos_token
    resolution.events.append(f"tokenizer: no pad token, so EOS {tokenizer.eos_token!r} (id {tokenizer.eos_token_id}) fills short rows")


def _ends(tokenizer: Any, *, bos: bool | None, eos: bool | None) -> None:
    """Set what is put before and after each text, in the tokenizer's own template, so that it is saved and pickled with it."""
    for wanted, name in ((bos, "bos_token"), (eos, "eos_token")):
        if wanted and getattr(tokenizer, name) is None:
            raise ModelError(f"add_{name} needs a {name}", found="the tokenizer has none", expected=f"a {name}", fix=f"leave add_{name} out")
        if wanted is not None:
            tokenizer.init_kwargs[f"add_{name}"] = wanted
    core = getattr(tokenizer, "backend_tokenizer", None)
    if core is None:
        for wanted, name in ((bos, "add_bos_token"), (eos, "add_eos_token")):
            if wanted is not None:
                setattr(tokenizer, name, wanted)
        return
    from tokenizers.processors import Sequence, TemplateProcessing

    before, after = _present_ends(tokenizer)
    before = _with(before, tokenizer.bos_token_id, bos, first=True)
    after = _with(after, tokenizer.eos_token_id, eos, first=False)
    tokens = {index: tokenizer.convert_ids_to_tokens(index) for index in (*before, *after)}
    single = [f"{tokens[i]}:0" for i in before] + ["$A:0"] + [f"{tokens[i]}:0" for i in after]
    pair = [*single, *[f"{tokens[i]}:1" for i in before], "$B:1", *[f"{tokens[i]}:1" for i in after]]
    template = TemplateProcessing(single=single, pair=pair, special_tokens=[(token, index) for index, token in tokens.items()])
    standing = core.post_processor
    keeps_offsets = standing is not None and type(standing).__name__ == "ByteLevel"
    core.post_processor = Sequence([standing, template]) if keeps_offsets else template


def _present_ends(tokenizer: Any) -> tuple[list[int], list[int]]:
    bare = tokenizer.encode("a", add_special_tokens=False)
    full = tokenizer.encode("a", add_special_tokens=True)
    for start in range(len(full) - len(bare) + 1):
        if full[start : start + len(bare)] == bare:
            return full[:start], full[start + len(bare) :]
    return [], []


def _with(ids: list[int], token: int | None, wanted: bool | None, *, first: bool) -> list[int]:
    if wanted is None or token is None:
        return ids
    rest = [index for index in ids if index != token]
    if not wanted:
        return rest
    return [token, *rest] if first else [*rest, token]


def _call(target: Any, place: str, args: tuple[Any, ...], *, kwargs: dict[str, Any], kind: str) -> PreTrainedTokenizerBase:
    if isinstance(target, str):
        module, _, name = target.partition(":")
        try:
            target = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            fix = "install what it needs, or pass force_default=True"
            raise ModelError(
                f"the tokenizer registered for {kind} cannot be imported", found=f"{module}:{name}: {error}", expected="module:Name", fix=fix
            ) from error
    maker = getattr(target, "from_pretrained", target)
    result: PreTrainedTokenizerBase = maker(place, *args, **kwargs)
    return result
