"""Whether the weight files of a folder are those of a model, from their headers and a model on `meta`: no weight is read."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

from automodel.errors import ModelError
from automodel.weights import inspect_folder

if TYPE_CHECKING:
    from torch import nn

_FIX = "check that config.json and the weights belong together"
_NUMBER = re.compile(r"\d+")


def check_fit(model: nn.Module, path: str | Path, *, new: tuple[str, ...] = ()) -> None:
    """Compare names and sizes of a model's weights with those in the files of a folder.

    Names that the loader may translate are left to it: only a weight whose like for other layers is in the files counts as missing,
    and only another number of elements as another size.

    Args:
        model: the model, on any device.
        path: a folder with safetensors files.
        new: beginnings of the names of weights that need not be in the files.

    Raises:
        ModelError: a weight has another size in the files, or is in none of them.
    """
    held = inspect_folder(path).tensors
    kinds = {_NUMBER.sub("*", name) for name in held}
    wanted = {name: tuple(weight.shape) for name, weight in model.named_parameters() if not name.startswith(new)}
    for name, shape in wanted.items():
        if name in held and held[name].size != math.prod(shape):
            raise ModelError(
                f"the weight files of {path} do not fit its config: {name} has another size",
                found=f"{list(held[name].shape)} in the files",
                expected=f"{list(shape)} by the config",
                fix=_FIX,
            )
    lost = [name for name in wanted if name not in held and _NUMBER.sub("*", name) in kinds]
    if lost:
        raise ModelError(
            f"the weight files of {path} lack {lost[0]}", found=f"{len(lost)} weights missing", expected="every weight of the model", fix=_FIX
        )
