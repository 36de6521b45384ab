"""What goes where, decided from names and shapes before a byte of a tensor is read; strict in both directions. No torch."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from automodel.errors import ModelError
from automodel.weights.pieces import Piece, Shape, disk_names, pieces_of
from automodel.weights.rules import Rule, fill, marks, match

QUANTIZED = (".qweight", ".qzeros", ".scales", ".weight_scale", ".weight_scale_inv", ".absmax", ".quant_map", ".SCB", "_blocks", "_scales")


class HasShape(Protocol):
    """A tensor as far as a plan needs it."""

    @property
    def shape(self) -> Sequence[int]:
        """Sizes of its dimensions."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Which box of which tensor goes where.

    Args:
        pieces: the boxes; together they cover every built tensor once, and every tensor on disk that is used.
        disk: names and shapes of the tensors on disk.
        ties: built name -> the built name that it shares its tensor with.
        equal: pairs of names on disk that must hold the same numbers, since the model has one tensor for both.
        dropped: name on disk -> why nothing takes it.
        fresh: built names that the disk does not have, as allowed.
    """

    pieces: tuple[Piece, ...]
    disk: Mapping[str, Shape]
    ties: Mapping[str, str] = field(default_factory=dict)
    equal: tuple[tuple[str, str], ...] = ()
    dropped: Mapping[str, str] = field(default_factory=dict)
    fresh: tuple[str, ...] = ()


@dataclass
class _Step:
    rule: Rule
    built: tuple[str, ...]
    disk: list[str]


def plan_load(
    rules: Iterable[Rule],
    disk: Mapping[str, HasShape],
    built: Mapping[str, Sequence[int]],
    *,
    ties: Mapping[str, str] | None = None,
    base: str = "",
    fresh: Callable[[str], bool] | None = None,
    where: str = "the checkpoint",
) -> Plan:
    """Return how the tensors of a checkpoint fill those of a model.

    Args:
        rules: the rules of the checkpoint.
        disk: its tensors.
        built: names and shapes of the model's parameters and saved buffers.
        ties: names of `built` that are another's tensor, as the model has them; `tied` rules add to these.
        base: path of the part that some checkpoints hold alone, with names that count from there.
        fresh: says which built tensors the checkpoint need not have.
        where: what the errors call the checkpoint.

    Raises:
        ModelError: a tensor is unknown, missing, of another shape, or asked for twice; indices have gaps. The message names the tensor.
    """
    rules = tuple(rules)
    steps, known_ties, second = _steps(rules, built, ties or {})
    actual = _full_names(disk, expected={*_used(steps), *second.values()}, base=base)
    on_disk = {full: disk[name] for full, name in actual.items()}
    equal = _resolve_ties(steps, known_ties, {alias: name for alias, name in second.items() if name in on_disk}, on_disk)
    steps, absent = _without_fresh(steps, on_disk, fresh)
    used = _used(steps)
    known = {*used, *second.values()}
    dropped = _dropped(rules, on_disk, known, actual)
    missing = [name for name in used if name not in on_disk]
    unknown = [name for name in on_disk if name not in known and name not in dropped]
    if missing or unknown:
        raise _misfit(missing, unknown, used=used, disk=on_disk, where=where)
    pieces, shapes = _pieces(steps, built)
    for name, shape in shapes.items():
        if tuple(on_disk[name].shape) != shape:
            raise ModelError(
                f"{actual[name]} of {where} has another shape than the model",
                found=str(list(on_disk[name].shape)),
                expected=str(list(shape)),
                fix="use the config that belongs to this checkpoint",
            )
    return Plan(
        pieces=tuple(replace(piece, disk=actual[piece.disk]) for piece in pieces),
        disk={actual[name]: shape for name, shape in shapes.items()},
        ties=known_ties,
        equal=tuple((actual[a], actual[b]) for a, b in equal),
        dropped={actual[name]: why for name, why in dropped.items()},
        fresh=absent,
    )


def plan_save(rules: Iterable[Rule], built: Mapping[str, Sequence[int]], *, ties: Mapping[str, str] | None = None) -> Plan:
    """Return how the tensors of a model fill those of a checkpoint: the same pieces, read the other way.

    Raises:
        ModelError: a tensor of the model has no rule or two; the message names it.
    """
    steps, known_ties, _ = _steps(tuple(rules), built, ties or {})
    _used(steps)
    pieces, shapes = _pieces(steps, built)
    return Plan(pieces=pieces, disk=shapes, ties=known_ties)


def bindings(pattern: str, names: Mapping[str, object]) -> Iterator[dict[str, str]]:
    """Yield the indices under which a pattern is one of the names."""
    if not marks(pattern):
        if pattern in names:
            yield {}
        return
    for name in names:
        values = match(pattern, name)
        if values is not None:
            yield values


def _steps(
    rules: tuple[Rule, ...], built: Mapping[str, Sequence[int]], ties: Mapping[str, str]
) -> tuple[list[_Step], dict[str, str], dict[str, str]]:
    """Return the rules with all indices filled in, the ties, and the name on disk of every tensor that is a second name of another."""
    known = dict(ties)
    second: dict[str, str] = {}
    for rule in rules:
        if rule.op == "tied":
            known[rule.built[0]] = rule.built[1]
            second[rule.built[0]] = rule.disk[0]
    steps: list[_Step] = []
    taken: set[str] = set()
    for rule in rules:
        if rule.op in ("drop", "tied"):
            continue
        for values in bindings(rule.built[0], built):
            names = tuple(fill(name, values) for name in rule.built)
            if rule.op == "rename" and names[0] in known:
                second.setdefault(names[0], fill(rule.disk[0], values))
                continue
            for name in names:
                if name in taken or name not in built:
                    what = f"two rules build {name}" if name in taken else f"a rule builds {name}, which the model does not have"
                    raise ModelError(what, found=_said(rule), fix="correct the list of rules")
            taken.update(names)
            steps.append(_Step(rule, names, disk_names(rule, values, built)))
    lost = [name for name in built if name not in taken and name not in known]
    if lost:
        raise ModelError(
            f"no rule builds {lost[0]}", found=f"{len(lost)} parameters without a rule", expected="one rule for each", fix=_add_rule(lost[0], rules)
        )
    return steps, known, second


def _used(steps: list[_Step]) -> dict[str, _Step]:
    """Return name on disk -> the step that takes it; each is taken once."""
    used: dict[str, _Step] = {}
    for step in steps:
        for name in step.disk:
            if name in used:
                raise ModelError(f"two rules take {name}", found=f"{_said(used[name].rule)} and {_said(step.rule)}", fix="correct the list of rules")
            used[name] = step
    return used


def _resolve_ties(steps: list[_Step], ties: Mapping[str, str], second: Mapping[str, str], disk: Mapping[str, HasShape]) -> list[tuple[str, str]]:
    """Let second names on disk stand in for absent first ones; return the pairs of which both are there."""
    equal = []
    producers = {name: step for step in steps if step.rule.op == "rename" and not step.rule.transposed for name in step.built}
    for alias, name in second.items():
        step = producers.get(ties[alias])
        if step is not None and step.disk[0] in disk:
            equal.append((step.disk[0], name))
        elif step is not None:
            step.disk = [name]
    return equal


def _without_fresh(steps: list[_Step], disk: Mapping[str, HasShape], fresh: Callable[[str], bool] | None) -> tuple[list[_Step], tuple[str, ...]]:
    """Return the steps that remain, and the built names that are allowed to be absent and are."""
    if fresh is None:
        return steps, ()
    gone = [step for step in steps if all(fresh(name) for name in step.built) and not any(name in disk for name in step.disk)]
    return [step for step in steps if step not in gone], tuple(name for step in gone for name in step.built)


def _dropped(rules: tuple[Rule, ...], disk: Mapping[str, HasShape], known: set[str], actual: Mapping[str, str]) -> dict[str, str]:
    dropped = {}
    for rule in rules:
        for name in disk if rule.op == "drop" else ():
            if match(rule.disk[0], name) is None and match(rule.disk[0], actual[name]) is None:
                continue
            if name in known:
                raise ModelError(f"{name} is dropped by a rule and taken by another", found=_said(rule), fix="narrow the rule that drops it")
            dropped[name] = rule.why
    return dropped


def _pieces(steps: list[_Step], built: Mapping[str, Sequence[int]]) -> tuple[tuple[Piece, ...], dict[str, Shape]]:
    pieces: list[Piece] = []
    shapes: dict[str, Shape] = {}
    for step in steps:
        for piece, shape in pieces_of(step.rule, {name: built[name] for name in step.built}, step.disk):
            pieces.append(piece)
            shapes[piece.disk] = shape
    return tuple(pieces), shapes


def _full_names(disk: Mapping[str, HasShape], *, expected: set[str], base: str) -> dict[str, str]:
    """Return name from the root -> name on disk, which counts from `base` where no tensor's name begins with that path."""
    bare = bool(base) and not any(name.startswith(f"{base}.") for name in disk)
    return {f"{base}.{name}" if bare and name not in expected else name: name for name in disk}


def _misfit(missing: list[str], unknown: list[str], *, used: Mapping[str, object], disk: Mapping[str, object], where: str) -> ModelError:
    """Return the error for names that do not fit, about the first of them."""
    counts = f"{len(missing)} of {len(used)} tensors missing, {len(unknown)} of {len(disk)} unknown"
    bad = next((name for name in unknown if name.endswith(QUANTIZED)), None)
    if bad is not None:
        fix = "use the checkpoint before quantization, or let transformers load it with force_hf=True"
        return ModelError(f"{where} is quantized: it holds {bad}", found=counts, expected="tensors of numbers of 16 or 32 bits", fix=fix)
    fix = "use the config that belongs to this checkpoint, or force_hf=True to let transformers load it"
    if not missing:
        near = _near(unknown[0], used)
        what = f"{where} holds {unknown[0]}, which nothing in the model takes"
        return ModelError(what, found=counts, expected=f"only known tensors{near}", fix=fix)
    gap = _gap(missing[0], disk)
    if gap is not None:
        again = "copy or download the checkpoint again"
        return ModelError(f"{where} lacks {missing[0]}: {gap}", found=counts, expected="indices without gaps", fix=again)
    near = _near(missing[0], {name: None for name in unknown} or disk)
    return ModelError(f"{where} lacks {missing[0]}", found=f"{counts}{near}", expected="every parameter of the model", fix=fix)


def _gap(name: str, disk: Mapping[str, object]) -> str | None:
    """Say which indices are there if only some of those below and above the one in `name` are missing."""
    for found in re.finditer(r"(?<=\.)\d+(?=\.)", name):
        before, after = name[: found.start()], name[found.end() :]
        there = sorted(int(other[len(before) : len(other) - len(after)]) for other in disk if _is_sibling(other, before, after))
        if there and there[-1] > int(found[0]):
            return f"index {found[0]} is missing and {there[-1]} is there"
    return None


def _is_sibling(name: str, before: str, after: str) -> bool:
    return name.startswith(before) and name.endswith(after) and name[len(before) : len(name) - len(after)].isdecimal()


def _near(name: str, candidates: Iterable[str]) -> str:
    found = difflib.get_close_matches(name, list(candidates), n=1, cutoff=0.5)
    return f"; the nearest is {found[0]}" if found else ""


def _add_rule(name: str, rules: tuple[Rule, ...]) -> str:
    near = _near(name, [pattern for rule in rules for pattern in rule.built])
    return f'add a rule such as same("{name}"){near}'


def _said(rule: Rule) -> str:
    return f"{rule.op} {' '.join(rule.built)} <- {' '.join(rule.disk)}"
