"""Which architectures have an implementation of their own: look up, list, extend. Importing this loads no torch."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from importlib.metadata import entry_points
from typing import Any

from automodel.archs.base import Architecture
from automodel.archs.config import Config
from automodel.errors import ModelError
from automodel.spec import DecoderSpec, Unsupported
from automodel.weights.rules import Rule

ENTRY_POINTS = "automodel.architectures"
# Where the class of a spec-based architecture is made, by its name, when it is first asked for.
NATIVE = "automodel.auto.native"


class Registry:
    """Architectures by name; `packages` are scanned for `ARCHITECTURES`, and plug-ins read, at the first look-up."""

    def __init__(self, *packages: str) -> None:
        self._entries: dict[str, Architecture] = {}
        self._packages = packages
        self._read = False

    def register(
        self,
        name: str | Architecture,
        target: type | str | None = None,
        *,
        spec: Callable[[Config], DecoderSpec] | None = None,
        model_type: str | None = None,
        config_class: type | str | None = None,
        rules: Callable[..., tuple[Rule, ...]] | None = None,
        exist_ok: bool = False,
    ) -> None:
        """Add an architecture.

        Args:
            name: as it stands in `config.architectures`, ending with the task, such as `ForCausalLM`; or a whole `Architecture`.
            target: a model class, or "module:Class", imported when first used; a plain nn.Module needs `rules`, its weight map.
            spec: config -> DecoderSpec, in place of a class.
            model_type: the model_type of its config.json; absent: that of the config class.
            config_class: class or "module:Class" of its config; absent: `target.config_class`, else transformers' own.
            rules: the weight map of a plain nn.Module, or the rules beyond those that follow from the spec.
            exist_ok: replace an architecture of that name instead of raising.

        Raises:
            ModelError: the name is taken, or there is not exactly one of target and spec, or the target is neither a class nor "module:Class".
        """
        self._read_all()
        if isinstance(name, Architecture):
            self._add(name, exist_ok=exist_ok)
            return
        made = Architecture(
            name=name, target=target, spec=spec, model_type=model_type, config_class=config_class, rules=rules, source="register_architecture"
        )
        self._add(made, exist_ok=exist_ok)

    def unregister(self, name: str) -> None:
        """Take an architecture out again."""
        self.get(name)
        del self._entries[name]

    def get(self, name: str) -> Architecture:
        """Return an architecture; an unknown name raises ModelError with the nearest known ones."""
        self._read_all()
        if name not in self._entries:
            raise ModelError(
                f"no architecture {name} is registered",
                found=name,
                expected=", ".join(self._entries) or "none is registered; transformers' own classes are used without it",
                fix=_hint(name, list(self._entries)),
            )
        return self._entries[name]

    def find(self, *, name: str | None = None, model_type: str | None = None) -> Architecture | None:
        """Return the architecture of that model_type that real files call so (`config.architectures`), else the one of that model_type, else None."""
        self._read_all()
        for entry in self._entries.values():
            if name in (entry.name, *entry.also) and (model_type is None or entry.model_type in (None, model_type)):
                return entry
        if model_type is None:
            return None
        return next((entry for entry in self._entries.values() if entry.by_type and entry.model_type == model_type), None)

    @property
    def supported_models(self) -> list[str]:
        """Names of all registered architectures."""
        return list(self)

    def has_custom_model(self, name: str) -> bool:
        """Say whether an architecture of that name is registered."""
        return name in self

    def get_model_cls_from_model_arch(self, name: str) -> type:
        """Return the class of an architecture; an unknown name raises ModelError."""
        return load_target(self.get(name))

    def resolve_custom_model_cls(self, name: str, config: Any) -> type | None:
        """Return the class of an architecture, or None when there is none or it cannot serve this config."""
        entry = self.find(name=name)
        if entry is None or refusal(entry, config) is not None:
            return None
        return load_target(entry)

    def __contains__(self, name: object) -> bool:
        self._read_all()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        self._read_all()
        return iter(tuple(self._entries))

    def __len__(self) -> int:
        self._read_all()
        return len(self._entries)

    def _add(self, entry: Architecture, *, exist_ok: bool) -> None:
        target = entry.target
        if (target is None) == (entry.spec is None):
            found = "neither" if target is None else "both"
            raise ModelError(f"architecture {entry.name} needs a class or a spec", found=found, expected="one of target and spec", fix="pass one")
        if target is not None and not isinstance(target, type) and not (isinstance(target, str) and target.count(":") == 1):
            raise ModelError(
                f"architecture {entry.name} needs a class", found=repr(target), expected='a class or "module:Class"', fix="pass the class itself"
            )
        if entry.name in self._entries and not exist_ok:
            raise ModelError(
                f"architecture {entry.name} is registered already",
                found=f"{_shown(self._entries[entry.name])} from {self._entries[entry.name].source}",
                expected="a new name",
                fix="pass exist_ok=True to replace it",
            )
        self._entries[entry.name] = entry

    def _read_all(self) -> None:
        if self._read:
            return
        self._read = True
        for package in self._packages:
            for entry in _scan(package):
                self._add(entry, exist_ok=False)
        for point in entry_points(group=ENTRY_POINTS):
            for entry in _plugin(point):
                self._add(entry, exist_ok=False)


class _Mapping(Mapping[str, "type | str"]):
    """A live, read-only view of the registry: architecture name -> class or "module:Class"."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def __getitem__(self, name: str) -> type | str:
        if name not in self._registry:
            raise KeyError(name)
        return _shown(self._registry.get(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._registry)

    def __len__(self) -> int:
        return len(self._registry)


ModelRegistry = Registry("automodel.archs")
MODEL_ARCH_MAPPING: Mapping[str, type | str] = _Mapping(ModelRegistry)


def register_architecture(
    name: str | Architecture,
    target: type | str | None = None,
    *,
    spec: Callable[[Config], DecoderSpec] | None = None,
    model_type: str | None = None,
    config_class: type | str | None = None,
    rules: Callable[..., tuple[Rule, ...]] | None = None,
    exist_ok: bool = False,
) -> None:
    """Add an architecture to the registry, so that the auto classes build it; arguments and errors as `Registry.register`."""
    ModelRegistry.register(name, target, spec=spec, model_type=model_type, config_class=config_class, rules=rules, exist_ok=exist_ok)


def load_target(entry: Architecture) -> type:
    """Return the class of an architecture: the user's own, imported if it was given by name, or the one made from its spec."""
    return _load(_shown(entry), what=f"architecture {entry.name}")


def load_config_class(entry: Architecture) -> type | None:
    """Return the config class that came with an architecture of a user's own class, or the class's own, or None."""
    if entry.config_class is not None:
        return _load(entry.config_class, what=f"config class of {entry.name}")
    own = getattr(load_target(entry), "config_class", None) if entry.target is not None else None
    return own if isinstance(own, type) else None


def refusal(entry: Architecture, config: Any) -> str | None:
    """Say why an architecture cannot serve a config, or return None when it can."""
    if entry.spec is not None:
        try:
            entry.spec(Config(config))
        except Unsupported as reason:
            return str(reason)
        return None
    supports = getattr(load_target(entry), "supports_config", None)
    return None if supports is None or supports(config) else "its supports_config says no"


def _scan(package: str) -> Iterator[Architecture]:
    for found in pkgutil.iter_modules(importlib.import_module(package).__path__, prefix=f"{package}."):
        yield from getattr(importlib.import_module(found.name), "ARCHITECTURES", ())


def _plugin(point: Any) -> tuple[Architecture, ...]:
    """Return what an entry point names: "module:Class", or "module:ARCHITECTURES", the architectures of a plug-in."""
    source = f"entry point of {point.dist.name if point.dist else 'a package'}"
    if not point.value.split(":")[-1].isupper():
        return (Architecture(name=point.name, target=point.value, source=source),)
    found = point.load()
    listed = (found,) if isinstance(found, Architecture) else tuple(found)
    return tuple(replace(entry, source=source) for entry in listed)


def _shown(entry: Architecture) -> type | str:
    return entry.target if entry.target is not None else f"{NATIVE}:{entry.name}"


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
