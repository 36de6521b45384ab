"""Running a recipe inside one process of a job."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automodel.tasks.preflight import Prepared, preflight
from automodel.tasks.sft import build_job

if TYPE_CHECKING:
    from automodel.mesh import World
    from automodel.recipe.schema import Recipe
    from automodel.run import Reporter, RunFolder

EXIT = {"finished": 0, "stopped": 3}


def run_recipe(
    recipe: Recipe,
    folder: RunFolder,
    *,
    resume: Path | None = None,
    prepared: Prepared | None = None,
    reporter: Reporter | None = None,
) -> int:
    """Train as the recipe says, writing to the run folder, and return the exit code: 0 finished, 3 stopped.

    With several processes every one of them calls this; `prepared` saves a second preflight when the caller has just done one.

    Raises:
        JobFailed: the job started and failed; the caller records it.
    """
    from automodel.mesh import start_world
    from automodel.run import NullReporter, make_reporter
    from automodel.train.loop import train

    quiet_libraries()
    world = start_world(recipe.dist_env)
    reporter = reporter or (make_reporter(sys.stdout) if world.main else NullReporter())
    try:
        _say(folder, world, "preparing")
        ready = prepared or preflight(recipe, world_size=world.size, runs_root=folder.path.parent, device=world.device)
        job = build_job(ready, folder, world, reporter=reporter, resume=resume)
        job.phase("training")
        state = train(job)
        job.folder.rank_status(world.rank, phase=state, step=job.progress.step)
        world.barrier()
        if world.main:
            folder.set_state(state, step=job.progress.step)
            reporter.close()
        return EXIT[state]
    finally:
        world.close()


def quiet_libraries() -> None:
    """Keep what nobody can act on out of the output of a job: a deprecation between peft and transformers 5, and progress bars in log files.

    On a terminal the bars stay, because a large model takes minutes to load.
    """
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
    warnings.filterwarnings("ignore", "'set_vital' is deprecated", UserWarning)
    from transformers.utils import logging as untyped

    logging: Any = untyped
    if not sys.stderr.isatty():
        logging.disable_progress_bar()


def _say(folder: RunFolder, world: World, state: str) -> None:
    folder.rank_status(world.rank, phase=state, step=0)
    if world.main:
        folder.set_state(state)
