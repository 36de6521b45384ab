"""Safetensors files seen from outside: headers, sizes and indexes, without loading a tensor.

Format (safetensors 0.3 and later): 8 bytes little-endian header length, a JSON header, then the tensors without gaps.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from automodel.errors import ModelError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
# A header longer than this is refused by the safetensors library as well.
MAX_HEADER_BYTES = 100_000_000
BITS = {"F64": 64, "I64": 64, "U64": 64, "C64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16, "U16": 16, "I8": 8, "U8": 8}
BITS |= {"BOOL": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4}
AGAIN = "copy or download the file again; it is damaged or was not written to its end"


@dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """One tensor of a file: number type, shape, and its bytes `start` to `end` after the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True, kw_only=True)
class Header:
    """The header of one safetensors file."""

    path: Path
    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]
    file_bytes: int


@dataclass(frozen=True, kw_only=True)
class FolderReport:
    """What lies in a folder of weights: the files, the tensors by name, and everything that is wrong with them."""

    directory: Path
    files: tuple[str, ...]
    tensors: dict[str, TensorInfo]
    bytes: int
    problems: tuple[ModelError, ...]

    @property
    def parameters(self) -> int:
        """Number of elements over all tensors."""
        return sum(info.size for info in self.tensors.values())

    @property
    def ok(self) -> bool:
        """Say whether nothing is wrong."""
        return not self.problems

    def check(self) -> None:
        """Raise the first problem, if there is one."""
        if self.problems:
            raise self.problems[0]


def read_header(path: str | Path) -> Header:
    """Read and check the header of a safetensors file.

    Raises:
        ModelError: the file is empty, truncated, longer than its header says, or no safetensors file at all.
    """
    path = Path(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > MAX_HEADER_BYTES:
            raise ModelError(f"{path} is not a safetensors file", found=f"{size:,} bytes beginning with {start!r}", expected=_form(), fix=AGAIN)
        if size < 8 + length:
            raise ModelError(f"{path} is truncated", found=f"{size:,} bytes", expected=f"a header that alone ends at byte {8 + length:,}", fix=AGAIN)
        raw = file.read(length)
    tensors, metadata = _parse(path, raw)
    expected = 8 + length + max((info.end for info in tensors.values()), default=0)
    if size != expected:
        what = f"{path} is truncated" if size < expected else f"{path} is longer than its header says"
        raise ModelError(what, found=f"{size:,} bytes", expected=f"{expected:,} bytes", fix=AGAIN)
    return Header(path=path, tensors=tensors, metadata=metadata, file_bytes=size)


def inspect_folder(directory: str | Path, *, single: str = SINGLE, index: str = INDEX) -> FolderReport:
    """Look at every safetensors file that a model folder names, and collect what is wrong instead of stopping at the first fault."""
    directory = Path(directory)
    problems: list[ModelError] = []
    placed, total = _index(directory / index, problems)
    names = sorted(set(placed.values())) if placed is not None else [single] if (directory / single).is_file() else []
    tensors: dict[str, TensorInfo] = {}
    found = 0
    for name in names:
        file = directory / name
        if not file.is_file():
            here = ", ".join(sorted(p.name for p in directory.glob("*.safetensors"))) or "no safetensors file"
            problems.append(
                ModelError(
                    f"{directory / index} names {name}, which is not there",
                    found=here,
                    expected=f"all {len(names)} files that it names",
                    fix=f"copy or download {name} again into {directory}",
                )
            )
            continue
        try:
            header = read_header(file)
        except ModelError as problem:
            problems.append(problem)
            continue
        found += header.file_bytes
        for tensor, info in header.tensors.items():
            if placed is not None and placed.get(tensor) != name:
                where = placed.get(tensor, "no file")
                problems.append(
                    ModelError(f"{index} and {name} disagree about {tensor}", found=f"it lies in {name}", expected=f"{where} by the index", fix=AGAIN)
                )
            tensors[tensor] = info
    if placed is not None and not problems:
        problems += _missing(placed, tensors, index=index)
    if total is not None and not problems:
        problems += _total(tensors, total, index=index)
    return FolderReport(directory=directory, files=tuple(names), tensors=tensors, bytes=found, problems=tuple(problems))


def _parse(path: Path, raw: bytes) -> tuple[dict[str, TensorInfo], dict[str, str]]:
    try:
        data = json.loads(raw)
        metadata = data.pop("__metadata__", None) or {}
        tensors = {
            name: TensorInfo(dtype=t["dtype"], shape=tuple(t["shape"]), start=t["data_offsets"][0], end=t["data_offsets"][1])
            for name, t in data.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ModelError(f"the header of {path} cannot be read", found=f"{type(error).__name__}: {error}", expected=_form(), fix=AGAIN) from error
    position = 0
    for name, info in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if info.start != position:
            raise ModelError(
                f"the header of {path} has a gap or overlap at {name}", found=f"it starts at {info.start:,}", expected=f"{position:,}", fix=AGAIN
            )
        bits = BITS.get(info.dtype)
        if bits is not None and (info.end - info.start) * 8 != info.size * bits:
            raise ModelError(
                f"{name} in {path} has the wrong number of bytes",
                found=f"{info.end - info.start:,}",
                expected=f"{info.size * bits // 8:,} for {info.dtype} {list(info.shape)}",
                fix=AGAIN,
            )
        position = info.end
    return tensors, metadata


def _index(path: Path, problems: list[ModelError]) -> tuple[dict[str, str] | None, int | None]:
    """Return tensor name -> file name and the total size in bytes, or nothing when there is no index."""
    if not path.is_file():
        return None, None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        placed = {str(name): str(file) for name, file in data["weight_map"].items()}
        total = (data.get("metadata") or {}).get("total_size")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        problems.append(
            ModelError(f"{path} cannot be read", found=f"{type(error).__name__}: {error}", expected='JSON with a "weight_map"', fix=AGAIN)
        )
        return {}, None
    return placed, int(total) if isinstance(total, (int, float)) else None


def _missing(placed: dict[str, str], tensors: dict[str, TensorInfo], *, index: str) -> list[ModelError]:
    lost = [name for name in placed if name not in tensors]
    if not lost:
        return []
    first = lost[0]
    return [
        ModelError(f"{placed[first]} lacks {first}, which {index} says it holds", found=f"{len(lost)} tensors missing", expected="none", fix=AGAIN)
    ]


def _total(tensors: dict[str, TensorInfo], total: int, *, index: str) -> list[ModelError]:
    # Tied weights may be counted twice in the total of older writers, so only less than the tensors is a fault.
    held = sum(info.end - info.start for info in tensors.values())
    if total >= held:
        return []
    return [ModelError(f"{index} gives a total size smaller than its tensors", found=f"{total:,} bytes", expected=f"{held:,} bytes", fix=AGAIN)]


def _form() -> str:
    return "8 bytes of header length, a JSON header, then the tensors"
