"""The auto classes: what `AutoModelFor*` of transformers takes and returns, with the implementation chosen and recorded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import transformers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTextToWaveform,
    AutoModelForTokenClassification,
)

from automodel.auto import build
from automodel.auto.native.configs import register_configs
from automodel.errors import ModelError

if TYPE_CHECKING:
    from transformers import PretrainedConfig


# So that AutoConfig, too, reads files whose model_type transformers lacks, without code from their repository.
register_configs()


class _NeMoAuto:
    """The two methods that differ from the auto classes of transformers."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], *model_args: Any, **kwargs: Any) -> Any:
        """Load a model from a hub id or folder, with everything that transformers' own method takes and more.

        Args:
            pretrained_model_name_or_path: hub id or folder.
            model_args: passed to the model class.
            kwargs: those of transformers (fields of the config among them), and

                * `dtype` or `torch_dtype`: number type of the weights; "auto", the default, keeps that of the files on every release.
                * `device`: where the model is put; "meta" builds it without reading a weight.
                * `attn_implementation`: where to start on the ladder flash_attention_3, flash_attention_2, sdpa, eager.
                * `use_liger_kernel` (True), `use_sdpa_patching` (True), `sdpa_method` (None): kernels that apply where they can.
                * `backend`: BackendConfig or map; `force_hf` (False): skip the registry; `allow_unverified` (False): take a native class
                  that has not been compared with its reference, too.
                * `peft_config`: a peft config, a PeftSection or a map; a PeftModel comes back.
                * `quantization_config`, `compile_config`, `freeze_config`, `fp8_config`, `device_mesh`, `distributed_setup`.

        Returns:
            The model: a PreTrainedModel with `resolution` (why this class, every fallback) and `kernels` (op by op).

        Raises:
            ModelError: the model cannot be found, read or built; the message says what to do.
            NotBuiltError: a feature that is known by name only.
            TypeError: an argument that belongs into distributed_setup.
        """
        return build.from_pretrained(cls._hf(), pretrained_model_name_or_path, *model_args, kwargs=kwargs)

    @classmethod
    def from_config(cls, config: PretrainedConfig | str | Path | dict[str, Any], **kwargs: Any) -> Any:
        """Build a model with random weights.

        Args:
            config: a config, which is not changed, a hub id, a folder, or a map with `model_type`.
            kwargs: as for `from_pretrained`; `dtype` "auto" takes that of the config, else torch's default.

        Raises:
            ModelError, NotBuiltError, TypeError: as `from_pretrained`.
        """
        return build.from_config(cls._hf(), config, kwargs=kwargs)

    @classmethod
    def _hf(cls) -> Any:
        """Return the auto class of transformers; remote code is looked up under its name, so calls go through it."""
        for base in cls.__mro__:
            if base.__module__.startswith("transformers."):
                return base
        name = cls.__name__.removeprefix("NeMo")
        raise ModelError(
            f"transformers {transformers.__version__} has no {name}",
            found=transformers.__version__,
            expected=">= 5",
            fix='pip install -U "transformers>=5"',
        )


class NeMoAutoModelForCausalLM(_NeMoAuto, AutoModelForCausalLM):
    """Language models that predict the next token."""


class NeMoAutoModelForImageTextToText(_NeMoAuto, AutoModelForImageTextToText):
    """Models that read images and text and write text."""


class NeMoAutoModelForSequenceClassification(_NeMoAuto, AutoModelForSequenceClassification):
    """Models that give a text one of `num_labels` classes."""


class NeMoAutoModelForTokenClassification(_NeMoAuto, AutoModelForTokenClassification):
    """Models that give each token one of `num_labels` classes."""


class NeMoAutoModelForTextToWaveform(_NeMoAuto, AutoModelForTextToWaveform):
    """Models that turn text into sound."""


class NeMoAutoModelForSeq2SeqLM(_NeMoAuto, AutoModelForSeq2SeqLM):
    """Encoder-decoder language models."""


_MultimodalBase: Any = getattr(transformers, "AutoModelForMultimodalLM", object)


class NeMoAutoModelForMultimodalLM(_NeMoAuto, _MultimodalBase):  # type: ignore[misc]  # transformers 4 has no such class
    """Models that read any mixture of text, images, sound and video; needs transformers 5."""
