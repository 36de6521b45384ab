"""The launch room: jobs in this process or detached, under torchrun or alone."""

from __future__ import annotations

from automodel.launch.start import finetune, launch, resume

__all__ = ["finetune", "launch", "resume"]
