"""Boxes of elements that are the same in a checkpoint tensor and in a model's tensor: what rules come down to. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from automodel.errors import ModelError
from automodel.weights.rules import Rule, fill, marks

Shape = tuple[int, ...]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One box: element `start + step * t` of the built tensor is element `disk_start + t` of the disk's, for t below `count`.

    All four have one number for each dimension of the built tensor. The disk's tensor lacks the dimension `stacked`, and has the last two the
    other way round if `transposed`.
    """

    built: str
    disk: str
    start: Shape
    step: Shape
    count: Shape
    disk_start: Shape
    stacked: int | None = None
    transposed: bool = False

    @property
    def built_slices(self) -> tuple[slice, ...]:
        """The box in the built tensor."""
        return tuple(slice(a, a + s * (n - 1) + 1 if n else a, s) for a, s, n in zip(self.start, self.step, self.count, strict=True))

    @property
    def disk_slices(self) -> tuple[slice, ...]:
        """The box in the tensor on disk."""
        cuts = [slice(a, a + n) for dim, (a, n) in enumerate(zip(self.disk_start, self.count, strict=True)) if dim != self.stacked]
        return _swapped(cuts) if self.transposed else tuple(cuts)

    def within(self, box: Sequence[slice]) -> Piece | None:
        """Return the part of this piece in a box of the built tensor, counted from the box's corner, or None; the box has steps of 1."""
        start, count, disk_start = list(self.start), list(self.count), list(self.disk_start)
        for dim, cut in enumerate(box):
            low, high = cut.start or 0, cut.stop
            step = self.step[dim]
            first = max(0, -((self.start[dim] - low) // step))
            last = self.count[dim] if high is None else min(self.count[dim], -((self.start[dim] - high) // step))
            if last <= first:
                return None
            start[dim] = self.start[dim] + step * first - low
            count[dim] = last - first
            disk_start[dim] += first
        return replace(self, start=tuple(start), count=tuple(count), disk_start=tuple(disk_start))


def _swapped(items: Sequence[T]) -> tuple[T, ...]:
    return (*items[:-2], items[-1], items[-2])


def disk_names(rule: Rule, values: Mapping[str, str], built: Mapping[str, Sequence[int]]) -> list[str]:
    """Return the names on disk that a rule speaks of, for these indices; a stack has as many as its dimension is long."""
    if rule.op != "stack":
        return [fill(name, dict(values)) for name in rule.disk]
    (mark,) = set(marks(rule.disk[0])) - set(values)
    shape = built[fill(rule.built[0], dict(values))]
    return [fill(rule.disk[0], {**values, mark: str(j)}) for j in range(shape[_dim(rule, shape, rule.built[0])])]


def pieces_of(rule: Rule, built: Mapping[str, Sequence[int]], disk: Sequence[str]) -> list[tuple[Piece, Shape]]:
    """Return the pieces of one rule, each with the whole shape of its tensor on disk.

    Args:
        rule: any but a drop or a tie.
        built: names and shapes of the rule's tensors in the model, in the rule's order.
        disk: names on disk, in the rule's order.

    Raises:
        ModelError: the rule does not fit these shapes.
    """
    if rule.op == "split":
        return _split(rule, built, disk[0])
    ((name, found),) = built.items()
    shape = tuple(found)
    if rule.op == "rename":
        return [_piece(rule, name, disk[0], count=shape)]
    dim = _dim(rule, shape, name)
    pieces = []
    if rule.op == "concat":
        at = 0
        for part, size in zip(disk, _sizes(rule, shape[dim], len(disk), name), strict=True):
            pieces.append(_piece(rule, name, part, count=_with(shape, dim, size), start=_with((0,) * len(shape), dim, at)))
            at += size
    elif rule.op == "interleave":
        (size,) = set(_sizes(rule, shape[dim], len(disk), name))
        for turn, part in enumerate(disk):
            start, step = _with((0,) * len(shape), dim, turn), _with((1,) * len(shape), dim, len(disk))
            pieces.append(_piece(rule, name, part, count=_with(shape, dim, size), start=start, step=step))
    else:
        for j, part in enumerate(disk):
            pieces.append(_piece(rule, name, part, count=_with(shape, dim, 1), start=_with((0,) * len(shape), dim, j), stacked=dim))
    return pieces


def _split(rule: Rule, built: Mapping[str, Sequence[int]], disk: str) -> list[tuple[Piece, Shape]]:
    first, found = next(iter(built.items()))
    dim = _dim(rule, found, first)
    sizes = [shape[dim] for shape in built.values()]
    if rule.sizes and list(rule.sizes) != sizes:
        raise ModelError(f"the sizes of a rule do not fit {first}", found=str(sizes), expected=str(list(rule.sizes)), fix="correct the rule")
    whole = _with(tuple(found), dim, sum(sizes))
    pieces, at = [], 0
    for name, shape in built.items():
        if _with(tuple(shape), dim, 0) != _with(whole, dim, 0):
            raise ModelError(f"{name} does not fit beside {first}", found=str(list(shape)), expected=f"{list(found)} apart from dimension {dim}")
        zeros = (0,) * len(shape)
        pieces.append(
            Piece(
                built=name,
                disk=disk,
                start=zeros,
                step=(1,) * len(shape),
                count=tuple(shape),
                disk_start=_with(zeros, dim, at),
                transposed=rule.transposed,
            )
        )
        at += shape[dim]
    shape_on_disk = _swapped(whole) if rule.transposed else whole
    return [(piece, shape_on_disk) for piece in pieces]


def _piece(
    rule: Rule, built: str, disk: str, *, count: Shape, start: Shape = (), step: Shape = (), stacked: int | None = None
) -> tuple[Piece, Shape]:
    """Return a piece that is the whole of a tensor on disk, and that tensor's shape."""
    zeros = (0,) * len(count)
    transposed = rule.transposed
    if transposed and len(count) - (stacked is not None) < 2:
        raise ModelError(f"{built} is no matrix and cannot be transposed", found=str(list(count)), fix="use the rule without transposition")
    piece = Piece(
        built=built,
        disk=disk,
        start=start or zeros,
        step=step or (1,) * len(count),
        count=count,
        disk_start=zeros,
        stacked=stacked,
        transposed=transposed,
    )
    return piece, tuple(cut.stop for cut in piece.disk_slices)


def _dim(rule: Rule, shape: Sequence[int], name: str) -> int:
    dim = rule.dim + len(shape) if rule.dim < 0 else rule.dim
    if not 0 <= dim < len(shape):
        raise ModelError(f"{name} has no dimension {rule.dim}", found=str(list(shape)), fix="correct the rule")
    return dim


def _sizes(rule: Rule, whole: int, parts: int, name: str) -> Sequence[int]:
    sizes = rule.sizes or (whole // parts,) * parts
    if sum(sizes) != whole:
        found = " + ".join(str(size) for size in rule.sizes) if rule.sizes else f"{parts} equal parts"
        raise ModelError(f"the parts of {name} do not add up to it", found=found, expected=str(whole), fix="give the rule sizes=(...)")
    return sizes


def _with(shape: Shape, dim: int, value: int) -> Shape:
    return (*shape[:dim], value, *shape[dim + 1 :])
