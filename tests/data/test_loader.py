"""The order of rows, batches, and exact resume."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from automodel.data import GlobalBatchSampler, build_dataset, build_loader, collate
from automodel.data.order import permutation
from automodel.errors import DataError, RecipeError
from automodel.recipe.schema import DataloaderSection, StepSchedulerSection
from tests.data.conftest import section

LENGTHS = np.random.default_rng(0).integers(3, 90, 101)


def sampler(lengths=LENGTHS, **changes) -> GlobalBatchSampler:
    fields = {"global_batch_size": 12, "local_batch_size": 2, "seed": 7, "shuffle": True, "group_by_length": True, **changes}
    return GlobalBatchSampler(lengths, **fields)


def steps(world: int, local: int, epoch: int = 0, **changes) -> list[list[int]]:
    """Return the rows of each step, gathered over the ranks."""
    ranks = [sampler(rank=rank, world_size=world, local_batch_size=local, **changes) for rank in range(world)]
    for one in ranks:
        one.set_epoch(epoch)
    lists = [list(one) for one in ranks]
    micro = ranks[0].micro_batches_per_step
    assert len({len(rows) for rows in lists}) == 1
    assert len(lists[0]) == len(ranks[0]) == micro * ranks[0].steps_per_epoch
    assert max(len(batch) for rows in lists for batch in rows) <= local
    return [sorted(row for rows in lists for batch in rows[start : start + micro] for row in batch) for start in range(0, len(lists[0]), micro)]


@pytest.mark.parametrize("group", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
def test_steps_do_not_depend_on_processes_and_local_batch(group, shuffle):
    wanted = steps(1, 12, group_by_length=group, shuffle=shuffle)
    for world, local in [(1, 1), (1, 4), (2, 3), (2, 6), (3, 2), (3, 4), (3, 1), (6, 2)]:
        assert steps(world, local, group_by_length=group, shuffle=shuffle) == wanted
    assert (steps(1, 12, epoch=1, group_by_length=group, shuffle=shuffle) != wanted) == shuffle
    assert (steps(1, 12, seed=8, group_by_length=group, shuffle=shuffle) != wanted) == shuffle


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 200),
    world=st.integers(1, 4),
    local=st.integers(1, 4),
    micro=st.integers(1, 3),
    group=st.booleans(),
    shuffle=st.booleans(),
    drop=st.booleans(),
    epoch=st.integers(0, 3),
)
def test_each_row_comes_exactly_once_an_epoch(rows, world, local, micro, group, shuffle, drop, epoch):
    size = world * local * micro
    lengths = (np.arange(rows) * 37) % 23 + 2
    fields = {"lengths": lengths, "global_batch_size": size, "group_by_length": group, "shuffle": shuffle, "drop_last": drop}
    if drop and rows < size:
        with pytest.raises(DataError, match="smaller than one global batch"):
            steps(world, local, epoch, **fields)
        return
    seen = list(itertools.chain.from_iterable(steps(world, local, epoch, **fields)))
    assert len(seen) == len(set(seen)) == (rows - rows % size if drop else rows)
    assert set(seen) <= set(range(rows))


def test_like_lengths_share_a_micro_batch_and_ranks_are_balanced():
    lengths = np.arange(1, 97)
    plain = sampler(lengths, global_batch_size=48, local_batch_size=4, world_size=2, group_by_length=False, shuffle=False)
    loads = []
    for rank in range(2):
        one = sampler(lengths, global_batch_size=48, local_batch_size=4, world_size=2, rank=rank, group_by_length=False, shuffle=False)
        batches = list(one)
        assert all(max(batch) - min(batch) == 3 for batch in batches)
        loads.append(sum(lengths[row] for batch in batches for row in batch))
    assert abs(loads[0] - loads[1]) / loads[0] < 0.01
    assert plain.micro_batches_per_step == 6


def waste(group: bool) -> float:
    one = sampler(np.repeat(LENGTHS, 20), group_by_length=group, global_batch_size=8, local_batch_size=8)
    batches = [one._lengths[batch] for batch in one]
    return 1 - sum(batch.sum() for batch in batches) / sum(batch.max() * len(batch) for batch in batches)


def test_grouping_saves_padding_and_stays_random():
    assert waste(True) < 0.05 < 0.3 < waste(False)
    longest = [max(one) for one in (LENGTHS[batch] for batch in steps(1, 12))]
    assert longest != sorted(longest)
    assert longest != sorted(longest, reverse=True)


def test_the_order_never_changes_between_versions():
    assert permutation(10, 42, 0).tolist() == permutation(10, 42, 0).tolist()
    assert permutation(10, 42, 0).tolist() == [4, 8, 1, 9, 3, 6, 0, 7, 2, 5]
    assert permutation(10, 42, 1).tolist() != permutation(10, 42, 0).tolist()


def test_uneven_global_batches_are_refused():
    with pytest.raises(RecipeError, match="cannot be dealt evenly") as caught:
        sampler(global_batch_size=32, local_batch_size=4, world_size=3)
    assert "24 or 36" in caught.value.fix
    assert caught.value.exit_code == 2


def test_sampler_state():
    one, two = sampler(), sampler()
    one.set_epoch(2)
    whole = list(one)
    two.load_state_dict({"epoch": 2, "next_step": 3})
    two.set_epoch(2)
    assert list(two) == whole[3 * two.micro_batches_per_step :]
    assert two.state_dict() == {"epoch": 2, "next_step": 3}
    two.set_epoch(3)
    assert two.state_dict() == {"epoch": 3, "next_step": 0}


def row(*ids: int, prompt: int = 1) -> dict[str, np.ndarray]:
    labels = np.array(ids, np.int32)
    labels[:prompt] = -100
    return {"input_ids": np.array(ids, np.int32), "labels": labels}


def test_collate():
    rows = [row(5, 6, 2), row(7, 2)]
    batch = collate(rows, pad_token_id=2)
    assert batch["input_ids"].tolist() == [[5, 6, 2], [7, 2, 2]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch["labels"].tolist() == [[-100, 6, 2], [-100, 2, -100]]
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}
    left = collate(rows, pad_token_id=0, padding_side="left", pad_to_multiple_of=4)
    assert left["input_ids"].tolist() == [[0, 5, 6, 2], [0, 0, 7, 2]]
    assert left["labels"].tolist() == [[-100, -100, 6, 2], [-100, -100, -100, 2]]
    assert collate(rows, pad_token_id=0, max_length=5)["labels"].shape == (2, 5)


@pytest.fixture
def data(plain, jsonl):
    rows = [{"context": "stone " * (n * 7 % 11), "question": f"q{n}", "answers": [f"a{n}"]} for n in range(43)]
    return build_dataset(section(jsonl(rows)), plain)


def loader(data, *, workers=0, world=1, rank=0, training=True, local=2, **fields):
    return build_loader(
        data,
        DataloaderSection(num_workers=workers, **fields),
        scheduler=StepSchedulerSection(global_batch_size=12, local_batch_size=local),
        rank=rank,
        world_size=world,
        seed=5,
        pad_token_id=0,
        training=training,
    )


def rows_of(batches) -> list[list[int]]:
    return [batch["rows"].tolist() for batch in batches]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("persistent", [False, True])
def test_resume_in_the_middle_of_an_epoch(data, workers, persistent):
    fields = {"workers": workers, "persistent_workers": persistent, "group_by_length": True}
    straight = loader(data, **fields)
    whole = [rows_of(straight), rows_of(straight)]
    assert len(whole[0]) == 4 * 6
    assert whole[0] != whole[1]
    broken = loader(data, **fields)
    first = rows_of(itertools.islice(broken, 2 * 6))
    state = broken.state_dict()
    assert (state["epoch"], state["next_step"]) == (0, 2)
    fresh = loader(data, **fields)
    fresh.load_state_dict(state)
    fresh.set_epoch(0)
    assert first + rows_of(fresh) == whole[0]
    # The same loader can go back, too, with batches still under way in its workers.
    broken.load_state_dict(state)
    assert rows_of(broken) == whole[0][12:]
    fresh.set_epoch(1)
    assert rows_of(fresh) == whole[1]


def test_resume_with_other_processes_workers_and_local_batch(data):
    one = loader(data)
    list(itertools.islice(one, 6))
    state = one.state_dict()
    rest = rows_of(one.__class__.__iter__(one))
    parts = []
    for rank in range(2):
        two = loader(data, world=2, rank=rank, local=3, workers=2)
        two.load_state_dict(state)
        parts.append(rows_of(two))
    assert len(parts[0]) == len(parts[1]) == 3 * 2
    for step in range(3):
        gathered = [row for part in parts for batch in part[step * 2 : step * 2 + 2] for row in batch]
        assert sorted(gathered) == sorted(row for batch in rest[step * 6 : step * 6 + 6] for row in batch)


def test_state_inside_a_step_and_at_the_end_of_an_epoch(data):
    one = loader(data)
    batches = iter(one)
    for _ in range(8):
        next(batches)
    assert (one.epoch, one.next_step) == (0, 1)
    for _ in range(16):
        next(batches)
    assert (one.epoch, one.next_step) == (1, 0)
    assert next(batches, None) is None
    assert (one.epoch, one.next_step) == (1, 0)
    one.set_epoch(1)
    assert len(list(one)) == 24
    assert one.epoch == 2


def test_state_of_other_data_is_refused(data):
    state = loader(data).state_dict()
    with pytest.raises(DataError, match="data or their order are not the same") as caught:
        loader(data, group_by_length=True).load_state_dict(state)
    assert caught.value.found == "group_by_length: True"


@pytest.mark.parametrize("workers", [0, 2])
def test_iterating_leaves_the_global_random_numbers_alone(data, workers):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    list(loader(data, workers=workers))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_validation_sees_each_row_once(data, world):
    ranks = [loader(data, world=world, rank=rank, training=False, batch_size=5, drop_last=True) for rank in range(world)]
    lists = [list(one) for one in ranks]
    assert len({len(batches) for batches in lists}) == 1
    assert sorted(row for batches in lists for batch in batches for row in batch["rows"].tolist()) == list(range(43))
    assert [rows_of(one) for one in ranks] == [rows_of(batches) for batches in lists]


def test_empty_micro_batches_are_dummies(plain, jsonl):
    small = build_dataset(section(jsonl()), plain)
    batches = [batch for rank in range(2) for batch in loader(small, world=2, rank=rank)]
    assert sorted(row for batch in batches for row in batch["rows"].tolist()) == [0, 1, 2]
    empty = [batch for batch in batches if not len(batch["rows"])]
    assert len(empty) == 3
    for batch in empty:
        assert batch["input_ids"].shape[0] == 1
        assert bool((batch["labels"] == -100).all())
        assert bool(batch["attention_mask"].all())


def test_rows_are_filled_as_asked(plain, jsonl, data):
    assert {batch["input_ids"].shape[1] % 16 for batch in loader(data, pad_seq_len_divisible=16)} == {0}
    fixed = build_dataset(section(jsonl(), padding="max_length", seq_length=80), plain)
    assert {batch["input_ids"].shape[1] for batch in loader(fixed)} == {80}


@pytest.mark.parametrize("group", [False, True])
def test_rows_of_a_step_are_dealt_longest_first(group):
    one = sampler(group_by_length=group, local_batch_size=3)
    batches = [LENGTHS[batch].tolist() for batch in one]
    for start in range(0, len(batches), one.micro_batches_per_step):
        step = [length for batch in batches[start : start + one.micro_batches_per_step] for length in batch]
        assert step == sorted(step, reverse=True)


@pytest.mark.parametrize("epoch", [0, 1])
def test_the_longest_row_comes_in_the_first_grouped_step(epoch: int) -> None:
    lengths = np.arange(1, 65, dtype=np.int32)[permutation(64, 3, 0, 0)]
    settings_ = {"global_batch_size": 4, "local_batch_size": 4, "rank": 0, "world_size": 1, "seed": 5}
    sampler = GlobalBatchSampler(lengths, shuffle=True, group_by_length=True, drop_last=False, **settings_)
    sampler.set_epoch(epoch)
    steps = list(sampler)
    assert lengths[steps[0][0]] == 64
    assert sorted(row for step in steps for row in step) == list(range(64))
