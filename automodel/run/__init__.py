"""The run room: the folder that is the only channel between a job and its viewers; no torch."""

from __future__ import annotations

from automodel.run.compare import Comparison, compare
from automodel.run.environment import environment
from automodel.run.explain import Explanation, explain_text
from automodel.run.folder import Requests, RunFolder
from automodel.run.launched import find_base, launched_in, run_around
from automodel.run.location import runs_root
from automodel.run.reader import Checkpoint, Run, attach, runs
from automodel.run.remedy import Remedy
from automodel.run.reporter import NullReporter, PlainReporter, Reporter, RichReporter, make_reporter
from automodel.run.states import ACTIVE, FINAL, Status

__all__ = [
    "ACTIVE",
    "FINAL",
    "Checkpoint",
    "Comparison",
    "Explanation",
    "NullReporter",
    "PlainReporter",
    "Remedy",
    "Reporter",
    "Requests",
    "RichReporter",
    "Run",
    "RunFolder",
    "Status",
    "attach",
    "compare",
    "environment",
    "explain_text",
    "find_base",
    "launched_in",
    "make_reporter",
    "run_around",
    "runs",
    "runs_root",
]
