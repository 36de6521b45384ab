"""Jobs: each composes data, model, loss and the loop, and is checked as a whole before anything is written."""

from automodel.tasks.preflight import Prepared, preflight
from automodel.tasks.run import run_recipe

__all__ = ["Prepared", "preflight", "run_recipe"]
