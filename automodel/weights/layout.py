"""Number types of safetensors files in torch, and a model's tensor seen as the tensor on disk."""

from __future__ import annotations

import torch
from torch import Tensor

from automodel.weights.pieces import Piece

DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
    "C64": torch.complex64,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
CODES = {dtype: code for code, dtype in DTYPES.items()}


def disk_view(tensor: Tensor, piece: Piece) -> Tensor:
    """Return the box of a piece in its built tensor as a view with the dimensions in the order of the disk."""
    view = tensor[piece.built_slices] if tensor.ndim else tensor
    if piece.stacked is not None:
        view = view.select(piece.stacked, 0)
    return view.mT if piece.transposed else view


def converts(held: torch.dtype, wanted: torch.dtype) -> bool:
    """Say whether numbers of a file may become those of a model: the same type, or floats of 16 bits and more."""
    return held == wanted or all(kind.is_floating_point and kind.itemsize > 1 for kind in (held, wanted))
