"""Liger kernels: whether they can run here, found out before anything is patched.

Patching succeeds on a CPU and then fails at the first forward, and it is a silent no-op for model types outside its table;
so every condition is looked at first.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import torch


def liger_reason(model_type: str, *, device: torch.device, native_class: bool = True) -> str | None:
    """Say why Liger cannot patch this model here, or return None when it can.

    Args:
        model_type: `config.model_type`.
        device: where the model will run.
        native_class: whether the class comes from transformers itself; others have different modules.
    """
    if find_spec("liger_kernel") is None:
        return "liger_kernel is not installed (pip install liger-kernel)"
    if _major("transformers") < 5:
        return "Liger's patches need transformers 5 or newer"
    if device.type != "cuda" or not torch.cuda.is_available():
        return f"its Triton kernels need a GPU, the model is on {device.type}"
    if not native_class:
        return "it patches transformers' own classes only"
    # Only a table of functions, but importing it pulls triton in: so it comes last.
    from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN

    if model_type not in MODEL_TYPE_TO_APPLY_LIGER_FN:
        return f"it has no patch for model_type {model_type}"
    return None


def _major(package: str) -> int:
    try:
        return int(version(package).split(".")[0])
    except PackageNotFoundError:
        return 0
