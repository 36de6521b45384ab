"""Turning pickled weight files into safetensors: `python -m automodel.weights.convert FOLDER`.

The files are opened with torch's restricted reader, which builds tensors and plain containers and refuses everything else, so that no code of
theirs runs.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from automodel.errors import AutomodelError, ModelError
from automodel.weights.save import write_shards
from automodel.weights.source import PICKLED

# Where the weights lie in files that hold more than them.
INSIDE = ("state_dict", "model_state_dict", "model", "module")


def convert(folder: str | os.PathLike[str], *, max_shard_size: int | str = "5GB") -> tuple[Path, ...]:
    """Write the pickled weights of a model folder as safetensors files beside them, and return those.

    Files are mapped, so that memory is only needed for one tensor at a time. Names that share one tensor are written once, under the first.

    Raises:
        ModelError: no pickled weights there, one that the index names is missing, or a file holds something other than tensors.
    """
    place = Path(folder)
    tensors: dict[str, Tensor] = {}
    for path in pickled_files(place):
        for name, tensor in _read(path).items():
            if name in tensors:
                raise ModelError(
                    f"{name} lies in two files of {place}", found=path.name, expected="one file for each tensor", fix="remove the other files"
                )
            tensors[name] = tensor
    seen: set[tuple[int, tuple[int, ...], torch.dtype]] = set()
    for name, tensor in list(tensors.items()):
        key = (tensor.data_ptr(), tuple(tensor.shape), tensor.dtype)
        if key in seen and tensor.numel():
            del tensors[name]
        seen.add(key)
    return write_shards(place, tensors, max_shard_size=max_shard_size)


def pickled_files(folder: Path) -> list[Path]:
    """Return the pickled weight files of a folder: those that an index names, or the one that is there.

    Raises:
        ModelError: there are none, some are missing, or it is not clear which belong together.
    """
    index = folder / "pytorch_model.bin.index.json"
    if index.is_file():
        paths = [folder / name for name in sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))]
        lost = next((path for path in paths if not path.is_file()), None)
        if lost is not None:
            raise ModelError(f"{index} names {lost.name}, which is not there", found=str(folder), expected=lost.name, fix=f"fetch {lost.name} again")
        return paths
    single = folder / "pytorch_model.bin"
    paths = [single] if single.is_file() else sorted({path for pattern in PICKLED for path in folder.glob(pattern)})
    paths = [path for path in paths if path.name not in ("training_args.bin", "optimizer.pt", "scheduler.pt")]
    if len(paths) != 1:
        found = ", ".join(path.name for path in paths) or "no such file"
        raise ModelError(f"{folder} does not hold one pickled model", found=found, expected="pytorch_model.bin, or its index", fix="give that folder")
    return paths


def _read(path: Path) -> Mapping[str, Tensor]:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        found = _read_old(path, error)
    for name in INSIDE:
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
    if not isinstance(found, Mapping) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        what = type(found).__name__ if not isinstance(found, Mapping) else next((k for k, v in found.items() if not isinstance(v, Tensor)), "nothing")
        raise ModelError(f"{path} is no state dict", found=str(what), expected="tensors by name", fix="save model.state_dict() instead")
    return found


def _read_old(path: Path, first: Exception) -> object:
    """Read the form before torch 1.6, which cannot be mapped."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else str(first)
        fix = "take the model from a place that offers safetensors"
        raise ModelError(f"{path} cannot be read without running its code", found=reason, expected="tensors by name", fix=fix) from error


def main(arguments: list[str] | None = None) -> int:
    """Convert the folder named on the command line; print the files, or what is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m automodel.weights.convert", description="Write pickled weights as safetensors files beside them."
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--max-shard-size", default="5GB")
    args = parser.parse_args(arguments)
    try:
        for path in convert(args.folder, max_shard_size=args.max_shard_size):
            print(path)
    except AutomodelError as error:
        print(error)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
