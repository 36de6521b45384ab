"""What is known while a recipe is read: where each value stands, what the command line set, warnings and problems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from automodel.recipe.problems import Path, Problem, dotted
from automodel.recipe.sections import TargetSection, beside_target

# Packages whose names are read as names only; nothing of them is imported while a file is read.
NEMO = ("nemo_automodel", "automodel")
KNOWN_ROOTS = (*NEMO, "transformers", "torch", "torchdata", "torchao", "transformer_engine", "flashoptim", "peft")
_SHORT_FORMS = {"optimizer": " `name: adamw`", "dataset": " `name: squad`", "validation_datasets": " `name: squad`"}


@dataclass(frozen=True)
class RecipeWarning:
    """Something in a recipe that is read but does less than it seems to."""

    path: str
    message: str
    where: str = ""

    def __str__(self) -> str:
        return f"{self.where + ': ' if self.where else ''}{self.path}: {self.message}"


@dataclass
class Context:
    """The state of one reading."""

    source: str
    lines: dict[Path, int] = field(default_factory=dict)
    flags: dict[Path, str] = field(default_factory=dict)
    allow: Sequence[str] = ()
    moved: dict[Path, Path] = field(default_factory=dict)
    warnings: list[RecipeWarning] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def warn(self, path: Path, message: str) -> None:
        """Note something that has less effect than it seems to."""
        written = self.written(path)
        self.warnings.append(RecipeWarning(dotted(written), message, self.place(path)))

    def problem(self, path: Path, what: str, *, found: str = "", expected: str = "", fix: str = "") -> None:
        """Note something that is wrong; all problems are shown together at the end."""
        self.problems.append(Problem(path, what, found, expected, fix))

    def written(self, path: Path) -> Path:
        """Return the path as the user wrote it, for one in the normal form."""
        for size in range(len(path), 0, -1):
            if path[:size] in self.moved:
                return self.written(self.moved[path[:size]] + path[size:])
        return path

    def place(self, path: Path) -> str:
        """Return `file:line`, or the flag of the command line, nearest to a path in the normal form."""
        written = self.written(path)
        for size in range(len(written), 0, -1):
            if written[:size] in self.flags:
                return self.flags[written[:size]]
            if written[:size] in self.lines:
                return f"{self.source}:{self.lines[written[:size]]}"
        return self.source

    def overridden(self, path: Path) -> bool:
        """Return whether the command line set this very value, or the block that holds it."""
        return any(way[:size] in self.flags for way in (path, self.written(path)) for size in range(1, len(way) + 1))

    def rename(self, section: dict[str, Any], path: Path, old: str, new: str) -> None:
        """Give a value its normal name; when both names are there, the command line wins, else they must agree."""
        if old not in section or old == new:
            return
        value = section.pop(old)
        before, after = (*path, old), (*path, new)
        if section.get(new) is not None:
            if self.overridden(after) or section[new] == value:
                return
            if not self.overridden(before):
                self.problem(
                    after,
                    f"{dotted(before)} and {dotted(after)} say different things.",
                    found=f"{value!r} and {section[new]!r}",
                    expected="one of the two",
                    fix=f"remove {dotted(before)}",
                )
                return
        section[new] = value
        self.moved[after] = before

    def allowed(self, target: str) -> bool:
        """Return whether the user allowed this dotted path, or a module above it."""
        return any(target == name or target.startswith(name + ".") for name in self.allow)

    def refuse(self, path: Path, target: str) -> None:
        """Note a dotted path that is neither known nor allowed."""
        self.problem(
            path,
            "This `_target_` is not on the list of callables that a recipe may name.",
            found=target,
            expected=f"a NeMo AutoModel name, or the short form without it{_SHORT_FORMS.get(str(path[0]), '')}",
            fix=f"if you trust it: --allow-target {target}",
        )

    def plain(self, value: Any, path: Path) -> Any:
        """Return a kept block without the known `_target_` names inside it; unknown ones are refused."""
        if isinstance(value, list):
            return [self.plain(item, (*path, number)) for number, item in enumerate(value)]
        if not isinstance(value, dict):
            return value
        kept = {key: self.plain(item, (*path, key)) for key, item in value.items() if key != "_target_"}
        target = value.get("_target_")
        if target is not None and root_of(target) not in KNOWN_ROOTS:
            if self.allowed(str(target)):
                kept["_target_"] = target
            else:
                self.refuse((*path, "_target_"), str(target))
        return kept


def root_of(target: object) -> str:
    """Return the package at the head of a dotted path."""
    return str(target).split(".", 1)[0]


def leaf_of(target: str) -> tuple[str, str]:
    """Return the class or function of a dotted path, and the class method if it ends in one."""
    parts = target.split(".")
    if len(parts) > 1 and parts[-1][:1].islower() and parts[-2][:1].isupper():
        return parts[-2], parts[-1]
    return parts[-1], ""


def take_target(section: dict[str, Any]) -> str | None:
    """Remove and return a section's dotted path, under either of its names."""
    given = section.pop("_target_", None) or section.pop("target", None)
    section.pop("target", None)
    return None if given is None or str(given).lower() in ("none", "null") else str(given)


def own_callable(section: dict[str, Any], target: str, kind: type[TargetSection]) -> dict[str, Any]:
    """Return the section of a callable: what stands beside it are its arguments, unless `kwargs` is given by name."""
    explicit = section.pop("kwargs", None)
    if isinstance(explicit, dict):
        return {**section, "target": target, "kwargs": explicit}
    fields = beside_target(kind)
    kept = {key: value for key, value in section.items() if key in fields}
    return {**kept, "target": target, "kwargs": {key: value for key, value in section.items() if key not in fields}}
