"""Every rule holds in both directions, whatever the shapes: pieces agree with the operations of torch that the rule stands for."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from automodel.weights.plan import plan_load, plan_save
from automodel.weights.rules import Rule, concat, drop, fill, interleave, match, rename, same, split, stack, tied, transpose
from automodel.weights.save import from_disk, join, to_disk

SIZES = st.integers(1, 4)
SHAPES = st.lists(SIZES, min_size=1, max_size=3).map(tuple)
DTYPES = st.sampled_from([torch.float32, torch.bfloat16, torch.int64])


def numbers(shape: tuple[int, ...], dtype: torch.dtype, *, first: int = 0) -> Tensor:
    return (torch.arange(torch.Size(shape).numel()).reshape(shape) + first).to(dtype)


def check(rules: tuple[Rule, ...], disk: dict[str, Tensor], built: dict[str, Tensor]) -> None:
    """Both directions by pieces, and by the operations of torch."""
    shapes = {name: tuple(tensor.shape) for name, tensor in built.items()}
    back = to_disk(built, rules)
    assert {name: tensor.shape for name, tensor in back.items()} == {name: tensor.shape for name, tensor in disk.items()}
    assert all(torch.equal(back[name], disk[name]) for name in disk)
    there = from_disk(disk, rules)
    assert there.keys() == built.keys()
    assert all(torch.equal(there[name], built[name]) for name in built)
    for plan in (plan_load(rules, disk, shapes), plan_save(rules, shapes)):
        made = {name: torch.full_like(tensor, -1) for name, tensor in built.items()}
        filled = {name: torch.zeros_like(tensor, dtype=torch.int) for name, tensor in built.items()}
        for piece in plan.pieces:
            part = disk[piece.disk][piece.disk_slices] if disk[piece.disk].ndim else disk[piece.disk]
            part = part.mT if piece.transposed else part
            made[piece.built][piece.built_slices] = part if piece.stacked is None else part.unsqueeze(piece.stacked)
            filled[piece.built][piece.built_slices] += 1
        assert all(torch.equal(made[name], built[name]) for name in built)
        assert all(bool((count == 1).all()) for count in filled.values())


@given(shape=st.lists(SIZES, max_size=3).map(tuple), dtype=DTYPES)
def test_same_and_rename(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    tensor = numbers(shape, dtype)
    check((same("a"), rename("b", "c")), {"a": tensor, "c": tensor + 1}, {"a": tensor, "b": tensor + 1})


@given(shape=st.lists(SIZES, min_size=2, max_size=3).map(tuple), dtype=DTYPES)
def test_transpose(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    check((transpose("a", "b"),), {"b": numbers(shape, dtype)}, {"a": numbers(shape, dtype).mT.contiguous()})


@given(shape=SHAPES, sizes=st.lists(SIZES, min_size=1, max_size=4), dtype=DTYPES, data=st.data())
def test_concat(shape: tuple[int, ...], sizes: list[int], dtype: torch.dtype, data: st.DataObject) -> None:
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    flipped = len(shape) > 1 and data.draw(st.booleans())
    at = dim % len(shape)
    parts = [numbers((*shape[:at], size, *shape[at + 1 :]), dtype, first=100 * i) for i, size in enumerate(sizes)]
    disk = {f"d{i}": part.mT.contiguous() if flipped else part for i, part in enumerate(parts)}
    rule = concat("b", *disk, dim=dim, sizes=sizes, transposed=flipped)
    check((rule,), disk, {"b": torch.cat(parts, dim)})
    assert torch.equal(join(rule, list(disk.values()))[0], torch.cat(parts, dim))


@given(shape=SHAPES, sizes=st.lists(SIZES, min_size=1, max_size=4), dtype=DTYPES, data=st.data())
def test_split(shape: tuple[int, ...], sizes: list[int], dtype: torch.dtype, data: st.DataObject) -> None:
    dim = data.draw(st.integers(0, len(shape) - 1))
    whole = numbers((*shape[:dim], sum(sizes), *shape[dim + 1 :]), dtype)
    built = {f"b{i}": part.contiguous() for i, part in enumerate(torch.split(whole, sizes, dim))}
    check((split(list(built), "d", dim=dim, sizes=sizes),), {"d": whole}, built)


@given(shape=SHAPES, count=SIZES, dtype=DTYPES, data=st.data())
def test_stack(shape: tuple[int, ...], count: int, dtype: torch.dtype, data: st.DataObject) -> None:
    dim = data.draw(st.integers(0, len(shape)))
    flipped = len(shape) > 1 and data.draw(st.booleans())
    parts = [numbers(shape, dtype, first=100 * i) for i in range(count)]
    disk = {f"e.{i}.w": part.mT.contiguous() if flipped else part for i, part in enumerate(parts)}
    check((stack("e.w", "e.{j}.w", dim=dim, transposed=flipped),), disk, {"e.w": torch.stack(parts, dim)})


@given(shape=SHAPES, count=SIZES, dtype=DTYPES, data=st.data())
def test_interleave(shape: tuple[int, ...], count: int, dtype: torch.dtype, data: st.DataObject) -> None:
    dim = data.draw(st.integers(0, len(shape) - 1))
    parts = [numbers(shape, dtype, first=100 * i) for i in range(count)]
    built = torch.stack(parts, dim + 1).flatten(dim, dim + 1)
    check((interleave("b", *(f"d{i}" for i in range(count)), dim=dim),), {f"d{i}": part for i, part in enumerate(parts)}, {"b": built})


@given(shape=SHAPES, data=st.data())
def test_a_shard_of_a_piece_is_that_shard_of_the_tensor(shape: tuple[int, ...], data: st.DataObject) -> None:
    """Whatever box a process holds, the cut pieces fill it and nothing else."""
    dim = data.draw(st.integers(0, len(shape) - 1))
    parts = [numbers(shape, torch.int64, first=100 * i) for i in range(3)]
    disk = {f"d{i}": part for i, part in enumerate(parts)}
    rule, whole = data.draw(
        st.sampled_from(
            [
                (concat("b", *disk, dim=dim), torch.cat(parts, dim)),
                (interleave("b", *disk, dim=dim), torch.stack(parts, dim + 1).flatten(dim, dim + 1)),
                (stack("b", "d{j}", dim=dim), torch.stack(parts, dim)),
            ]
        )
    )
    box = []
    for size in whole.shape:
        low = data.draw(st.integers(0, size))
        box.append(slice(low, data.draw(st.integers(low, size))))
    mine = torch.full(whole[tuple(box)].shape, -1)
    for piece in plan_load((rule,), disk, {"b": tuple(whole.shape)}).pieces:
        part = piece.within(box)
        if part is not None:
            found = disk[part.disk][part.disk_slices]
            mine[part.built_slices] = found if part.stacked is None else found.unsqueeze(part.stacked)
    assert torch.equal(mine, whole[tuple(box)])


def test_patterns() -> None:
    assert match("layers.{i}.w", "layers.12.w") == {"i": "12"}
    assert match("layers.{i}.w", "layers.x.w") is None
    assert match("layers.{i}.w", "layers.01.w") is None
    assert match("a.{i}.b.{i}", "a.3.b.3") == {"i": "3"}
    assert match("a.{i}.b.{i}", "a.3.b.4") is None
    assert match("*.inv_freq", "model.rotary.inv_freq") == {}
    assert match("a.b", "axb") is None
    assert fill("layers.{i}.e.{j}", {"i": "2"}) == "layers.2.e.{j}"


def test_patterns_with_several_indices() -> None:
    rules = (stack("h.{i}.e.w", "h.{i}.e.{j}.w"), concat("h.{i}.qk", "h.{i}.q", "h.{i}.k", sizes=(2, 1)))
    disk = {f"h.{i}.e.{j}.w": numbers((2, 2), torch.float32, first=10 * i + j) for i in range(2) for j in range(3)}
    disk |= {f"h.{i}.{part}": numbers((size,), torch.float32, first=i) for i in range(2) for part, size in (("q", 2), ("k", 1))}
    built = {f"h.{i}.e.w": torch.stack([disk[f"h.{i}.e.{j}.w"] for j in range(3)]) for i in range(2)}
    built |= {f"h.{i}.qk": torch.cat([disk[f"h.{i}.q"], disk[f"h.{i}.k"]]) for i in range(2)}
    check(rules, disk, built)


@pytest.mark.parametrize(
    "make",
    [
        lambda: concat("a", "b", "c", sizes=(1,)),
        lambda: concat("a", "b", "b"),
        lambda: rename("a.*", "b.*"),
        lambda: rename("a.{i}", "b"),
        lambda: stack("a", "b"),
        lambda: stack("a.{i}", "b.{j}"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_when_it_is_made(make) -> None:
    with pytest.raises(ValueError, match=r"sizes|twice|drop alone|indices|index"):
        make()


def test_hooks_leave_alone_what_they_do_not_know() -> None:
    rules = (concat("m.qk", "m.q", "m.k"), tied("head", "embed"), same("embed"), drop("*.junk", "not needed"))
    w = torch.ones(1)
    found = from_disk({"x.m.q": w, "x.m.k": w, "x.embed": w, "x.m.junk": w, "x.other": w, "y.m.q": w}, rules, prefix="x.")
    assert set(found) == {"x.m.qk", "x.embed", "x.head", "x.other", "y.m.q"}
    assert found["x.head"] is found["x.embed"]
    assert set(from_disk({"m.q": w, "head": w}, rules)) == {"m.q", "head", "embed"}
    assert set(to_disk({"m.qk": torch.ones(2), "embed": w, "head": w}, rules)) == {"m.q", "m.k", "embed"}
    assert set(to_disk({"embed": w, "value_head": w}, rules, strict=False)) == {"embed", "value_head"}


def test_planning_needs_no_torch() -> None:
    code = "import sys, automodel.weights.derive, automodel.weights.plan, automodel.weights.source; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
