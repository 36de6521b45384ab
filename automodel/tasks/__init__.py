"""Jobs: each composes data, model, loss and the loop, and is checked as a whole before anything is written."""

from automodel.tasks.generate import Answer, Generator, generate, load_generator
from automodel.tasks.plan import JobPlan, plan
from automodel.tasks.preflight import Prepared, preflight
from automodel.tasks.preview import Preview, preview
from automodel.tasks.run import run_recipe

__all__ = ["Answer", "Generator", "JobPlan", "Prepared", "Preview", "generate", "load_generator", "plan", "preflight", "preview", "run_recipe"]
