"""Whether the weight files of a folder are those of a model, from their headers and a model on `meta`: no weight is read."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automodel.errors import ModelError
from automodel.weights import TensorInfo, inspect_folder
from automodel.weights.plan import plan_load

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
    if not held:
        return  # a config without weights: sizes can still be planned, and whoever needs the weights asks for them
    if hasattr(model, "weight_rules"):
        _check_rules(model, held, path)
        return
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


def _check_rules(model: Any, held: Mapping[str, TensorInfo], path: str | Path) -> None:
    """Plan the load of a model whose weights are described by rules; the plan is strict."""
    shapes = {name: tuple(weight.shape) for name, weight in model.weight_root().named_parameters(remove_duplicate=False)}
    plan_load(model.weight_rules(), held, shapes, base=model.weight_base, where=f"{path}")


def check_weights(path: str | Path) -> None:
    """Look at every weight file of a local folder before anything is loaded; a hub id passes, downloads are checked by the hub's client.

    Raises:
        ModelError: no weights, only pickled ones, a missing shard, or a safetensors file that is damaged or cut short.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        return
    report = inspect_folder(folder)
    report.check()
    if report.files:
        return
    pickled = sorted(p.name for p in (*folder.glob("pytorch_model*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")))
    if pickled:
        line = f"M.from_pretrained('{folder}', use_safetensors=False).save_pretrained('{folder}-safetensors')"
        fix = f'python -c "from transformers import AutoModelForCausalLM as M; {line}" (only for files that you trust)'
        what = f"{folder} holds pickled weights only, which can run code when they are opened"
        raise ModelError(what, found=", ".join(pickled[:4]), expected="model.safetensors", fix=fix)
    found = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "an empty folder"
    shards = sorted(folder.glob("model-*-of-*.safetensors"))
    fix = "fetch model.safetensors.index.json as well" if shards else "copy the weights into the folder, or use model.config for random weights"
    raise ModelError(f"{folder} holds no model.safetensors and no index", found=found, expected="safetensors weights", fix=fix)
