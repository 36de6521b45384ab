"""From an id, a folder or a map to a config object, with errors that say what is wrong and what to do."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automodel.auto import compat
from automodel.auto.model_types import where_known
from automodel.errors import ModelError
from automodel.registry import ModelRegistry, load_config_class

if TYPE_CHECKING:
    from transformers import PretrainedConfig

HUB_KEYS = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token")


def load_config(
    source: str | Path | Mapping[str, Any] | PretrainedConfig,
    *,
    overrides: Mapping[str, Any] | None = None,
    hub: Mapping[str, Any] | None = None,
    trust_remote_code: bool = False,
) -> tuple[PretrainedConfig, dict[str, Any]]:
    """Return the config and those overrides that are no fields of it.

    Args:
        source: hub id, folder, a map with `model_type`, or a config, which is copied.
        overrides: fields to change; a map given for a nested config is merged into it.
        hub: download arguments (revision, cache_dir, token, ...).
        trust_remote_code: whether code of the repository may run.

    Raises:
        ModelError: no such folder or repository, gated, offline, no config.json, unknown model_type, own code not allowed.
    """
    from transformers import PretrainedConfig

    changes = dict(overrides or {})
    if isinstance(source, PretrainedConfig):
        return _override(deepcopy(source), changes)
    if isinstance(source, Mapping):
        return _from_map(dict(source), changes)
    place = check_source(source)
    data = _read(place, dict(hub or {}))
    kind = _known_type(place, data, trust_remote_code=trust_remote_code)
    changes = {
        key: {**data[key], **value} if isinstance(value, dict) and isinstance(data.get(key), dict) else value for key, value in changes.items()
    }
    own = _own_class(_architecture(data), kind)
    if own is not None:
        config, unused = own.from_pretrained(place, return_unused_kwargs=True, **(hub or {}), **changes)
        return config, unused
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    try:
        config, unused = AutoConfig.from_pretrained(place, return_unused_kwargs=True, trust_remote_code=trust_remote_code, **(hub or {}), **changes)
    except OSError as error:
        raise hub_error(place, error) from error
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, StrictDataclassError) as error:
        spare = _spare_class(_architecture(data), kind)
        if spare is None:
            raise unbuildable(place, error) from error
        config, unused = spare.from_pretrained(place, return_unused_kwargs=True, **(hub or {}), **changes)
    return config, {key: value for key, value in unused.items() if key in changes}


def check_source(source: str | Path) -> str:
    """Return the id or folder as a string, after a look at the folder if it is one.

    Raises:
        ModelError: it looks like a folder and is none, or the folder holds no model.
    """
    place = os.path.expanduser(str(source))
    if os.path.isdir(place):
        if not os.path.isfile(os.path.join(place, "config.json")) and not os.path.isfile(os.path.join(place, "adapter_config.json")):
            names = sorted(os.listdir(place))
            here = ", ".join(names[:8]) or "an empty folder"
            if any(name.lower().endswith(".gguf") for name in names):
                raise _gguf(place, here)
            fix = "give the folder that holds config.json and the weights (of a run: its checkpoints/.../model)"
            raise ModelError(f"{place} holds no config.json", found=here, expected="a model folder", fix=fix)
        return place
    if isinstance(source, Path) or place.startswith((".", "/", "~")) or place.count("/") > 1 or "\\" in place:
        if place.lower().endswith(".gguf") and os.path.isfile(place):
            raise _gguf(place, os.path.basename(place))
        what = "is a file, not a folder" if os.path.isfile(place) else "does not exist"
        raise ModelError(f"the folder {place} {what}", found=place, expected="a model folder, or a hub id such as name/model", fix="correct the path")
    return place


def _gguf(place: str, found: str) -> ModelError:
    fix = "train from the repository that it was made of, in transformers' layout (its page on the hub names it), and convert the result afterwards"
    return ModelError(f"{place} is a GGUF model, made to run and not to be trained", found=found, expected="config.json and safetensors", fix=fix)


def inside(source: str | os.PathLike[str], hub: dict[str, Any]) -> str:
    """Return a local folder with `subfolder`, which is taken out of the download arguments, added to it; a hub id stays as it is."""
    place = os.path.expanduser(str(source))
    return os.path.join(place, hub.pop("subfolder")) if os.path.isdir(place) and hub.get("subfolder") else str(source)


def hub_error(place: str, error: BaseException) -> ModelError:
    """Turn a failed download into an error that says what to do."""
    from huggingface_hub import constants

    names = _chain(error)
    page = f"{constants.ENDPOINT}/{place}"
    if "GatedRepoError" in names:
        fix = f"accept the terms at {page}, then `hf auth login` (or set HF_TOKEN)"
        return ModelError(f"{place} is gated", found="no access with the present token", expected="an account that accepted its terms", fix=fix)
    if "RevisionNotFoundError" in names or "RevisionResolutionError" in names:
        return ModelError(f"{place} has no such revision", found=_first_line(error), expected="a branch, tag or commit", fix=f"see {page}/tree/main")
    if "RepositoryNotFoundError" in names:
        fix = _nearby(place) + "check the spelling; for a private repository `hf auth login` (or set HF_TOKEN)"
        return ModelError(
            f"there is no model {place} on the hub", found=f"not found at {page}", expected="a hub id such as name/model, or a folder", fix=fix
        )
    if "OfflineModeIsEnabled" in names or constants.HF_HUB_OFFLINE:
        fix = _nearby(place) + "unset HF_HUB_OFFLINE and try again, or give a local folder"
        return ModelError(f"{place} is not in the download cache and offline mode is on", found="HF_HUB_OFFLINE", expected="a cached model", fix=fix)
    if "HFValidationError" in names:
        return ModelError(f"{place} is neither a folder nor a hub id", found=place, expected="name/model", fix="correct the name")
    # A file that is not in the cache, on a hub that did not answer, is an "entry not found" to the hub library as well.
    if names & {"EntryNotFoundError", "RemoteEntryNotFoundError"} and "LocalEntryNotFoundError" not in names:
        fix = "give a repository in transformers' layout (GGUF-only and adapter-only repositories have none)"
        return ModelError(f"{place} has no config.json", found=_first_line(error), expected="config.json and safetensors", fix=fix)
    if names & {"ConnectionError", "ConnectError", "LocalEntryNotFoundError", "HfHubHTTPError", "ConnectTimeout", "ReadTimeout", "Timeout"}:
        fix = _nearby(place) + "check the connection (or HF_ENDPOINT), or give a local folder"
        return ModelError(
            f"{place} cannot be fetched and is not in the download cache", found=_first_line(error), expected=f"an answer from {page}", fix=fix
        )
    return ModelError(f"{place} cannot be read", found=_first_line(error), expected="a model folder or a hub id", fix="see the message above")


def unbuildable(place: str | None, error: Exception) -> ModelError:
    """Return the error for a config whose values make no model."""
    where = f"config.json of {place}" if place else "model.config"
    return ModelError(
        f"no model can be built from the {where}",
        found=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}",
        expected="values that the model's class can use",
        fix=f"correct that value in {where}" + (", or fetch the file again" if place else ""),
    )


def _nearby(place: str) -> str:
    """A folder whose name is misspelt looks like a hub id: point at the folder that may be meant."""
    parent = Path(place).parent
    folders = [item.name for item in parent.iterdir() if item.is_dir()] if parent.is_dir() else []
    close = difflib.get_close_matches(Path(place).name, folders, n=1, cutoff=0.75)
    return f"did you mean the folder {parent / close[0]}? else " if close else ""


def _read(place: str, hub: dict[str, Any]) -> dict[str, Any]:
    from transformers import PretrainedConfig

    folder = Path(place)
    if folder.is_dir() and not hub.get("subfolder"):
        if not (folder / "config.json").is_file():
            base = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8")).get("base_model_name_or_path")
            fix = f"start from {base} and load the adapter with peft, or merge it first: automodel merge {place}"
            raise ModelError(
                f"{place} holds an adapter, not a model", found="adapter_config.json without config.json", expected="a whole model", fix=fix
            )
        try:
            data = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except ValueError as error:
            raise ModelError(
                f"{folder / 'config.json'} is not JSON", found=str(error), expected="a JSON object", fix="correct or fetch the file again"
            ) from error
        if not isinstance(data, dict):
            raise ModelError(
                f"{folder / 'config.json'} is not a config", found=type(data).__name__, expected="a JSON object", fix="fetch the file again"
            )
        return data
    try:
        found, _ = PretrainedConfig.get_config_dict(place, **hub)
    except OSError as error:
        raise hub_error(place, error) from error
    return dict(found)


def _known_type(place: str, data: dict[str, Any], *, trust_remote_code: bool) -> str | None:
    kind: str | None = data.get("model_type")
    entry = ModelRegistry.find(name=_architecture(data), model_type=kind)
    if kind and entry is not None and entry.model_type in (None, kind):
        return kind
    own_code = "AutoConfig" in (data.get("auto_map") or {})
    if own_code and trust_remote_code:
        return kind
    if kind in compat.known_model_types():
        return kind
    if own_code:
        fix = "read its code, then set trust_remote_code: true"
        raise ModelError(
            f"{place} needs code from its own repository", found=f"model_type {kind}, auto_map", expected="a type that transformers has", fix=fix
        )
    if not kind:
        fix = 'add "model_type" to config.json'
        raise ModelError(
            f"the config of {place} has no model_type", found=", ".join(sorted(data)[:8]) or "an empty object", expected='a "model_type"', fix=fix
        )
    raise unknown_type(place, str(kind))


def unknown_type(place: str, kind: str) -> ModelError:
    """Return the error for a model_type that the installed transformers lacks."""
    from transformers import __version__

    where, fix = where_known(kind, compat.known_model_types())
    return ModelError(f"transformers {__version__} does not know the model_type of {place}", found=kind, expected=where, fix=fix)


def _architecture(data: Mapping[str, Any]) -> str | None:
    names = data.get("architectures")
    return str(names[0]) if names else None


def _from_map(data: dict[str, Any], changes: dict[str, Any]) -> tuple[PretrainedConfig, dict[str, Any]]:
    from transformers import AutoConfig

    kind = data.pop("model_type", None)
    if not kind:
        raise ModelError(
            "the config has no model_type", found=", ".join(data) or "an empty map", expected='a "model_type"', fix="add model_type: llama, say"
        )
    name = _architecture(data)
    own = _own_class(name, kind)
    if own is None and kind not in compat.known_model_types():
        raise unknown_type("the config", str(kind))
    if own is not None:
        return own(**data, **changes), {}
    spare = _spare_class(name, kind)
    if spare is None:
        return AutoConfig.for_model(kind, **{**data, **changes}), {}
    from huggingface_hub.errors import StrictDataclassError

    try:
        return AutoConfig.for_model(kind, **{**data, **changes}), {}
    except (ValueError, TypeError, StrictDataclassError):
        return spare(**{**data, **changes}), {}


def _own_class(name: str | None, kind: str | None) -> type[PretrainedConfig] | None:
    """Return the config class of a registered architecture, unless transformers has one for the model_type and none came with the architecture."""
    from automodel.auto.native.configs import config_class, register_configs

    register_configs()
    entry = ModelRegistry.find(name=name, model_type=kind)
    if entry is not None and entry.model_type not in (None, kind):
        entry = ModelRegistry.find(model_type=kind)
    own = load_config_class(entry) if entry is not None else None
    if own is not None and (kind not in compat.known_model_types() or getattr(own, "model_type", None) == kind):
        return own
    return config_class(entry) if entry is not None and kind not in compat.known_model_types() else None


def _spare_class(name: str | None, kind: str | None) -> type[PretrainedConfig] | None:
    """Return our class for a model_type whose class in transformers may refuse valid files."""
    from automodel.auto.native.configs import file_class

    entry = ModelRegistry.find(name=name, model_type=kind)
    if entry is not None and entry.model_type != kind:
        entry = ModelRegistry.find(model_type=kind)
    return file_class(entry.config) if entry is not None and entry.config is not None else None


def _override(config: Any, changes: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    unused = {}
    for key, value in changes.items():
        current = getattr(config, key, None)
        if not hasattr(config, key):
            unused[key] = value
        elif isinstance(value, dict) and hasattr(current, "to_dict"):
            _override(current, value)
        else:
            setattr(config, key, value)
    return config, unused


def _chain(error: BaseException) -> set[str]:
    names: set[str] = set()
    step: BaseException | None = error
    while step is not None:
        names |= {cls.__name__ for cls in type(step).__mro__}
        step = step.__cause__ or step.__context__
    return names


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
