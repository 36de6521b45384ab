"""LoRA by the `peft` library: which layers get an adapter, applying it, loading it again, and merging it."""

from automodel.peft.apply import apply_lora, load_adapter
from automodel.peft.match import LoraMatch, match_layers

__all__ = ["LoraMatch", "apply_lora", "load_adapter", "match_layers"]
