"""The loader: micro-batches of one rank, with a position that can be saved and resumed exactly."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torchdata.stateful_dataloader import StatefulDataLoader

from automodel.data.batch import Batch, TokenRow, collate, has_images
from automodel.data.dataset import TokenizedDataset
from automodel.data.encode import IGNORED
from automodel.data.sampler import GlobalBatchSampler
from automodel.errors import DataError
from automodel.recipe.schema import DataloaderSection, StepSchedulerSection

# The position is counted here (see Loader), so workers need not send theirs with each batch.
_NEVER = 2**60


class _Numbered:
    """The rows of a data set with their numbers, so that a bad batch can be named."""

    def __init__(self, dataset: TokenizedDataset) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> tuple[int, TokenRow]:
        return index, self._dataset[index]


class _Collate:
    """Makes a batch of the rows of a micro-batch; an object, so that worker processes can be sent it.

    With `alike`, a batch without images gets the dummy as its last row, so that all ranks use the same parts of the model.
    """

    def __init__(
        self, dummy: TokenRow, *, pad_token_id: int, multiple: int | None, length: int | None, side: Literal["left", "right"], alike: bool
    ) -> None:
        self._dummy = {**dummy, "labels": np.full_like(dummy["labels"], IGNORED)}
        self._alike = alike
        self._pad, self._multiple, self._length = pad_token_id, multiple, length
        self._side: Literal["left", "right"] = side

    def __call__(self, numbered: Sequence[tuple[int, TokenRow]]) -> Batch:
        rows = [row for _, row in numbered] or [self._dummy]
        if self._alike and not any(has_images(row) for row in rows):
            rows.append(self._dummy)
        batch = collate(rows, pad_token_id=self._pad, pad_to_multiple_of=self._multiple, max_length=self._length, padding_side=self._side)
        batch["rows"] = torch.tensor([number for number, _ in numbered], dtype=torch.int64)
        return batch


class Loader:
    """Micro-batches of one rank; iterating goes from the current position to the end of the current epoch.

    A batch holds `input_ids`, `attention_mask`, `labels` and what images need as `collate` makes them, and `rows`: the numbers of its rows,
    int64 [rows].

    Every rank yields the same number of micro-batches. Where a rank has no rows left, the batch is a dummy: one real row whose labels are
    all -100 (and `rows` is empty), so that the rank takes part in collectives and adds nothing. With several ranks and images, such a row
    also stands at the end of a batch without any (and is not in `rows`).

    In training, the position is (epoch, step), counted by what was taken from here and not by what workers have prefetched. After the last
    batch of an epoch it is the beginning of the next one. In validation, each iteration goes over all rows again.
    """

    def __init__(self, loader: Any, sampler: GlobalBatchSampler, *, training: bool) -> None:
        self._loader, self._sampler, self._training = loader, sampler, training
        self._taken = 0

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps (training) or rounds over the ranks (validation) of an epoch."""
        return self._sampler.steps_per_epoch

    @property
    def micro_batches_per_step(self) -> int:
        """Micro-batches that make up one step; the same on every rank."""
        return self._sampler.micro_batches_per_step

    @property
    def epoch(self) -> int:
        """The epoch of the next step, counted from 0."""
        return self._position()[0]

    @property
    def next_step(self) -> int:
        """The next step inside the epoch, counted from 0."""
        return self._position()[1]

    def __len__(self) -> int:
        return len(self._sampler)

    def set_epoch(self, epoch: int) -> None:
        """Go to the beginning of an epoch; the current epoch keeps its position, so a resumed run goes on where it was."""
        if epoch != self.epoch:
            self._go(epoch, 0)

    def __iter__(self) -> Iterator[Batch]:
        epoch, step = self._position() if self._training else (0, 0)
        self._go(epoch, step)
        for batch in self._loader:
            self._taken += 1
            yield batch
        if self._training:
            self._go(epoch + 1, 0)

    def _go(self, epoch: int, step: int) -> None:
        self._sampler.load_state_dict({"epoch": epoch, "next_step": step})
        self._taken = step * self.micro_batches_per_step

    def _position(self) -> tuple[int, int]:
        epoch, step = self._sampler.epoch, self._taken // self.micro_batches_per_step
        return (epoch + 1, 0) if step >= self.steps_per_epoch else (epoch, step)

    def state_dict(self) -> dict[str, Any]:
        """Return the position and what it depends on; inside a step, the position is the beginning of that step."""
        epoch, step = self._position()
        return {"epoch": epoch, "next_step": step, "order": self._sampler.order_key()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a saved position; the number of processes, of workers and the local batch size may differ.

        Raises:
            DataError: the rows or their order are not those of the saved run.
        """
        saved, now = state["order"], self._sampler.order_key()
        if saved != now:
            changed = [name for name in now if saved.get(name) != now[name]]
            raise DataError(
                "The run cannot go on where it stopped: the data or their order are not the same.",
                found=", ".join(f"{name}: {now[name]}" for name in changed),
                expected=", ".join(f"{name}: {saved.get(name)}" for name in changed) + " (as saved)",
                fix="resume with the same data settings, or start a new run from the checkpoint's model folder",
            )
        self._go(state["epoch"], state["next_step"])


def _quiet_loader(*args: Any, **kwargs: Any) -> Any:
    """Return a StatefulDataLoader without its remark on a torch function that users cannot do anything about."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*set_vital.*")
        return StatefulDataLoader(*args, **kwargs)


def build_sampler(
    dataset: TokenizedDataset, section: DataloaderSection, *, scheduler: StepSchedulerSection, rank: int, world_size: int, seed: int, training: bool
) -> GlobalBatchSampler:
    """Build the order of rows of one data-parallel rank, as `build_loader` uses it.

    Raises:
        RecipeError: the global batch cannot be dealt evenly.
        DataError: the settings leave no step.
    """
    local = scheduler.local_batch_size if training else section.batch_size or scheduler.local_batch_size
    return GlobalBatchSampler(
        dataset.lengths,
        global_batch_size=scheduler.global_batch_size if training else local * world_size,
        local_batch_size=local,
        rank=rank,
        world_size=world_size,
        seed=seed,
        shuffle=training if section.shuffle is None else section.shuffle,
        group_by_length=section.group_by_length or not training,
        drop_last=section.drop_last and training,
    )


def build_loader(
    dataset: TokenizedDataset,
    section: DataloaderSection,
    *,
    scheduler: StepSchedulerSection,
    rank: int = 0,
    world_size: int = 1,
    seed: int = 0,
    pad_token_id: int,
    training: bool,
    padding_side: Literal["left", "right"] = "right",
) -> Loader:
    """Build the loader of one data-parallel rank.

    Training: steps of `global_batch_size` rows, shuffled each epoch unless told otherwise. Validation: each row exactly once over the
    ranks; without shuffle the rows are taken by length, which saves padding and changes no sum.

    Raises:
        RecipeError: the global batch cannot be dealt evenly.
        DataError: the settings leave no step.
    """
    sampler = build_sampler(dataset, section, scheduler=scheduler, rank=rank, world_size=world_size, seed=seed, training=training)
    example = dataset.media.example if dataset.media is not None else None
    fill = _Collate(
        dataset[example or 0],
        pad_token_id=pad_token_id,
        multiple=section.pad_seq_len_divisible,
        length=dataset.row_length,
        side=padding_side,
        alike=example is not None and world_size > 1,
    )
    loader = _quiet_loader(
        _Numbered(dataset),
        batch_sampler=sampler,
        num_workers=section.num_workers,
        collate_fn=fill,
        pin_memory=torch.cuda.is_available() if section.pin_memory is None else section.pin_memory and torch.cuda.is_available(),
        prefetch_factor=section.prefetch_factor if section.num_workers else None,
        persistent_workers=section.persistent_workers and section.num_workers > 0,
        # An own generator: the loader draws worker seeds from it, and the global stream (dropout) must not feel that.
        generator=torch.Generator().manual_seed(seed),
        snapshot_every_n_steps=_NEVER,
    )
    return Loader(loader, sampler, training=training)
