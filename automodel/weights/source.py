"""Where the tensors of a checkpoint lie: which file, at which byte. No torch."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from automodel.errors import ModelError
from automodel.weights.files import BITS, INDEX, SINGLE, inspect_folder, read_header

PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")

Place = str | os.PathLike[str]


@dataclass(frozen=True, kw_only=True)
class Stored:
    """One tensor in a file: number type as in the header, shape, and its first and last byte counted from the start of the file."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def bits(self) -> int:
        """Bits of one element; 0 for a number type that is not known."""
        return BITS.get(self.dtype, 0)


@dataclass(frozen=True, kw_only=True)
class Source:
    """The tensors of a checkpoint by name, and what to call it in errors."""

    name: str
    files: tuple[Path, ...]
    tensors: dict[str, Stored]

    @property
    def bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(one.end - one.start for one in self.tensors.values())


def open_source(place: Place | Iterable[Place]) -> Source:
    """Read the headers of a model folder, of one safetensors file, or of several.

    Raises:
        ModelError: no safetensors file there, only pickled ones, a missing shard, a damaged file, or a tensor that lies in two files.
    """
    if isinstance(place, (str, os.PathLike)):
        path = Path(place)
        return _folder(path) if path.is_dir() else _files(str(path), [path])
    paths = [Path(one) for one in place]
    return _files(", ".join(str(path) for path in paths), paths)


def refuse_pickled(folder: Path) -> None:
    """Raise with the command that converts them if a folder holds pickled weights in place of safetensors."""
    found = sorted({path.name for pattern in PICKLED for path in folder.glob(pattern) if path.name != "training_args.bin"})
    if found:
        raise _pickled(folder, found)


def _pickled(folder: Path, found: list[str]) -> ModelError:
    return ModelError(
        f"{folder} holds pickled weights only, and opening such a file can run code",
        found=", ".join(found[:4]) + (f" and {len(found) - 4} more" if len(found) > 4 else ""),
        expected=f"{SINGLE}, or {INDEX} with its files",
        fix=f"python -m automodel.weights.convert {folder} writes safetensors files beside them without running code of theirs",
    )


def _folder(folder: Path) -> Source:
    report = inspect_folder(folder)
    report.check()
    if not report.files:
        refuse_pickled(folder)
        found = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "an empty folder"
        fix = f"give the folder that holds {SINGLE} or {INDEX}"
        raise ModelError(f"{folder} holds no {SINGLE} and no {INDEX}", found=found, expected="safetensors weights", fix=fix)
    return _files(str(folder), [folder / name for name in report.files])


def _files(name: str, paths: list[Path]) -> Source:
    tensors: dict[str, Stored] = {}
    for path in paths:
        if path.suffix in {Path(pattern).suffix for pattern in PICKLED}:
            raise _pickled(path.parent, [path.name])
        if not path.is_file():
            here = ", ".join(sorted(one.name for one in path.parent.glob("*.safetensors"))) or "no safetensors file"
            raise ModelError(f"{path} is not there", found=here, expected=path.name, fix=f"copy or download {path.name} again")
        header = read_header(path)
        # read_header made sure that the data is the rest of the file
        base = header.file_bytes - max((info.end for info in header.tensors.values()), default=0)
        for tensor, info in header.tensors.items():
            if tensor in tensors:
                found = f"{tensors[tensor].path.name} and {path.name}"
                raise ModelError(
                    f"{tensor} lies in two files", found=found, expected="one file for each tensor", fix="give only the files of one checkpoint"
                )
            tensors[tensor] = Stored(path=path, dtype=info.dtype, shape=info.shape, start=base + info.start, end=base + info.end)
    return Source(name=name, files=tuple(paths), tensors=tensors)
