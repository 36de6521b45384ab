"""Watching the loss: values that are not numbers, spikes, and validation that stops getting better."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from automodel.recipe.schema import GuardsSection

MEMORY = 0.98
WARM = 20


@dataclass
class Guards:
    """Judges each step and each validation; its state travels in the checkpoint."""

    section: GuardsSection
    mean: float = 0.0
    seen: int = 0
    best: float | None = None
    waited: int = 0
    _fields: tuple[str, ...] = field(default=("mean", "seen", "best", "waited"), repr=False)

    def nonfinite(self, loss: float, grad_norm: float) -> str | None:
        """Return which value of a step is not a number, or None."""
        bad = [name for name, value in (("loss", loss), ("grad_norm", grad_norm)) if not math.isfinite(value)]
        return " and ".join(bad) or None

    def spike(self, loss: float) -> str | None:
        """Return a sentence when the loss jumps above its running mean, or None; then take the loss into the mean."""
        running = self.mean / (1 - MEMORY**self.seen) if self.seen else loss
        factor = self.section.spike_factor
        high = factor is not None and self.seen >= WARM and loss > factor * running
        if not high:
            self.mean = MEMORY * self.mean + (1 - MEMORY) * loss
            self.seen += 1
        return f"loss {loss:.4g} is {loss / running:.1f} times its running mean {running:.4g}" if high else None

    def exhausted(self, validation_loss: float) -> str | None:
        """Return a sentence when early stopping says so, or None."""
        rule = self.section.early_stopping
        if rule is None:
            return None
        if self.best is None or validation_loss < self.best - rule.min_delta:
            self.best, self.waited = validation_loss, 0
            return None
        self.waited += 1
        if self.waited < rule.patience:
            return None
        return f"no gain in {self.waited} validations: best loss {self.best:.4g}, now {validation_loss:.4g}"

    def state_dict(self) -> dict[str, Any]:
        """Return plain values for the checkpoint."""
        return {name: getattr(self, name) for name in self._fields}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the values of a checkpoint."""
        for name in self._fields:
            if name in state:
                setattr(self, name, state[name])
