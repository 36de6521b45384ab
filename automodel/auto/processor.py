"""The processor of an image-text model: what turns images and text into the model's inputs."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automodel.auto.configs import hub_error, inside
from automodel.auto.sections import place_of
from automodel.errors import ModelError
from automodel.recipe.schema import ModelSection, ProcessorSection

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# What an image processor may need that is no part of the base install: a word in the message of transformers, and the command.
_PACKAGES = (("torchvision", "pip install torchvision"), ("PIL", 'pip install "automodel-workbench[vlm]" (or: pip install pillow)'))
# Tokens that a processor may read off its tokenizer.
_MARKS = ("image_token", "image_token_id", "boi_token", "eoi_token", "video_token", "audio_token")


def build_processor(section: ProcessorSection | None, model: ModelSection, *, tokenizer: PreTrainedTokenizerBase, template: str | None = None) -> Any:
    """Build the processor of a recipe: its own section, else the one beside the model.

    Args:
        section: the `processor` section.
        model: the `model` section.
        tokenizer: takes the place of the processor's own; it knows the processor's chat template afterwards, and is saved with it.
        template: a chat template in place of the processor's.

    Raises:
        ModelError: there is none, it reads no images, or it needs a package that is not installed.
    """
    section = section or ProcessorSection()
    place, hub = place_of(section, model, what="processor")
    pixels = {name: value for name in ("min_pixels", "max_pixels") if (value := getattr(section, name)) is not None}
    processor = _load(inside(place, hub), trust=section.trust_remote_code or model.trust_remote_code, hub=hub, kwargs={**section.kwargs, **pixels})
    if getattr(processor, "image_processor", None) is None or getattr(processor, "tokenizer", None) is None:
        raise ModelError(
            f"{place} has no processor for images and text",
            found=type(processor).__name__,
            expected="an image processor and a tokenizer, as beside the model of FinetuneRecipeForVLM",
            fix="set processor.pretrained_model_name_or_path, or use recipe TrainFinetuneRecipeForNextTokenPrediction for text alone",
        )
    _check_pixels(processor.image_processor, pixels)
    if all(hasattr(tokenizer, name) for name in _MARKS if hasattr(processor.tokenizer, name)):
        processor.tokenizer = tokenizer
    processor.chat_template = template or processor.chat_template or processor.tokenizer.chat_template
    processor.tokenizer.chat_template = processor.chat_template
    return processor


def save_processor(processor: Any, directory: str | Path) -> None:
    """Write a processor so that `AutoProcessor.from_pretrained` of transformers 4 and 5 reads it: each looks for the image part elsewhere."""
    processor.save_pretrained(str(directory))
    processor.image_processor.save_pretrained(str(directory))


def _load(place: str, *, trust: bool, hub: dict[str, Any], kwargs: dict[str, Any]) -> Any:
    from transformers import AutoProcessor as Untyped

    maker: Any = Untyped
    try:
        return maker.from_pretrained(place, trust_remote_code=trust, **hub, **kwargs)
    except ImportError as error:
        for word, command in _PACKAGES:
            if word in str(error):
                raise ModelError(
                    f"the processor of {place} needs a package that is not installed",
                    found=" ".join(str(error).split())[:200],
                    expected=word.replace("PIL", "Pillow"),
                    fix=command,
                ) from error
        raise _unbuildable(place, error) from error
    except OSError as error:
        if Path(place).is_dir():
            raise _unbuildable(place, error) from error
        raise hub_error(place, error) from error
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise _unbuildable(place, error) from error


def _unbuildable(place: str, error: Exception) -> ModelError:
    return ModelError(
        f"the processor of {place} cannot be built",
        found=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}",
        expected="preprocessor_config.json or processor_config.json beside a tokenizer",
        fix="set processor.pretrained_model_name_or_path to the folder or hub id of the model it belongs to",
    )


def _check_pixels(images: Any, pixels: dict[str, int]) -> None:
    """Refuse limits that this kind of image processor would take and forget."""
    takes = set(inspect.signature(type(images).__init__).parameters) | set(getattr(getattr(images, "valid_kwargs", None), "__annotations__", ()))
    idle = [name for name in pixels if name not in takes and not hasattr(images, name)]
    if idle:
        raise ModelError(
            f"this processor does not take {' and '.join(idle)}",
            found=type(images).__name__,
            expected="a model that takes images of any size, such as Qwen2.5-VL",
            fix=f"remove {' and '.join(f'processor.{name}' for name in idle)}",
        )
