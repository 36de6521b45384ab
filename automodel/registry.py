"""Which architectures are known beside those of transformers: look up, list, extend. Importing this loads no torch."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

from automodel.errors import ModelError

ENTRY_POINTS = "automodel.architectures"


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One registered architecture: the name in `config.architectures`, its class (or "module:Class"), and its config class."""

    name: str
    target: type | str
    model_type: str | None = None
    config_class: type | str | None = None
    source: str = "register_architecture"

    def load(self) -> type:
        """Return the model class, importing it if it was given by name."""
        return _load(self.target, what=f"architecture {self.name}")

    def load_config_class(self) -> type | None:
        """Return the config class, or the model class's own, or None."""
        if self.config_class is not None:
            return _load(self.config_class, what=f"config class of {self.name}")
        own = getattr(self.load(), "config_class", None)
        return own if isinstance(own, type) else None


class Registry:
    """Architectures by name; plug-ins of the entry-point group `automodel.architectures` are read at the first look-up."""

    def __init__(self) -> None:
        self._entries: dict[str, Architecture] = {}
        self._plugins_read = False

    def register(
        self, name: str, target: type | str, *, model_type: str | None = None, config_class: type | str | None = None, exist_ok: bool = False
    ) -> None:
        """Add an architecture.

        Args:
            name: as it stands in `config.architectures`; it ends with the task, such as `ForCausalLM`.
            target: a PreTrainedModel class, or "module:Class", imported when first used.
            model_type: the model_type of its config.json; absent: that of the config class.
            config_class: class or "module:Class" of its config; absent: `target.config_class`, else transformers' own.
            exist_ok: replace an architecture of that name instead of raising.

        Raises:
            ModelError: the name is taken, or the target is neither a class nor "module:Class".
        """
        self._add(Architecture(name=name, target=target, model_type=model_type, config_class=config_class), exist_ok=exist_ok)

    def unregister(self, name: str) -> None:
        """Take an architecture out again."""
        self.get(name)
        del self._entries[name]

    def get(self, name: str) -> Architecture:
        """Return an architecture; an unknown name raises ModelError with the nearest known ones."""
        self._read_plugins()
        if name not in self._entries:
            raise ModelError(
                f"no architecture {name} is registered",
                found=name,
                expected=", ".join(self._entries) or "none is registered; transformers' own classes are used without it",
                fix=_hint(name, list(self._entries)),
            )
        return self._entries[name]

    def find(self, *, name: str | None = None, model_type: str | None = None) -> Architecture | None:
        """Return the architecture of that name, else the first of that model_type, else None."""
        self._read_plugins()
        if name is not None and name in self._entries:
            return self._entries[name]
        if model_type is None:
            return None
        return next((entry for entry in self._entries.values() if entry.model_type == model_type), None)

    @property
    def supported_models(self) -> list[str]:
        """Names of all registered architectures."""
        return list(self)

    def has_custom_model(self, name: str) -> bool:
        """Say whether an architecture of that name is registered."""
        return name in self

    def get_model_cls_from_model_arch(self, name: str) -> type:
        """Return the class of an architecture; an unknown name raises ModelError."""
        return self.get(name).load()

    def resolve_custom_model_cls(self, name: str, config: Any) -> type | None:
        """Return the class of an architecture, or None when there is none or its `supports_config(config)` says no."""
        entry = self.find(name=name)
        if entry is None:
            return None
        cls = entry.load()
        supports = getattr(cls, "supports_config", None)
        return cls if supports is None or supports(config) else None

    def __contains__(self, name: object) -> bool:
        self._read_plugins()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        self._read_plugins()
        return iter(tuple(self._entries))

    def __len__(self) -> int:
        self._read_plugins()
        return len(self._entries)

    def _add(self, entry: Architecture, *, exist_ok: bool) -> None:
        target = entry.target
        if not isinstance(target, type) and not (isinstance(target, str) and target.count(":") == 1):
            raise ModelError(
                f"architecture {entry.name} needs a class", found=repr(target), expected='a class or "module:Class"', fix="pass the class itself"
            )
        if entry.name in self._entries and not exist_ok:
            raise ModelError(
                f"architecture {entry.name} is registered already",
                found=f"{self._entries[entry.name].target} from {self._entries[entry.name].source}",
                expected="a new name",
                fix="pass exist_ok=True to replace it",
            )
        self._entries[entry.name] = entry

    def _read_plugins(self) -> None:
        if self._plugins_read:
            return
        self._plugins_read = True
        for point in entry_points(group=ENTRY_POINTS):
            self._add(
                Architecture(name=point.name, target=point.value, source=f"entry point of {point.dist.name if point.dist else 'a package'}"),
                exist_ok=False,
            )


class _Mapping(Mapping[str, "type | str"]):
    """A live, read-only view of the registry: architecture name -> class or "module:Class"."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def __getitem__(self, name: str) -> type | str:
        if name not in self._registry:
            raise KeyError(name)
        return self._registry.get(name).target

    def __iter__(self) -> Iterator[str]:
        return iter(self._registry)

    def __len__(self) -> int:
        return len(self._registry)


ModelRegistry = Registry()
MODEL_ARCH_MAPPING: Mapping[str, type | str] = _Mapping(ModelRegistry)


def register_architecture(
    name: str, target: type | str, *, model_type: str | None = None, config_class: type | str | None = None, exist_ok: bool = False
) -> None:
    """Add an architecture to the registry, so that the auto classes build it; arguments and errors as `Registry.register`."""
    ModelRegistry.register(name, target, model_type=model_type, config_class=config_class, exist_ok=exist_ok)


def _load(target: type | str, *, what: str) -> type:
    if isinstance(target, type):
        return target
    module, _, attribute = target.partition(":")
    try:
        loaded = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ModelError(
            f"{what} cannot be imported",
            found=f"{target}: {error}",
            expected='an importable "module:Class"',
            fix="install the package, or correct the name",
        ) from error
    if not isinstance(loaded, type):
        raise ModelError(f"{what} is not a class", found=repr(loaded), expected="a class", fix=f"correct {target}")
    return loaded


def _hint(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    return f"did you mean {' or '.join(near)}?" if near else f"register_architecture({name!r}, YourClass)"
