"""From recipe sections to models and tokenizers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from automodel.auto.fit import check_fit, check_weights
from automodel.errors import ModelError, RequestError
from automodel.recipe.schema import ModelSection, ProcessorSection, TokenizerSection

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

AUTO_OF_TASK = {
    "sft": "NeMoAutoModelForCausalLM",
    "pretrain": "NeMoAutoModelForCausalLM",
    "causal_lm": "NeMoAutoModelForCausalLM",
    "llm": "NeMoAutoModelForCausalLM",
    "kd": "NeMoAutoModelForCausalLM",
    "benchmark": "NeMoAutoModelForCausalLM",
    "seq_cls": "NeMoAutoModelForSequenceClassification",
    "token_cls": "NeMoAutoModelForTokenClassification",
    "vlm": "NeMoAutoModelForImageTextToText",
    "seq2seq": "NeMoAutoModelForSeq2SeqLM",
}
HEADS = {"seq_cls": ("score.", "classifier.", "pre_classifier.", "pooler."), "token_cls": ("score.", "classifier.")}


def build_model(section: ModelSection, *, task: str, device: torch.device | str, dtype: torch.dtype | str, **kwargs: Any) -> PreTrainedModel:
    """Build the model of a recipe.

    Args:
        section: the `model` section: a model to start from, or a config for random weights.
        task: sft, pretrain, kd, benchmark, seq_cls, token_cls, vlm or seq2seq.
        device: where it is put; "meta" reads no weights.
        dtype: number type of the weights; the caller settles what "auto" means.
        kwargs: further arguments of the auto classes.

    Raises:
        ModelError: see `resolve_config` and `check_weights`; or a weight of the body is in no file.
    """
    from automodel.auto import models

    if task not in AUTO_OF_TASK:
        raise ModelError("there is no such task", found=task, expected=", ".join(AUTO_OF_TASK), fix="correct the recipe's task")
    auto = getattr(models, AUTO_OF_TASK[task])
    config = resolve_config(section)
    events = _pad_id(config) if task in HEADS else []
    arguments: dict[str, Any] = {
        "device": str(device) if not isinstance(device, str) else device,
        "dtype": dtype,
        "attn_implementation": section.attn_implementation,
        "use_liger_kernel": section.use_liger_kernel,
        "use_sdpa_patching": section.use_sdpa_patching,
        "sdpa_method": section.sdpa_method,
        "force_hf": section.force_hf,
        "backend": section.backend,
        "trust_remote_code": section.trust_remote_code,
        "allow_unverified": section.allow_unverified,
        **kwargs,
    }
    place = section.pretrained_model_name_or_path
    if str(device) == "meta":
        model = _shape(auto, config, arguments, place, task)
    elif place is None:
        model = auto.from_config(config, **arguments)
    else:
        if str(device) != "meta" and Path(place).expanduser().is_dir():
            check_weights(place)
        model = auto.from_pretrained(place, config=config, **_hub(section), **arguments)
        _refuse_random_body(model, place, task)
    model.resolution.events += events
    return model  # type: ignore[no-any-return]  # the auto classes return what transformers returns


def _shape(auto: Any, config: PretrainedConfig, arguments: dict[str, Any], place: str | None, task: str) -> Any:
    """Build the model without weights: what cannot be built, or does not fit the weight files, is seen in seconds."""
    from automodel.auto.configs import unbuildable

    try:
        model = auto.from_pretrained(place, config=config, **arguments) if place else auto.from_config(config, **arguments)
    except RequestError:
        raise
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError) as error:
        raise unbuildable(place, error) from error
    folder = Path(place).expanduser() if place else None
    if folder is not None and folder.is_dir() and not config.to_dict().get("quantization_config"):
        check_fit(model, folder, new=HEADS.get(task, ()))
    return model


def resolve_config(section: ModelSection) -> PretrainedConfig:
    """Return the config of a recipe's model with its overrides; no weight is read.

    Raises:
        ModelError: missing or gated repository, offline, no config.json, unknown model_type, an override that is no field.
    """
    from automodel.auto.configs import load_config

    source = section.pretrained_model_name_or_path or section.config
    if source is None:
        fix = "set model.pretrained_model_name_or_path (or model.config for random weights)"
        raise ModelError("the recipe names no model", found="neither is set", expected="a hub id, a folder or a config", fix=fix)
    overrides = dict(section.config_overrides)
    if section.num_labels is not None:
        overrides["num_labels"] = section.num_labels
    config, unused = load_config(source, overrides=overrides, hub=_hub(section), trust_remote_code=section.trust_remote_code)
    if unused:
        import difflib

        name = next(iter(unused))
        near = difflib.get_close_matches(name, list(config.to_dict()), n=1)
        fix = f"did you mean {near[0]}?" if near else f"leave {name} out"
        raise ModelError(f"{type(config).__name__} has no field {name}", found=f"config_overrides.{name}", expected="a field of the config", fix=fix)
    return config


def build_tokenizer(section: TokenizerSection | None, model: ModelSection) -> PreTrainedTokenizerBase:
    """Build the tokenizer of a recipe: its own section, else the one beside the model.

    Raises:
        ModelError: no tokenizer there, or the recipe names none.
    """
    from automodel.auto.tokenizer import NeMoAutoTokenizer

    section = section or TokenizerSection()
    place, hub = place_of(section, model, what="tokenizer")
    if section.padding_side is not None:
        hub["padding_side"] = section.padding_side
    tokenizer: PreTrainedTokenizerBase = NeMoAutoTokenizer.from_pretrained(
        place,
        force_hf=section.force_hf,
        force_default=section.force_default,
        add_bos_token=section.add_bos_token,
        add_eos_token=section.add_eos_token,
        trust_remote_code=section.trust_remote_code,
        **hub,
    )
    if section.chat_template is not None:
        template = Path(section.chat_template)
        tokenizer.chat_template = (
            template.read_text(encoding="utf-8") if "{" not in section.chat_template and template.is_file() else section.chat_template
        )
    return tokenizer


def class_that_writes(source: str) -> Any:
    """Return the auto class for a model that writes text, with or without images to read, by its config.

    Raises:
        ModelError: the config cannot be read.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    from automodel.auto import models
    from automodel.auto.configs import load_config

    kind = load_config(source, trust_remote_code=False)[0].model_type
    sees = kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES and kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    return models.NeMoAutoModelForImageTextToText if sees else models.NeMoAutoModelForCausalLM


def place_of(section: TokenizerSection | ProcessorSection, model: ModelSection, *, what: str) -> tuple[str, dict[str, Any]]:
    """Return where a tokenizer or processor lies, its own place or that of the model, and the arguments of its download.

    Raises:
        ModelError: neither is named.
    """
    place = section.pretrained_model_name_or_path or model.pretrained_model_name_or_path
    if place is None and isinstance(model.config, str):
        place = model.config
    if place is None:
        fix = f"set {what}.pretrained_model_name_or_path"
        raise ModelError(f"the recipe names no {what}", found="a model made from a config map", expected="a hub id or folder", fix=fix)
    own = section.pretrained_model_name_or_path is not None
    hub: dict[str, Any] = {"revision": section.revision} if own and section.revision else {} if own else _hub(model)
    if model.cache_dir:
        hub["cache_dir"] = model.cache_dir
    return place, hub


def _hub(section: ModelSection) -> dict[str, Any]:
    return {name: value for name, value in (("revision", section.revision), ("cache_dir", section.cache_dir)) if value is not None}


def _pad_id(config: Any) -> list[str]:
    """A classifier finds the end of a row by its pad token; without one it takes one row at a time."""
    text = config.get_text_config()
    eos = text.eos_token_id[0] if isinstance(text.eos_token_id, list) else text.eos_token_id
    if text.pad_token_id is not None or eos is None:
        return []
    config.pad_token_id = text.pad_token_id = eos
    return [f"config: no pad_token_id, so EOS (id {eos}) marks the end of a row"]


def _refuse_random_body(model: Any, place: str, task: str) -> None:
    """A new head is what a classifier asks for; any other weight at random means that the files do not fit the config."""
    lost = [name for name in model.resolution.missing if not name.startswith(HEADS.get(task, ()))]
    if not lost:
        return
    fix = "check that config.json and the weights belong together"
    raise ModelError(
        f"the weight files of {place} lack {lost[0]}", found=f"{len(lost)} weights missing", expected="every weight of the model", fix=fix
    )
