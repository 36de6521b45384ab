"""Optimizers and learning-rate schedules: torch's own, chosen by the recipe."""

from automodel.optim.build import build_optimizer, nothing_to_train
from automodel.optim.schedule import Schedule

__all__ = ["Schedule", "build_optimizer", "nothing_to_train"]
