"""Learning rate as a pure function of the step, so that a resumed run needs no state to go on exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from automodel.recipe.schema import LrSchedulerSection, OptimizerSection


@dataclass(frozen=True)
class Schedule:
    """The learning rate of each optimizer step.

    Args:
        peak: highest rate, reached at the end of the warm-up.
        floor: lowest rate of the decay.
        start: rate at step 0 of the warm-up.
        warmup: steps of linear rise.
        total: steps until the decay ends; later steps keep the last rate.
        style: constant, linear, cosine, inverse-square-root or WSD.
        tail: WSD only: steps of the final decay.
        tail_style: WSD only: linear or cosine.
    """

    peak: float
    floor: float = 0.0
    start: float = 0.0
    warmup: int = 0
    total: int = 1
    style: str = "constant"
    tail: int = 0
    tail_style: str = "linear"

    @classmethod
    def build(cls, optimizer: OptimizerSection, section: LrSchedulerSection | None, *, total_steps: int) -> Schedule:
        """Return the schedule of a recipe; without an `lr_scheduler` section the rate is constant."""
        if section is None:
            return cls(peak=optimizer.lr, total=total_steps)
        total = section.lr_decay_steps or total_steps
        warmup = section.lr_warmup_steps or math.ceil((section.warmup_ratio or 0.0) * total)
        return cls(
            peak=optimizer.lr,
            floor=section.min_lr,
            start=section.init_lr,
            warmup=min(warmup, total),
            total=total,
            style=section.lr_decay_style,
            tail=section.wsd_decay_steps or max(1, total // 10),
            tail_style=section.wsd_decay_style,
        )

    def at(self, step: int) -> float:
        """Return the rate of optimizer step `step`, counted from 0."""
        if step < self.warmup:
            return self.start + (self.peak - self.start) * (step + 1) / self.warmup
        if self.style == "constant":
            return self.peak
        if self.style == "inverse-square-root":
            base = max(self.warmup, 1)
            return max(self.floor, self.peak * math.sqrt(base / max(step + 1, base)))
        if self.style == "WSD":
            begin = self.total - self.tail
            return self._decay((step - begin) / max(self.tail, 1), self.tail_style)
        return self._decay((step - self.warmup) / max(self.total - self.warmup, 1), self.style)

    def _decay(self, share: float, style: str) -> float:
        share = min(max(share, 0.0), 1.0)
        left = 0.5 * (1 + math.cos(math.pi * share)) if style == "cosine" else 1.0 - share
        return self.floor + (self.peak - self.floor) * left

    def apply(self, optimizer: torch.optim.Optimizer, step: int) -> float:
        """Set the rate of every group for `step` and return the base rate."""
        rate = self.at(step)
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("lr_mult", 1.0)
        return rate
