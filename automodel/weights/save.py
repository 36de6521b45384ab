"""Writing a model under the names of its checkpoint: the rules of loading read backwards, then safetensors files with an index."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from automodel.errors import ModelError
from automodel.weights.files import INDEX, SINGLE
from automodel.weights.layout import CODES, disk_view
from automodel.weights.plan import bindings, plan_save
from automodel.weights.rules import Rule, fill, marks, match

CHUNK_BYTES = 64 << 20
# Every header is filled up to a whole number of these, so that tensors begin at places that suit every number type and memory pages.
HEADER_BYTES = 4096
OURS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors")
UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def to_disk(state: Mapping[str, Tensor], rules: Iterable[Rule], *, strict: bool = True) -> dict[str, Tensor]:
    """Return a model's state dict under the names and in the layout of its checkpoint, without tied second names.

    Parts of joined tensors are views of them where their rows lie together; nothing is copied but what is transposed or taken in turns.

    Args:
        state: built name -> tensor.
        rules: the rules of the checkpoint.
        strict: refuse tensors without a rule; else they keep their names.

    Raises:
        ModelError: a tensor has no rule, or does not have the shape that its rule needs.
    """
    rules = tuple(rules)
    known = state if strict else {name: tensor for name, tensor in state.items() if _has_rule(name, rules)}
    plan = plan_save(rules, {name: tuple(tensor.shape) for name, tensor in known.items()})
    found: dict[str, Tensor] = {name: tensor for name, tensor in state.items() if name not in known}
    for piece in plan.pieces:
        view = disk_view(state[piece.built], piece)
        shape = plan.disk[piece.disk]
        if tuple(view.shape) == shape:
            found[piece.disk] = view.contiguous()
            continue
        if piece.disk not in found:
            found[piece.disk] = view.new_empty(shape)
        found[piece.disk][piece.disk_slices] = view
    return found


def from_disk(state: Mapping[str, Tensor], rules: Iterable[Rule], *, prefix: str = "") -> dict[str, Tensor]:
    """Return a state dict with the names of a checkpoint under those of the model; made for hooks of `load_state_dict`.

    What the rules do not speak of, names of the model among it, stays as it is, and so do the pieces of a joined tensor that are not all there:
    `load_state_dict` says what is missing. Tensors that rules drop are left out, and tied names are added.

    Args:
        state: name on disk -> tensor.
        rules: the rules of the checkpoint.
        prefix: what all names of the model begin with here; other names are left alone.
    """
    here = {name[len(prefix) :]: tensor for name, tensor in state.items() if name.startswith(prefix)}
    found: dict[str, Tensor] = {}
    used: set[str] = set()
    rules = tuple(rules)
    for rule in rules:
        if rule.op == "drop":
            used.update(name for name in here if match(rule.disk[0], name) is not None)
        for values in list(bindings(rule.disk[0], here)) if rule.op not in ("tied", "drop") else ():
            names = _names_there(rule, values, here)
            if all(name in here and name not in used for name in names):
                used.update(names)
                built = (fill(name, values) for name in rule.built)
                found.update(zip(built, join(rule, [here[name] for name in names]), strict=True))
    found = {**{name: tensor for name, tensor in here.items() if name not in used}, **found}
    for rule in rules:
        if rule.op == "tied":
            alias, first = rule.built
            if first not in found and alias in found:
                found[first] = found[alias]
            if first in found:
                found[alias] = found[first]
    rest = {name: tensor for name, tensor in state.items() if not name.startswith(prefix)}
    return {**rest, **{prefix + name: tensor for name, tensor in found.items()}}


def join(rule: Rule, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the built tensors of one rule, from those on disk in the rule's order."""
    if rule.transposed:
        tensors = [tensor.mT for tensor in tensors]
    if rule.op == "rename":
        return [tensors[0].contiguous()]
    if rule.op == "concat":
        return [torch.cat(list(tensors), rule.dim)]
    if rule.op == "stack":
        return [torch.stack(list(tensors), rule.dim)]
    if rule.op == "interleave":
        dim = rule.dim % tensors[0].ndim
        return [torch.stack(list(tensors), dim + 1).flatten(dim, dim + 1)]
    size = tensors[0].shape[rule.dim] // len(rule.built)
    sizes = rule.sizes or (size,) * len(rule.built)
    return [tensors[0].narrow(rule.dim, sum(sizes[:index]), wide).contiguous() for index, wide in enumerate(sizes)]


def write_shards(
    folder: str | os.PathLike[str],
    tensors: Mapping[str, Tensor],
    *,
    max_shard_size: int | str = "5GB",
    metadata: Mapping[str, str] | None = None,
) -> tuple[Path, ...]:
    """Write tensors as `model.safetensors`, or in shards with an index, in the names and the form that transformers uses; return the files.

    Each file is written beside its place and then moved there, the index last, so that what was there before stays whole until the new files are;
    weight files of an earlier save that no longer belong are removed at the end. A tensor that is larger than a shard has one for itself.

    Args:
        folder: made if it is not there.
        tensors: name on disk -> tensor, on any device.
        max_shard_size: bytes, or a number with a unit such as "5GB".
        metadata: entered in every header beside {"format": "pt"}.

    Raises:
        ModelError: a number type that safetensors does not know, or a size that cannot be read.
    """
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    shards = _shards(tensors, _size(max_shard_size))
    names = [SINGLE] if len(shards) == 1 else [f"model-{i + 1:05}-of-{len(shards):05}.safetensors" for i in range(len(shards))]
    for name, shard in zip(names, shards, strict=True):
        write_file(place / name, {key: tensors[key] for key in shard}, metadata=metadata)
    if len(shards) > 1:
        total = sum(tensor.numel() * tensor.dtype.itemsize for tensor in tensors.values())
        placed = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
        body = {"metadata": {"total_size": total}, "weight_map": {key: placed[key] for key in sorted(placed)}}
        _replace(place / INDEX, [(json.dumps(body, indent=2) + "\n").encode()])
    else:
        (place / INDEX).unlink(missing_ok=True)
    for old in place.glob("model*.safetensors"):
        if OURS.fullmatch(old.name) and old.name not in names:
            old.unlink()
    return tuple(place / name for name in names)


def write_file(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], *, metadata: Mapping[str, str] | None = None) -> None:
    """Write one safetensors file, one tensor after the other, with no more than one of them copied at a time."""
    for name, tensor in tensors.items():
        if tensor.dtype not in CODES or tensor.is_meta:
            raise ModelError(f"{name} cannot be saved", found=f"{tensor.dtype} on {tensor.device}", expected="numbers of a type of safetensors")
    # The widest types first, then by name, as the safetensors library does: every tensor then begins at a multiple of its type's size.
    names = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **(metadata or {})}}
    at = 0
    for name in names:
        size = tensors[name].numel() * tensors[name].dtype.itemsize
        header[name] = {"dtype": CODES[tensors[name].dtype], "shape": list(tensors[name].shape), "data_offsets": [at, at + size]}
        at += size
    raw = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    raw += b" " * (-(len(raw) + 8) % HEADER_BYTES)
    _replace(Path(path), [len(raw).to_bytes(8, "little"), raw, *(tensors[name] for name in names)])


def _replace(path: Path, parts: Iterable[bytes | Tensor]) -> None:
    aside = path.with_name(f".{path.name}.new")
    try:
        with aside.open("wb") as file:
            for part in parts:
                if isinstance(part, bytes):
                    file.write(part)
                    continue
                flat = part.detach().contiguous().view(-1)
                step = CHUNK_BYTES // part.dtype.itemsize
                for low in range(0, flat.numel(), step):
                    file.write(flat[low : low + step].cpu().view(torch.uint8).numpy().data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _shards(tensors: Mapping[str, Tensor], limit: int) -> list[list[str]]:
    """Return names by shard, in the order of the tensors; there is at least one shard."""
    shards: list[list[str]] = [[]]
    held = 0
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.dtype.itemsize
        if shards[-1] and held + size > limit:
            shards.append([])
            held = 0
        shards[-1].append(name)
        held += size
    return shards


def _size(text: int | str) -> int:
    if isinstance(text, int):
        return text
    found = re.fullmatch(r"\s*([0-9.]+)\s*([KMGT]i?B)\s*", text, re.IGNORECASE)
    if found is None:
        raise ModelError("a shard size cannot be read", found=text, expected='bytes, or a number with a unit such as "5GB"')
    return int(float(found[1]) * UNITS[found[2].upper()])


def _has_rule(name: str, rules: tuple[Rule, ...]) -> bool:
    return any(next(bindings(pattern, {name: None}), None) is not None for rule in rules for pattern in rule.built)


def _names_there(rule: Rule, values: dict[str, str], here: Mapping[str, Tensor]) -> list[str]:
    """Return the names on disk that belong to one use of a rule; a stack has as many as there are without a gap."""
    if rule.op != "stack":
        return [fill(name, values) for name in rule.disk]
    (mark,) = set(marks(rule.disk[0])) - set(marks(rule.built[0]))
    names: list[str] = []
    while (name := fill(rule.disk[0], {**values, mark: str(len(names))})) in here:
        names.append(name)
    return names
