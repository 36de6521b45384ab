"""Jobs: each composes data, model, loss and the loop, and is checked as a whole before anything is written."""

from automodel.tasks.generate import Answer, generate
from automodel.tasks.plan import JobPlan, plan
from automodel.tasks.preflight import Prepared, preflight
from automodel.tasks.preview import Preview, preview
from automodel.tasks.run import run_recipe

__all__ = ["Answer", "JobPlan", "Prepared", "Preview", "generate", "plan", "preflight", "preview", "run_recipe"]
