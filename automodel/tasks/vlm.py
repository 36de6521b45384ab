"""What is different about a job on images and text: its processor, and what it leaves frozen. The rest is `tasks.sft`, and there is one loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from automodel.data import TokenizedDataset
    from automodel.recipe.schema import Recipe

# As NeMo AutoModel has it: the part that sees is left as it is, what connects it with the language model and the language model learn.
_FROZEN = {"freeze_vision_tower": True}


def frozen_parts(recipe: Recipe) -> dict[str, bool]:
    """Return which parts a job of this recipe leaves frozen: what `freeze_config` says and, for images and text, the usual."""
    return {**(_FROZEN if recipe.task == "vlm" else {}), **(recipe.freeze_config or {})}


def with_processor(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> tuple[PreTrainedTokenizerBase, Any]:
    """Return the tokenizer and the processor of a job on images and text, which have one chat template.

    Raises:
        ModelError: there is no processor, or it needs a package that is not installed.
    """
    from automodel.auto import build_processor

    own = recipe.dataset.chat_template or (recipe.tokenizer and recipe.tokenizer.chat_template)
    processor = build_processor(recipe.processor, recipe.model, tokenizer=tokenizer, template=tokenizer.chat_template if own else None)
    return processor.tokenizer, processor


def frozen_note(recipe: Recipe) -> str | None:
    """Return the remark that the vision tower is frozen, where no setting says so."""
    if recipe.task != "vlm" or "freeze_vision_tower" in (recipe.freeze_config or {}):
        return None
    return "the vision tower is frozen, as usual for images and text; freeze_config: {freeze_vision_tower: false} trains it, too"


def memory_note(data: TokenizedDataset) -> str | None:
    """Return what the estimate of memory leaves out where rows hold images."""
    if data.media is None:
        return None
    return "images: the estimate is coarse, it counts their tokens but not the work of the vision tower; a micro-batch with images is computed whole"
