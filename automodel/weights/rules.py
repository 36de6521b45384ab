"""Rules between the tensors of a checkpoint ("disk") and those of a model ("built"): one list that loads and saves. No torch.

A rule says which elements are the same, so it holds in both directions. In names, `{i}` stands for an index and has the same value on both
sides; `*` stands for anything and is allowed in `drop` alone.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Op = Literal["rename", "concat", "split", "stack", "interleave", "tied", "drop"]
PLACEHOLDER = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What one or more tensors of a model have to do with one or more of a checkpoint; made by the functions of this module.

    `built` and `disk` are names or patterns. `dim` and `sizes` say where a joined tensor is cut; without sizes the parts are equal.
    `transposed`: each tensor of the disk has its last two dimensions the other way round. `why` is the reason of a drop.
    """

    op: Op
    built: tuple[str, ...]
    disk: tuple[str, ...]
    dim: int = 0
    sizes: tuple[int, ...] = ()
    transposed: bool = False
    why: str = ""

    def __post_init__(self) -> None:
        whole = self.disk if self.op == "split" else self.built
        parts = self.built if self.op == "split" else self.disk
        if self.sizes and len(self.sizes) != len(parts):
            raise ValueError(f"{whole}: {len(parts)} parts and {len(self.sizes)} sizes")
        if len(set(self.built)) != len(self.built) or len(set(self.disk)) != len(self.disk):
            raise ValueError(f"a rule names a tensor twice: {self.built} {self.disk}")
        if self.op != "drop" and any("*" in name for name in (*self.built, *self.disk)):
            raise ValueError(f"* is for drop alone: {self.built} {self.disk}")
        free = {mark for name in self.disk for mark in marks(name)} ^ {mark for name in self.built for mark in marks(name)}
        if self.op not in ("drop", "stack", "tied") and free:
            raise ValueError(f"the two sides have different indices: {self.built} {self.disk}")


def same(name: str) -> Rule:
    """Return the rule of a tensor that is the same on both sides."""
    return Rule(op="rename", built=(name,), disk=(name,))


def rename(built: str, disk: str) -> Rule:
    """Return the rule of a tensor with another name on disk."""
    return Rule(op="rename", built=(built,), disk=(disk,))


def transpose(built: str, disk: str) -> Rule:
    """Return the rule of a matrix whose last two dimensions are the other way round on disk."""
    return Rule(op="rename", built=(built,), disk=(disk,), transposed=True)


def concat(built: str, *disk: str, dim: int = 0, sizes: Sequence[int] = (), transposed: bool = False) -> Rule:
    """Return the rule of a tensor that lies in pieces on disk, one after the other along `dim` of the built one.

    `sizes` are those of the pieces along `dim`, needed where they differ: saving has to cut at the same places.
    """
    return Rule(op="concat", built=(built,), disk=disk, dim=dim, sizes=tuple(sizes), transposed=transposed)


def split(builts: Sequence[str], disk: str, *, dim: int = 0, sizes: Sequence[int] = ()) -> Rule:
    """Return the rule of several tensors that lie in one on disk, one after the other along its `dim`."""
    return Rule(op="split", built=tuple(builts), disk=(disk,), dim=dim, sizes=tuple(sizes))


def stack(built: str, disk: str, *, dim: int = 0, transposed: bool = False) -> Rule:
    """Return the rule of a tensor whose slices along `dim` lie apart on disk.

    `disk` has one index that `built` has not (`experts.{j}.weight`); it runs from 0 to the size of `dim`, without gaps.
    """
    if len(set(marks(disk)) - set(marks(built))) != 1 or set(marks(built)) - set(marks(disk)):
        raise ValueError(f"stack needs one index on disk that is not in the built name: {built} {disk}")
    return Rule(op="stack", built=(built,), disk=(disk,), dim=dim, transposed=transposed)


def interleave(built: str, *disk: str, dim: int = 0) -> Rule:
    """Return the rule of a tensor whose rows along `dim` come in turn from the tensors on disk."""
    return Rule(op="interleave", built=(built,), disk=disk, dim=dim)


def tied(built: str, to: str) -> Rule:
    """Return the rule of a tensor that is the built tensor `to` under a second name: not saved, and accepted on disk if it is equal."""
    return Rule(op="tied", built=(built, to), disk=(built,))


def drop(pattern: str, why: str) -> Rule:
    """Return the rule of tensors on disk that no model needs; `why` is shown to who asks. `*` matches anything, dots included."""
    return Rule(op="drop", built=(), disk=(pattern,), why=why)


def marks(pattern: str) -> tuple[str, ...]:
    """Return the names of the indices in a pattern."""
    return tuple(PLACEHOLDER.findall(pattern))


def match(pattern: str, name: str) -> dict[str, str] | None:
    """Return the values of the indices under which `pattern` is `name`, or None."""
    if "{" not in pattern and "*" not in pattern:
        return {} if pattern == name else None
    found = _compiled(pattern).fullmatch(name)
    return found.groupdict() if found else None


def fill(pattern: str, values: dict[str, str]) -> str:
    """Return the name that a pattern is for these indices; indices without a value stay as they are."""
    return PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), pattern)


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    text, seen = "", set()
    for part in re.split(r"(\{\w+\}|\*)", pattern):
        if part == "*":
            text += ".*"
        elif mark := PLACEHOLDER.fullmatch(part):
            text += f"(?P={mark[1]})" if mark[1] in seen else rf"(?P<{mark[1]}>0|[1-9]\d*)"
            seen.add(mark[1])
        else:
            text += re.escape(part)
    return re.compile(text)
