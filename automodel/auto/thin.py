"""A thin subclass around a loaded model or tokenizer: same name and module, one or two methods changed.

A subclass rather than methods bound to the instance: a bound method makes a reference cycle, so `del model` would free no memory
until the garbage collector runs; and pickle restores bound methods wrongly. The price is that `type(model)` is no longer the very
class object of transformers; `isinstance`, the class name, the module and everything that transformers derives from them stay.
"""

from __future__ import annotations

import functools
import inspect
from pathlib import Path
from typing import Any

from automodel.auto import compat


def thin_model(model: Any, *, sdpa: tuple[str, ...] = ()) -> Any:
    """Give a model a save_pretrained whose files load in transformers 4 and 5, and, if asked, a forward under chosen SDPA backends."""
    model.__class__ = _model_class(compat._plain_class(model), sdpa)
    return model


def thin_tokenizer(tokenizer: Any) -> Any:
    """Give a tokenizer a save_pretrained whose files load in transformers 4 and 5."""
    tokenizer.__class__ = _tokenizer_class(compat._plain_class(tokenizer))
    return tokenizer


@functools.cache
def _model_class(base: type, sdpa: tuple[str, ...]) -> type:
    def save_pretrained(self: Any, save_directory: Any, *args: Any, push_to_hub: bool = False, **kwargs: Any) -> None:
        """Save as transformers does, in the form that transformers 4 and 5 both load; same arguments."""
        arguments = inspect.signature(base.save_pretrained).bind(self, save_directory, *args, **kwargs).arguments  # type: ignore[attr-defined]  # base is a PreTrainedModel
        extra = arguments.pop("kwargs", {})
        arguments.pop("self")
        # An upload inside the save would send the files before they have the common form.
        upload = push_to_hub or arguments.pop("push_to_hub", False)
        hub = {name: extra.pop(name) for name in ("repo_id", "commit_message", "private", "create_pr", "revision") if name in extra} if upload else {}
        directory = Path(arguments.pop("save_directory"))
        compat.save_in_common_form(self, directory, **arguments, **extra)
        if upload:
            self.push_to_hub(hub.pop("repo_id", directory.name), token=arguments.get("token"), **hub)

    body: dict[str, Any] = {"save_pretrained": functools.wraps(base.save_pretrained)(save_pretrained)}  # type: ignore[attr-defined]  # as above
    if sdpa:
        body["forward"] = _forward_under(base.forward, sdpa)  # type: ignore[attr-defined]  # as above
    return _subclass(base, body, maker=_restore_model, arguments=(base, sdpa))


@functools.cache
def _tokenizer_class(base: type) -> type:
    def save_pretrained(self: Any, save_directory: Any, *args: Any, push_to_hub: bool = False, **kwargs: Any) -> Any:
        """Save as transformers does, in the form that transformers 4 and 5 both load; same arguments."""
        hub = (
            {name: kwargs.pop(name) for name in ("repo_id", "commit_message", "private", "create_pr", "revision", "token") if name in kwargs}
            if push_to_hub
            else {}
        )
        files = base.save_pretrained(self, save_directory, *args, **kwargs)  # type: ignore[attr-defined]  # base is a tokenizer class
        write_tokenizer_config(self, Path(save_directory))
        if push_to_hub:
            self.push_to_hub(hub.pop("repo_id", Path(save_directory).name), **hub)
        return files

    body = {"save_pretrained": functools.wraps(base.save_pretrained)(save_pretrained)}  # type: ignore[attr-defined]  # as above
    return _subclass(base, body, maker=_restore_tokenizer, arguments=(base,))


def write_tokenizer_config(tokenizer: Any, directory: Path) -> None:
    """Put the tokenizer_config.json of a folder into the common form.

    The input names are written down for the generic class, because its default differs between the releases.
    """

    def change(data: dict[str, Any]) -> dict[str, Any]:
        data = compat.common_tokenizer(data)
        if data["tokenizer_class"] == "PreTrainedTokenizerFast":
            data["model_input_names"] = list(tokenizer.model_input_names)
        return data

    compat.rewrite_json(directory / "tokenizer_config.json", change)


def _forward_under(forward: Any, names: tuple[str, ...]) -> Any:
    from torch.nn.attention import sdpa_kernel

    from automodel.kernels.sdpa import NAMES

    backends = [NAMES[name] for name in names]

    @functools.wraps(forward)  # generation reads the signature, which follows __wrapped__
    def chosen_backends(self: Any, *args: Any, **kwargs: Any) -> Any:
        with sdpa_kernel(backends, set_priority=True):
            return forward(self, *args, **kwargs)

    return chosen_backends


def _subclass(base: type, body: dict[str, Any], *, maker: Any, arguments: tuple[Any, ...]) -> type:
    def reduce(self: Any, protocol: Any) -> Any:
        return maker, arguments, base.__reduce_ex__(self, 2)[2]  # type: ignore[call-arg]  # the stub types it as bound

    # A class of the same name and module, because transformers decides by both (weight conversion, loss, architectures on disk).
    names = {"__module__": base.__module__, "__qualname__": base.__qualname__, "__doc__": base.__doc__, "__reduce_ex__": reduce}
    return type(base.__name__, (base,), {**body, **names, "_automodel_thin": True})


def _restore_model(base: type, sdpa: tuple[str, ...]) -> Any:
    return object.__new__(_model_class(base, sdpa))


def _restore_tokenizer(base: type) -> Any:
    return object.__new__(_tokenizer_class(base))
