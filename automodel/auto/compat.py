"""Everything that differs between transformers 4.57 and 5, in one file: what is written here loads in both.

The old form of config.json is read by both releases, the new one silently loses RoPE on the old; so only the old form is written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from automodel.auto.model_types import SINCE_V5

# The config key of expert counts, for families whose key transformers 5 renamed.
EXPERT_KEYS = {"qwen3_moe": "num_experts", "qwen2_moe": "num_experts", "olmoe": "num_experts"}
# Where the old form keeps the RoPE base of (full, sliding) layers.
LAYER_THETA = {
    "gemma3_text": ("rope_theta", "rope_local_base_freq"),
    "gemma3n_text": ("rope_theta", "rope_local_base_freq"),
    "modernbert": ("global_rope_theta", "local_rope_theta"),
    "modernbert-decoder": ("global_rope_theta", "local_rope_theta"),
    "olmo3": ("rope_theta", "rope_theta"),
}
# The old names of layer kinds, where transformers 5 renamed them and the old release refuses the new ones.
LAYER_KINDS = {"granitemoehybrid": {"linear_attention": "mamba", "full_attention": "attention"}}
# Families that keep RoPE settings under names of their own in both releases' old form.
ROPE_NAMES = {"gpt_neox": ("rotary_emb_base", "rotary_pct"), "gpt_neox_japanese": ("rotary_emb_base", "rotary_pct")}
FLOATS = ("factor", "beta_fast", "beta_slow", "attention_factor", "mscale", "mscale_all_dim", "low_freq_factor", "high_freq_factor")
LITERAL_CLASSES = ("PreTrainedTokenizerFast", "TokenizersBackend")
SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


@lru_cache(maxsize=1)
def major() -> int:
    """Return the major version of the installed transformers."""
    return int(version("transformers").split(".")[0])


def shapes_only(make: Callable[[], Any]) -> Any:
    """Return the model that `make` builds on meta, where there is nothing to initialise: transformers 4 spends most of its time on that."""
    if major() >= 5:
        return make()
    from transformers import modeling_utils

    only_in_v4: Any = modeling_utils
    with only_in_v4.no_init_weights():
        model = make()
    model.tie_weights()
    return model


def mask_sizes(cache: Any, queries: Any, layer: int) -> tuple[int, int]:
    """Return the number of keys that a layer of a cache gives for these queries [T], and the place of the first."""
    found = cache.get_mask_sizes(len(queries) if major() >= 5 else queries, layer)
    return int(found[0]), int(found[1])


def known_model_types() -> frozenset[str]:
    """Return every model_type that AutoConfig can build, registered ones included."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    return frozenset(CONFIG_MAPPING.keys())


def attention_names() -> tuple[str, ...]:
    """Return the valid values of attn_implementation."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    return ("eager", *sorted(ALL_ATTENTION_FUNCTIONS.valid_keys()))


def ignores_softcap(config: Any) -> bool:
    """Say whether SDPA would drop the soft cap of the attention scores: transformers 4 runs it so without a word, 5 refuses."""
    text = config.get_text_config()
    return getattr(text, "attn_logit_softcapping", None) is not None


def generation_problem(model: Any) -> str | None:
    """Return why this model's generation settings cannot be saved, or None; both releases refuse at save, after the work is done."""
    settings = getattr(model, "generation_config", None)
    if settings is None:
        return None
    try:
        settings.validate(strict=True)
    except ValueError as error:
        return str(error)
    return None


def common_config(data: dict[str, Any]) -> dict[str, Any]:
    """Return a config.json, as either release writes it, in the form that both read.

    A model_type that only transformers 5 has is left as it is: no older release can load it anyway.
    """
    data = {key: _plain_number(value) for key, value in data.items()}
    for key, value in data.items():
        if isinstance(value, dict) and (key.endswith("_config") and key != "quantization_config"):
            data[key] = common_config(value)
    kind = data.get("model_type", "")
    if kind in SINCE_V5:
        return data
    rope = data.get("rope_parameters")
    if isinstance(rope, dict):
        _place_rope(data, rope, kind=kind)
    if kind in EXPERT_KEYS and "num_local_experts" in data:
        data.setdefault(EXPERT_KEYS[kind], data.pop("num_local_experts"))
    if kind in LAYER_KINDS and isinstance(data.get("layer_types"), list):
        data["layer_types"] = [LAYER_KINDS[kind].get(name, name) for name in data["layer_types"]]
    if kind == "gemma2" and data.get("attn_logit_softcapping") is not None:
        data["_attn_implementation"] = "eager"
    return data


def common_tokenizer(data: dict[str, Any]) -> dict[str, Any]:
    """Return a tokenizer_config.json, as either release writes it, in the form that both read."""
    data = {key: value for key, value in data.items() if key not in ("backend", "is_local", "local_files_only")}
    if data.get("tokenizer_class") in (*LITERAL_CLASSES, None):
        data["tokenizer_class"] = "PreTrainedTokenizerFast"
    named = dict(data.pop("model_specific_special_tokens", None) or {})
    extra = data.get("extra_special_tokens")
    if isinstance(extra, list):
        data.pop("extra_special_tokens")
        if extra:
            data["additional_special_tokens"] = extra
    elif isinstance(extra, dict):
        named = {**extra, **named}
    if named:
        data["extra_special_tokens"] = named
    return data


def rewrite_json(path: Path, change: Any) -> None:
    """Pass a JSON file through a function and put the result in its place in one step; an absent file is left alone."""
    if not path.is_file():
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    after = change(before)
    if after == before:
        return
    aside = path.with_name(path.name + ".partial")
    aside.write_text(json.dumps(after, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(aside, path)


def save_in_common_form(model: Any, directory: Path, *, state_dict: Any = None, **kwargs: Any) -> None:
    """Save with transformers' own method, then put config.json into the common form.

    Generation settings that transformers refuses to write (a temperature without sampling) are written with sampling on,
    which is what such settings mean; the model itself is not changed.
    """
    own = getattr(model, "generation_config", None)
    if own is not None and generation_problem(model) is not None:
        from copy import deepcopy

        repaired = deepcopy(own)
        repaired.do_sample = True
        model.generation_config = repaired
    try:
        _plain_class(model).save_pretrained(model, directory, state_dict=state_dict, **kwargs)
    finally:
        if own is not None:
            model.generation_config = own
    rewrite_json(Path(directory) / "config.json", common_config)


def special_tokens(names: Iterable[str], tokenizer: Any) -> dict[str, Any]:
    """Return those special tokens of a tokenizer that are set, by name."""
    return {name: getattr(tokenizer, name) for name in names if getattr(tokenizer, name, None) is not None}


def _plain_number(value: Any) -> Any:
    # transformers 5 wraps infinity, which only it unwraps; JSON as Python reads it has a word for it.
    if isinstance(value, dict) and set(value) == {"__float__"}:
        return float(value["__float__"])
    return [_plain_number(item) for item in value] if isinstance(value, list) else value


def _place_rope(data: dict[str, Any], rope: dict[str, Any], *, kind: str) -> None:
    layered = {key: value for key, value in rope.items() if isinstance(value, dict)}
    if layered:
        names = LAYER_THETA.get(kind)
        if names is None or not set(layered) <= {"full_attention", "sliding_attention"}:
            return
        full, sliding = layered.get("full_attention", {}), layered.get("sliding_attention", {})
        if names[0] == names[1] and sliding.get("rope_theta") != full.get("rope_theta"):
            return
        if "rope_theta" in sliding:
            data[names[1]] = sliding["rope_theta"]
        rope, theta, partial = full, names[0], "partial_rotary_factor"
    else:
        theta, partial = ROPE_NAMES.get(kind, ("rope_theta", "partial_rotary_factor"))
    data.pop("rope_parameters")
    rope = {key: float(value) if key in FLOATS and isinstance(value, int) else value for key, value in rope.items()}
    if "rope_theta" in rope:
        data[theta] = rope.pop("rope_theta")
    if "partial_rotary_factor" in rope:
        data[partial] = rope.pop("partial_rotary_factor")
    if rope.get("rope_type", rope.get("type", "default")) == "default":
        # Models for images and text split the plain rope into parts for time, height and width.
        data["rope_scaling"] = rope if set(rope) - {"rope_type", "type"} else None
        return
    if kind == "phi3":
        if "original_max_position_embeddings" in rope:
            data["original_max_position_embeddings"] = rope["original_max_position_embeddings"]
        rope = {"type": rope.get("rope_type", rope.get("type")), "short_factor": rope["short_factor"], "long_factor": rope["long_factor"]}
    data["rope_scaling"] = rope


def _plain_class(model: Any) -> Any:
    """Return the class of a model without this package's thin subclass, whose save would come back here."""
    # other libraries put classes before ours (FSDP2 does), so the whole order is searched
    order = type(model).__mro__
    thin = [place for place, cls in enumerate(order) if "_automodel_thin" in vars(cls)]
    return order[thin[-1] + 1] if thin else order[0]
