"""The order of rows: which rows make up an optimizer step, and which of them each rank computes.

The rows of a step depend on seed, epoch and step only; world size and local batch size decide merely how they are dealt out. So the
same recipe sees the same batches on one process and on many, and a run can be resumed with another number of processes.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from automodel.data.order import permutation
from automodel.errors import DataError, RecipeError

# Global batches whose rows are sorted together by group_by_length: enough for like lengths to meet, few enough to stay random.
_CHUNK = 50
# Keys that keep the two shuffles of an epoch apart.
_ROWS, _BATCHES = 0, 1

Rows = NDArray[np.int64]


class GlobalBatchSampler:
    """Yields the micro-batches (lists of row numbers) of one rank, for one epoch.

    A micro-batch may be shorter than `local_batch_size`, or empty, in the last step of an epoch; every rank always gets the same number
    of them.

    Args:
        lengths: tokens of each row, int [rows].
        global_batch_size: rows behind one optimizer step, over all ranks.
        local_batch_size: most rows of a micro-batch.
        rank: this rank among the data-parallel ones.
        world_size: number of data-parallel ranks.
        seed: seed of the order.
        shuffle: draw a new order each epoch; else rows keep theirs.
        group_by_length: rows of like length share a step.
        drop_last: leave out the rows that do not fill a last step.

    Raises:
        RecipeError: the global batch cannot be dealt evenly.
        DataError: drop_last leaves no step.
    """

    def __init__(
        self,
        lengths: Sequence[int] | NDArray[np.integer],
        *,
        global_batch_size: int,
        local_batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        seed: int = 0,
        shuffle: bool = True,
        group_by_length: bool = False,
        drop_last: bool = False,
    ) -> None:
        self._lengths: Rows = np.asarray(lengths, dtype=np.int64)
        self.global_batch_size = global_batch_size
        self._local, self._rank, self._world = local_batch_size, rank, world_size
        self._seed, self._shuffle, self._group, self._drop_last = seed, shuffle, group_by_length, drop_last
        if global_batch_size % (local_batch_size * world_size):
            raise _not_divisible(global_batch_size, local_batch_size, world_size)
        self.micro_batches_per_step = global_batch_size // (local_batch_size * world_size)
        rows = len(self._lengths)
        self.steps_per_epoch = rows // global_batch_size if drop_last else -(-rows // global_batch_size)
        if not self.steps_per_epoch:
            raise DataError(
                "The data set is smaller than one global batch, and drop_last leaves that out.",
                found=f"{rows} rows, global_batch_size {global_batch_size}",
                expected="at least one whole global batch",
                fix="set `dataloader.drop_last: false`, or a smaller `step_scheduler.global_batch_size`",
            )
        self.epoch = 0
        self.next_step = 0

    def set_epoch(self, epoch: int) -> None:
        """Go to the beginning of another epoch; the current epoch keeps its position."""
        if epoch != self.epoch:
            self.epoch, self.next_step = epoch, 0

    def state_dict(self) -> dict[str, int]:
        """Return the position: the epoch and the step that comes next."""
        return {"epoch": self.epoch, "next_step": self.next_step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go to a position from `state_dict`."""
        self.epoch, self.next_step = state["epoch"], state["next_step"]

    def order_key(self) -> dict[str, int | bool]:
        """Return all that decides the order of rows: a position means the same only where these are equal."""
        return {
            "rows": len(self._lengths),
            "checksum of row lengths": zlib.crc32(self._lengths.tobytes()),
            "global_batch_size": self.global_batch_size,
            "seed": self._seed,
            "shuffle": self._shuffle,
            "group_by_length": self._group,
            "drop_last": self._drop_last,
        }

    def steps(self, epoch: int) -> list[Rows]:
        """Return the rows of each optimizer step of an epoch, over all ranks; longest row first inside a step."""
        count, size = len(self._lengths), self.global_batch_size
        order = permutation(count, self._seed, epoch, _ROWS) if self._shuffle else np.arange(count)
        if self._group:
            order = self._grouped(order, epoch)
        batches = [order[start : start + size] for start in range(0, count, size)][: self.steps_per_epoch]
        # Longest first: the largest allocation comes early, and ties keep to the row number so that the order is one and the same everywhere.
        return [batch[np.lexsort((batch, -self._lengths[batch]))] for batch in batches]

    def _grouped(self, order: Rows, epoch: int) -> Rows:
        """Bring rows of like length together; the rows that fill no step stay at the end, so that drop_last takes random ones."""
        size = self.global_batch_size
        if not self._shuffle:
            return order[np.argsort(-self._lengths[order], kind="stable")]
        whole = len(order) - len(order) % size
        chunks = [order[start : min(start + _CHUNK * size, whole)] for start in range(0, whole, _CHUNK * size)]
        ordered = [chunk[np.argsort(-self._lengths[chunk], kind="stable")] for chunk in chunks]
        if not ordered:
            return order
        batches = np.concatenate(ordered).reshape(-1, size)
        batches = batches[permutation(len(batches), self._seed, epoch, _BATCHES)]
        # The longest step comes first, so that a run that needs too much memory fails at once and not after an hour.
        longest = int(np.argmax(self._lengths[batches].max(axis=1)))
        batches[[0, longest]] = batches[[longest, 0]]
        return np.concatenate([batches.reshape(-1), order[whole:]])

    def deal(self, rows: Rows) -> list[list[int]]:
        """Deal the rows of one step: neighbours in length share a micro-batch, and the ranks take turns in getting the longer ones."""
        cells = self.micro_batches_per_step * self._world
        parts = np.array_split(rows, cells)
        mine = []
        for micro in range(self.micro_batches_per_step):
            place = self._rank if micro % 2 == 0 else self._world - 1 - self._rank
            mine.append(parts[micro * self._world + place].tolist())
        return mine

    def __len__(self) -> int:
        return self.steps_per_epoch * self.micro_batches_per_step

    def __iter__(self) -> Iterator[list[int]]:
        for rows in self.steps(self.epoch)[self.next_step :]:
            yield from self.deal(rows)


def _not_divisible(size: int, local: int, world: int) -> RecipeError:
    unit = local * world
    near = sorted({max(size - size % unit, unit), size - size % unit + unit})
    return RecipeError(
        "The global batch cannot be dealt evenly to the processes.",
        found=f"global_batch_size {size}, local_batch_size {local}, {world} data-parallel process{'es' if world > 1 else ''}",
        expected=f"a multiple of {unit} (local batch times processes)",
        fix=f"set `step_scheduler.global_batch_size` to {' or '.join(map(str, near))}, or another `local_batch_size`",
    )
