"""Following a plan: tensors are made, mapped or copied, in the order in which the files hold them."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import torch
from torch import Tensor

from automodel.errors import ModelError
from automodel.weights.layout import DTYPES, converts, disk_view
from automodel.weights.mapping import CAN_MAP, Extent, Files, whole_runs
from automodel.weights.pieces import Piece
from automodel.weights.plan import Plan
from automodel.weights.source import Source, Stored

CHUNK_BYTES = 16 << 20
MOST_WORKERS = 4
# Below this a copy costs next to nothing, and the files may be overwritten in place afterwards.
MAP_FROM_BYTES = 64 << 20

Box = tuple[slice, ...]
ShardOf = Callable[[str, tuple[int, ...]], "Box | None"]


@dataclass(kw_only=True)
class Goal:
    """What is to be filled.

    Args:
        shapes: whole shape of every built tensor.
        dtypes: number type of every built tensor.
        tensors: those that are there already, as this process holds them; the others are made on `device` and entered.
        device: where new tensors go.
        shard_of: (name, whole shape) -> the box that this process holds, or None for all.
    """

    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, torch.dtype]
    tensors: dict[str, Tensor]
    device: torch.device
    shard_of: ShardOf | None = None

    def box(self, name: str) -> Box | None:
        """Return the box of a tensor that this process holds, or None for all of it."""
        return None if self.shard_of is None else self.shard_of(name, self.shapes[name])

    def tensor(self, name: str) -> Tensor:
        """Return the tensor to fill, made if it is not there yet."""
        if name not in self.tensors:
            shape = self.shapes[name]
            box = self.box(name) or ()
            sizes = [len(range(size)[cut]) for size, cut in zip(shape, box, strict=False)]
            self.tensors[name] = torch.empty((*sizes, *shape[len(sizes) :]), dtype=self.dtypes[name], device=self.device)
        return self.tensors[name]


@dataclass
class Done:
    """How many bytes came how."""

    bytes_read: int = 0
    bytes_mapped: int = 0


@dataclass(frozen=True)
class _Job:
    """Some rows of a piece: `rows` of its box on disk, of this shape in all, which lie in `extent`."""

    piece: Piece
    rows: slice
    shape: tuple[int, ...]
    extent: Extent


@dataclass
class _Faults:
    """Tensors with numbers that are not finite, and how many each has."""

    counts: dict[str, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def look(self, name: str, tensor: Tensor) -> None:
        if tensor.is_floating_point() and tensor.dtype.itemsize > 1:
            bad = sum(_not_finite(_rows(tensor, rows)) for rows in _row_cuts(tensor))
            with self.lock:
                if bad:
                    self.counts[name] = self.counts.get(name, 0) + bad

    def check(self, where: str) -> None:
        if self.counts:
            first, *others = self.counts
            more = f" and {len(others)} more tensors: {', '.join(others[:4])}" if others else ""
            raise ModelError(
                f"{first} of {where} holds numbers that are not finite",
                found=f"{self.counts[first]:,} NaN or Inf in {first}{more}",
                expected="finite numbers in the model's number type",
                fix="take another checkpoint, or load in float32 or bfloat16 if float16 is too narrow for it",
            )


@torch.no_grad()
def fill(source: Source, plan: Plan, goal: Goal, *, check: bool = False, mapped: bool | None = None) -> Done:
    """Fill every tensor of a plan from the files of a checkpoint.

    Raises:
        ModelError: a number type cannot be converted, tied tensors differ, or `check` found numbers that are not finite.
    """
    for piece in plan.pieces:
        _check_dtype(piece, source.tensors[piece.disk], goal.dtypes[piece.built])
    done, faults = Done(), _Faults()
    may_map = CAN_MAP and (mapped if mapped is not None else source.bytes >= MAP_FROM_BYTES)
    with Files() as files:
        for a, b in plan.equal:
            _compare(files, source, a, b)
        rest = []
        for built, pieces in _by_built(plan).items():
            tensor = _mapped(files, source, built, pieces, goal) if may_map else None
            if tensor is None:
                rest += pieces
                continue
            goal.tensors[built] = tensor
            done.bytes_mapped += tensor.nbytes
            if check:
                for piece in pieces:
                    faults.look(piece.disk, tensor[piece.built_slices])
        for piece in plan.pieces:
            goal.tensor(piece.built)
        jobs = list(_jobs(rest, source, goal))
        _run_all(jobs, files, source, goal, faults if check else None)
        done.bytes_read = sum(math.prod(job.shape) * source.tensors[job.piece.disk].bits // 8 for job in jobs)
    faults.check(source.name)
    return done


def _run_all(jobs: list[_Job], files: Files, source: Source, goal: Goal, faults: _Faults | None) -> None:
    """Copy all rows, several at a time: a copy waits for the disk or for new pages of memory more than for the processor."""
    copy = _Staged(goal.device) if goal.device.type == "cuda" else _direct

    @torch.no_grad()
    def run(job: _Job) -> None:
        stored = source.tensors[job.piece.disk]
        files.ahead(job.extent)
        into = _rows(disk_view(goal.tensors[job.piece.built], job.piece), job.rows)
        copy(into, _rows(_on_disk(files, stored)[job.piece.disk_slices], job.rows))
        files.done(job.extent)
        if faults is not None:
            faults.look(job.piece.disk, into)

    workers = 1 if goal.device.type == "cuda" else min(MOST_WORKERS, os.cpu_count() or 1, len(jobs))
    if workers <= 1:
        for job in jobs:
            run(job)
        return
    with ThreadPoolExecutor(workers) as pool:
        for future in [pool.submit(run, job) for job in jobs]:
            future.result()


def _check_dtype(piece: Piece, stored: Stored, wanted: torch.dtype) -> None:
    held = DTYPES.get(stored.dtype)
    if held is None or not converts(held, wanted):
        raise ModelError(
            f"{piece.disk} in {stored.path} holds numbers that the model cannot take",
            found=stored.dtype,
            expected=str(wanted).removeprefix("torch."),
            fix="use the checkpoint before quantization, or let transformers load it with force_hf=True",
        )


def _by_built(plan: Plan) -> dict[str, list[Piece]]:
    found: dict[str, list[Piece]] = {}
    for piece in plan.pieces:
        found.setdefault(piece.built, []).append(piece)
    return found


def _mapped(files: Files, source: Source, built: str, pieces: list[Piece], goal: Goal) -> Tensor | None:
    """Return a tensor that is the bytes of the files, or None where it cannot be: other type, other order, another device, or a shard."""
    shape, dtype = goal.shapes[built], goal.dtypes[built]
    if built in goal.tensors or goal.device.type != "cpu" or goal.box(built) is not None or not math.prod(shape):
        return None
    runs = []
    for piece in sorted(pieces, key=lambda piece: piece.start):
        stored = source.tensors[piece.disk]
        run = _run(piece, shape, stored)
        if DTYPES[stored.dtype] != dtype or run is None:
            return None
        runs.append(run)
    runs = list(whole_runs(runs))
    if runs[0].start % dtype.itemsize:
        return None
    flat = files.joined(runs, dtype) if len(runs) > 1 else files.view(runs[0], dtype)
    return None if flat is None else flat.view(shape)


def _run(piece: Piece, shape: tuple[int, ...], stored: Stored) -> Extent | None:
    """Return the bytes of a piece if they lie one after the other both on disk and in the built tensor: whole rows, untransposed."""
    if piece.transposed or piece.stacked or any(step != 1 for step in piece.step):
        return None
    if piece.count[1:] != shape[1:] or piece.count[1:] != stored.shape[1 if piece.stacked is None else 0 :]:
        return None
    size = stored.bits // 8
    start = stored.start + (piece.disk_start[0] * math.prod(piece.count[1:]) * size if piece.disk_start and piece.stacked is None else 0)
    return Extent(path=stored.path, start=start, length=math.prod(piece.count) * size)


def _jobs(pieces: list[Piece], source: Source, goal: Goal) -> Iterator[_Job]:
    """Yield the pieces in the order of the files, cut into rows of at most `CHUNK_BYTES`."""
    order = {path: index for index, path in enumerate(source.files)}
    pieces = sorted(pieces, key=lambda piece: (order[source.tensors[piece.disk].path], source.tensors[piece.disk].start, piece.disk_start))
    for whole in pieces:
        box = goal.box(whole.built)
        piece = whole if box is None else whole.within(box)
        if piece is None or not math.prod(piece.count):
            continue
        stored = source.tensors[piece.disk]
        cuts = piece.disk_slices
        row = math.prod(stored.shape[1:]) * stored.bits // 8
        first, last = (cuts[0].start, cuts[0].stop) if cuts else (0, 1)
        rows = max(1, CHUNK_BYTES // row)
        for low in range(first, last, rows):
            high = min(low + rows, last)
            extent = Extent(path=stored.path, start=stored.start + low * row, length=(high - low) * row)
            shape = (high - low, *(cut.stop - cut.start for cut in cuts[1:]))
            yield _Job(piece, slice(low - first, high - first), shape, extent)


def _on_disk(files: Files, stored: Stored) -> Tensor:
    dtype = DTYPES[stored.dtype]
    length = stored.end - stored.start
    if stored.start % dtype.itemsize:
        # Files of writers that did not align their header; rare, and one tensor at a time.
        raw = files.look(Extent(path=stored.path, start=stored.start, length=length), torch.uint8)
        return raw.clone().view(dtype).view(stored.shape)
    return files.look(Extent(path=stored.path, start=stored.start, length=length), dtype).view(stored.shape)


def _rows(tensor: Tensor, rows: slice) -> Tensor:
    return tensor[rows] if tensor.ndim else tensor


def _direct(into: Tensor, rows: Tensor) -> None:
    into.copy_(rows)


class _Staged:
    """Copies to a GPU through two page-locked buffers, so that reading the next rows and sending these go on at the same time."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.buffers: list[Tensor] = []
        self.sent: list[torch.cuda.Event | None] = [None, None]
        self.turn = 0

    def __call__(self, into: Tensor, rows: Tensor) -> None:
        size = rows.numel() * rows.dtype.itemsize
        if not self.buffers or self.buffers[0].numel() < size:
            torch.cuda.synchronize(self.device)
            self.buffers = [torch.empty(max(size, CHUNK_BYTES), dtype=torch.uint8, pin_memory=True) for _ in range(2)]
        event = self.sent[self.turn]
        if event is not None:
            event.synchronize()
        stage = self.buffers[self.turn][:size].view(rows.dtype).view(rows.shape)
        stage.copy_(rows)
        # Number types are converted on the device: half the bytes go over where the file holds the narrower one.
        into.copy_(stage.to(self.device, non_blocking=True))
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch has no hints for it
        event.record(torch.cuda.current_stream(self.device))
        self.sent[self.turn] = event
        self.turn = 1 - self.turn


def _compare(files: Files, source: Source, a: str, b: str) -> None:
    one, other = (source.tensors[name] for name in (a, b))
    same = one.shape == other.shape
    if same:
        x, y = _on_disk(files, one), _on_disk(files, other)
        same = all(_equal(_rows(x, rows), _rows(y, rows)) for rows in _row_cuts(x))
        for stored in (one, other):
            files.done(Extent(path=stored.path, start=stored.start, length=stored.end - stored.start))
    if not same:
        raise ModelError(
            f"{a} and {b} of {source.name} differ, and the model has one tensor for both",
            found=f"{list(one.shape)} and {list(other.shape)} with other numbers",
            expected="equal tensors, since the config ties them",
            fix="set tie_word_embeddings to false in the config",
        )


def _equal(x: Tensor, y: Tensor) -> bool:
    # As bytes where they can be: two NaN are then the same number.
    return torch.equal(x.reshape(-1).view(torch.uint8), y.reshape(-1).view(torch.uint8)) if x.dtype == y.dtype else bool((x == y).all())


def _not_finite(tensor: Tensor) -> int:
    # A sum is finite only if everything in it is; counting costs several times as much and is done only where it may find something.
    total = tensor.sum(dtype=torch.promote_types(tensor.dtype, torch.float32))
    return 0 if math.isfinite(total) else tensor.numel() - int(tensor.isfinite().sum())


def _row_cuts(tensor: Tensor) -> Iterator[slice]:
    """Yield runs of rows of at most `CHUNK_BYTES`."""
    count = len(tensor) if tensor.ndim else 1
    rows = max(1, CHUNK_BYTES * count // max(1, tensor.nbytes))
    for low in range(0, count, rows):
        yield slice(low, min(low + rows, count))
