"""What a running job holds: its parts, and the small state that a checkpoint must bring back."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from automodel.data import Loader
    from automodel.mesh import World
    from automodel.optim import Schedule
    from automodel.recipe.schema import Recipe
    from automodel.run import Reporter, RunFolder
    from automodel.train.guards import Guards
    from automodel.train.head import SupervisedLoss
    from automodel.train.precision import Precision


@dataclass(frozen=True)
class Plan:
    """Length of the run in optimizer steps."""

    steps_per_epoch: int
    epochs: int
    total_steps: int

    @classmethod
    def of(cls, recipe: Recipe, steps_per_epoch: int) -> Plan:
        """Return the plan of a recipe: `num_epochs` (one if absent) or `max_steps` (repeating the data), whichever ends first."""
        epochs, wanted = recipe.step_scheduler.num_epochs, recipe.step_scheduler.max_steps
        whole = (epochs or 1) * steps_per_epoch
        total = whole if wanted is None else wanted if epochs is None else min(wanted, whole)
        return cls(steps_per_epoch, -(-total // steps_per_epoch), total)


@dataclass
class Progress:
    """How far the run is; everything else about its position follows from `step`."""

    step: int = 0
    tokens_seen: int = 0
    best_loss: float | None = None
    best_checkpoint: str | None = None
    guards: dict[str, Any] = field(default_factory=dict)
    loader: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for `progress.json`."""
        return asdict(self)


@dataclass(frozen=True)
class Sample:
    """A prompt to answer at each validation: its text, its tokens, the answer that the data hold, and what the model wants beside tokens."""

    prompt: str
    ids: list[int]
    wanted: str = ""
    inputs: dict[str, torch.Tensor] = field(default_factory=dict)


@dataclass
class Job:
    """Everything the loop works with."""

    recipe: Recipe
    world: World
    folder: RunFolder
    reporter: Reporter
    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    loss: SupervisedLoss
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    precision: Precision
    strategy: str
    loader: Loader
    validation: dict[str, Loader]
    plan: Plan
    guards: Guards
    progress: Progress = field(default_factory=Progress)
    samples: list[Sample] = field(default_factory=list)
    stop_tokens: list[int] = field(default_factory=list)
    last_saved: Path | None = None
    processor: Any = None

    @property
    def epoch(self) -> int:
        """Return the epoch of the next step."""
        return self.progress.step // self.plan.steps_per_epoch

    @property
    def step_in_epoch(self) -> int:
        """Return how many steps of the epoch are done."""
        return self.progress.step % self.plan.steps_per_epoch

    def phase(self, state: str) -> None:
        """Tell viewers what the job is doing."""
        self.folder.rank_status(self.world.rank, phase=state, step=self.progress.step)
        if self.world.main:
            self.folder.set_state(state)

    def event(self, kind: str, text: str, **fields: Any) -> None:
        """Record something worth telling, once for all processes."""
        if self.world.main:
            self.folder.event(kind, text=text, step=self.progress.step, **fields)
            self.reporter.event(kind, text)
