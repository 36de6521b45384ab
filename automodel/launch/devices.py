"""Which GPUs a job may use: a choice of the user's, handed on to the job by its environment."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from automodel.errors import RunError

VISIBLE, ORDER = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"
_FIX = "name them as nvidia-smi does: devices=[0, 2], or --devices 0,2"


def as_devices(devices: str | Sequence[int | str] | None, *, given: Mapping[str, str] | None = None) -> tuple[str, ...] | None:
    """Return a choice of GPUs as the driver names them: numbers of nvidia-smi, or `GPU-...` names.

    None leaves the choice to the environment; empty means none: the job computes on the CPU.

    Raises:
        RunError: a name is no device's, is given twice, or is not among those that this process may use itself.
    """
    if devices is None:
        return None
    words = tuple(str(one).strip() for one in (devices.split(",") if isinstance(devices, str) else devices))
    words = () if words in (("",), ("none",)) else words
    for word in words:
        if not (word.isdigit() or word.startswith(("GPU-", "MIG-"))):
            raise RunError("This is no GPU's name.", found=repr(word), expected="a number, or a name that begins with GPU- or MIG-", fix=_FIX)
    if len(set(words)) < len(words):
        raise RunError("A GPU is named twice.", found=", ".join(words), expected="each once", fix=_FIX)
    _check_allowed(words, os.environ if given is None else given)
    return words


def _check_allowed(words: Sequence[str], given: Mapping[str, str]) -> None:
    """Refuse what a cluster or the user has kept from this process; numbers and names cannot be compared."""
    allowed = [one.strip() for one in given.get(VISIBLE, "").split(",") if one.strip() not in ("", "-1")]
    if VISIBLE not in given or (allowed and any(one.isdigit() for one in allowed) != any(one.isdigit() for one in words)):
        return
    beyond = [word for word in words if word not in allowed]
    if beyond:
        raise RunError(
            "These GPUs are kept from this process.", found=", ".join(beyond), expected=f"among {VISIBLE}={given[VISIBLE]}", fix="choose among those"
        )


def processes_on(devices: Sequence[str] | None, wanted: int | None) -> int | None:
    """Return the number of processes on chosen GPUs: what is wanted, else one for each; None when neither says.

    Raises:
        RunError: there would be more processes than GPUs.
    """
    if devices is None:
        return wanted
    if wanted is not None and devices and wanted > len(devices):
        raise RunError(
            "There are more processes than chosen GPUs.",
            found=f"{wanted} processes on {len(devices)}: {', '.join(devices)}",
            expected=f"at most {len(devices)}",
            fix="choose more GPUs, or leave the number of processes out",
        )
    return wanted or max(1, len(devices))


def device_environment(devices: Sequence[str] | None) -> dict[str, str]:
    """Return the variables that show a job the chosen GPUs and no other."""
    # Without the order CUDA counts the fastest card first, and the numbers would mean others than those of nvidia-smi.
    return {} if devices is None else {VISIBLE: ",".join(devices), ORDER: "PCI_BUS_ID"}
