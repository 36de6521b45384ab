"""A way out of a problem: one sentence for a person and, where a setting can do it, the overrides that make the change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from automodel.recipe.schema import Recipe


@dataclass(frozen=True)
class Remedy:
    """What to try: `text` says it, `overrides` are the changes of the recipe (`--a.b.c=value`); empty where no setting can help."""

    text: str
    overrides: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.text}: {' '.join(self.overrides)}" if self.overrides else self.text

    def apply(self, recipe: Recipe | Mapping[str, Any] | str | Path) -> Recipe:
        """Return the recipe with the change made.

        Raises:
            RecipeError: the changed recipe is not valid.
        """
        from automodel.recipe.load import as_loaded

        return as_loaded(recipe, overrides=self.overrides).recipe

    def as_dict(self) -> dict[str, Any]:
        """Return text and overrides, for `--json`."""
        return asdict(self) | {"overrides": list(self.overrides)}


@dataclass(frozen=True)
class Settings:
    """A recipe as plain maps, asked by dotted names; what is absent has the value given."""

    values: Mapping[str, Any]

    def get(self, name: str, default: Any = None) -> Any:
        """Return a setting, or `default` where it or a section above it is absent or none."""
        found: Any = self.values
        for part in name.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        return default if found is None else found

    def holds(self, override: str) -> bool:
        """Say whether an override `--a.b.c=value` would change nothing; a setting that is not written down counts as none."""
        name, _, text = override.removeprefix("--").partition("=")
        now = self.get(name)
        shown = "null" if now is None else str(now).lower() if isinstance(now, bool) else str(now)
        return shown == text or (isinstance(now, float) and _is_number(text) and float(text) == now)

    def number(self, name: str, default: float) -> float:
        """Return a setting that is a number."""
        found = self.get(name, default)
        return found if isinstance(found, (int, float)) and not isinstance(found, bool) else default


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def smaller_batch(settings: Settings) -> Remedy | None:
    """Return the largest smaller local batch that still divides the global one: the result stays the same."""
    local, whole = int(settings.number("step_scheduler.local_batch_size", 4)), int(settings.number("step_scheduler.global_batch_size", 32))
    size = next((size for size in range(local // 2, 0, -1) if local % size == 0 and whole % size == 0), None)
    if size is None:
        return None
    text = f"compute {size} instead of {local} rows at once; the global batch, and so the result, stay the same"
    return Remedy(text, (f"--step_scheduler.local_batch_size={size}",))


def recompute(settings: Settings) -> Remedy | None:
    """Return activation checkpointing, where it is off."""
    if settings.get("distributed.activation_checkpointing"):
        return None
    return Remedy("compute activations twice instead of keeping them", ("--distributed.activation_checkpointing=true",))


def shorter_rows(settings: Settings) -> Remedy:
    """Return half the longest row, or a first limit."""
    now = settings.get("dataset.seq_length")
    if isinstance(now, int) and now > 1:
        return Remedy(f"cut rows at {now // 2} instead of {now} tokens", (f"--dataset.seq_length={now // 2}",))
    return Remedy("set a limit for the longest row", ("--dataset.seq_length=1024",))


def adapters(settings: Settings) -> Remedy | None:
    """Return LoRA, where all weights are trained."""
    if settings.get("peft") is not None:
        return None
    return Remedy("train small adapters (LoRA) instead of all weights", ("--peft.dim=8", "--optimizer.lr=0.0002"))


def chunked_loss(settings: Settings) -> Remedy | None:
    """Return the loss in parts, where it is computed as a whole."""
    if settings.get("loss_fn.name", "masked_ce") != "masked_ce":
        return None
    return Remedy("compute the loss in parts, so that only a part of the logits is held", ("--loss_fn.name=chunked_ce", "--loss_fn.chunk_len=256"))


def split_weights(settings: Settings) -> Remedy | None:
    """Return FSDP2, where the weights are not split."""
    if settings.get("distributed.strategy") == "fsdp2":
        return None
    return Remedy("split weights, gradients and optimizer over several processes (--nproc-per-node)", ("--distributed.strategy=fsdp2",))
