"""From a resolved request to a model: the class, the attention ladder, Liger, SDPA, and the record of all of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch

from automodel.archs.config import Config
from automodel.auto import attention, compat
from automodel.auto.choice import choose
from automodel.auto.configs import HUB_KEYS, hub_error, inside, load_config
from automodel.auto.native.rows import MATH, attention_row, native_rows, settle_attention
from automodel.auto.options import Options, enabled, read_options
from automodel.auto.resolution import Resolution
from automodel.auto.thin import thin_model
from automodel.errors import ModelError
from automodel.kernels import KernelRow, KernelTable
from automodel.kernels.choose import hf_rows
from automodel.kernels.liger import liger_reason
from automodel.kernels.sdpa import usable


@dataclass(frozen=True, kw_only=True)
class Request:
    """Everything that is settled before the first weight is made."""

    auto: Any
    source: str | None
    config: Any
    options: Options
    rest: dict[str, Any]
    hub: dict[str, Any]
    device: torch.device
    registered: type | None


def from_pretrained(auto: Any, source: str | os.PathLike[str], *args: Any, kwargs: dict[str, Any]) -> Any:
    """Build a model with the weights of a folder or repository; `auto` is the auto class of transformers."""
    options = read_options(kwargs)
    info_wanted = kwargs.pop("output_loading_info", False)
    given = kwargs.pop("config", None)
    trust = bool(kwargs.pop("trust_remote_code", None))
    hub = {name: kwargs.pop(name) for name in HUB_KEYS if name in kwargs}
    overrides = {**(given if isinstance(given, Mapping) else {}), **_config_fields(kwargs)}
    source = inside(source, hub)
    start = given if given is not None and not isinstance(given, Mapping) else source
    config, unused = load_config(start, overrides=overrides, hub=hub, trust_remote_code=trust)
    rest = {**{name: value for name, value in kwargs.items() if name not in overrides}, **unused, "trust_remote_code": trust}
    device = _device(options, rest)
    resolution, registered = choose(auto, config, options, rest=rest)
    request = Request(auto=auto, source=source, config=config, options=options, rest=rest, hub=hub, device=device, registered=registered)
    loading: dict[str, Any] = {}

    def make(attn: Any) -> Any:
        return _load(request, attn, args, loading)

    model = _finish(request, make, resolution, loading)
    return (model, loading) if info_wanted else model


def from_config(auto: Any, config: Any, *, kwargs: dict[str, Any]) -> Any:
    """Build a model with random weights from a config, an id, a folder, or a map with model_type."""
    options = read_options(kwargs)
    trust = bool(kwargs.pop("trust_remote_code", None))
    hub = {name: kwargs.pop(name) for name in HUB_KEYS if name in kwargs}
    overrides = _config_fields(kwargs)
    built, unused = load_config(config, overrides=overrides, hub=hub, trust_remote_code=trust)
    rest = {**{name: value for name, value in kwargs.items() if name not in overrides}, **unused, "trust_remote_code": trust}
    if options.quantization_config is not None:
        raise ModelError("quantization_config has no use without weights", found="from_config", expected="from_pretrained", fix="leave it out")
    device = _device(options, rest)
    resolution, registered = choose(auto, built, options, rest=rest)
    resolution.reasons.append("random weights were asked for (from_config)")
    request = Request(auto=auto, source=None, config=built, options=options, rest=rest, hub={}, device=device, registered=registered)
    return _finish(request, lambda attn: _random(request, attn), resolution, {})


def _config_fields(kwargs: dict[str, Any]) -> dict[str, Any]:
    # Arguments of transformers' own from_pretrained; everything else may be a field of the config, which load_config sorts out.
    own = {
        "device_map",
        "max_memory",
        "offload_folder",
        "offload_buffers",
        "low_cpu_mem_usage",
        "state_dict",
        "use_safetensors",
        "variant",
        "key_mapping",
    }
    own |= {"ignore_mismatched_sizes", "tp_size", "adapter_kwargs", "adapter_name", "generation_config", "gguf_file", "code_revision", "weights_only"}
    own |= {"use_kernels", "kernel_config", "experts_implementation", "_fast_init", "_from_auto", "from_tf", "from_flax", "_commit_hash", "tp_plan"}
    return {name: value for name, value in kwargs.items() if name not in own}


def _device(options: Options, rest: Mapping[str, Any]) -> torch.device:
    if options.device is not None:
        return options.device
    placed = rest.get("device_map")
    if placed is not None:
        if isinstance(placed, (str, torch.device)) and placed not in ("auto", "balanced", "balanced_low_0", "sequential"):
            return torch.device(placed)
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.get_default_device()


def _load(request: Request, attn: Any, args: tuple[Any, ...], loading: dict[str, Any]) -> Any:
    if request.device.type == "meta":
        return _random(request, attn)
    kwargs = {**request.hub, **request.rest, "dtype": request.options.dtype, "attn_implementation": attn, "output_loading_info": True}
    if request.options.quantization_config is not None:
        kwargs["quantization_config"] = request.options.quantization_config
    maker: Any = request.registered if request.registered is not None else request.auto
    if _of_this_package(request.registered):
        kwargs = {**kwargs, "device_map": request.rest.get("device_map") or request.device}
    try:
        model, info = maker.from_pretrained(request.source, *args, config=deepcopy(request.config), **kwargs)
    except OSError as error:
        raise hub_error(str(request.source), error) from error
    loading.clear()
    loading.update(info if isinstance(info, dict) else vars(info))
    placed = request.options.device
    return model if placed is None or "device_map" in request.rest else model.to(placed)


def _random(request: Request, attn: Any) -> Any:
    config = deepcopy(request.config)
    wanted = request.options.dtype
    if wanted == "auto":
        wanted = config.dtype if config.dtype is not None else torch.get_default_dtype()
    kwargs: dict[str, Any] = {"dtype": wanted, "attn_implementation": attn}

    def make() -> Any:
        with request.device:
            if request.registered is not None:
                return request.registered._from_config(config, **kwargs)  # type: ignore[attr-defined]  # a PreTrainedModel class
            return request.auto.from_config(config, trust_remote_code=request.rest["trust_remote_code"], **kwargs)

    return compat.shapes_only(make) if request.device.type == "meta" else make()


def _finish(request: Request, make: Callable[[Any], Any], resolution: Resolution, loading: dict[str, Any]) -> Any:
    options, config = request.options, request.config
    events = resolution.events
    dtype = options.dtype if isinstance(options.dtype, torch.dtype) else config.dtype
    asked = options.attn if options.attn is not None else attention.FROM_BACKEND.get(options.backend.attn or "")
    refused: dict[str, str] = {}
    plain = None
    if _is_native(request.registered):
        name, plain = _native_attention(request, asked if isinstance(asked, str) else None, dtype=dtype, events=events)
        model = make(name)
    elif isinstance(asked, dict):
        model, name = make(asked), "as given for each part"
    else:
        if asked is not None:
            attention.check_name(asked)
        start = asked or attention.default(config=config, device=request.device, dtype=dtype)
        model, name, refused = attention.descend(
            start, make, config=config, device=request.device, dtype=dtype, events=events, asked=asked is not None
        )
    model, liger = _liger(model, lambda: make(asked if isinstance(asked, dict) else name), request=request, events=events)
    sdpa, row = _sdpa(name, request=request, events=events)
    resolution.class_name = type(model).__name__
    if request.registered is None:
        resolution.reasons.append(f"{type(model).__name__} is the class of transformers for model_type {model.config.model_type}")
    if request.device.type == "meta" and request.source is not None:
        events.append("built on meta: no weight was read")
    _note_loading(loading, resolution)
    first = plain or attention.row(name, refused, config=config, device=request.device, dtype=dtype)
    rows = _rows(model, first, row, liger=liger, request=request)
    model = thin_model(model, sdpa=MATH if plain is not None and name == "eager" and asked == "eager" else sdpa)
    model.resolution, model.kernels = resolution, KernelTable(tuple(rows))
    if enabled(options.compile_config):
        _compile(model, options.compile_config)
    return model if options.peft_config is None else _peft(model, options.peft_config)


def _of_this_package(cls: type | None) -> bool:
    """Say whether a registered class has the face of this package over a decoder or a user's module."""
    return cls is not None and hasattr(cls, "weight_prefix")


def _is_native(cls: type | None) -> bool:
    return _of_this_package(cls) and getattr(cls, "weight_prefix", None) == ""


def _native_attention(request: Request, asked: str | None, *, dtype: torch.dtype | None, events: list[str]) -> tuple[str, KernelRow]:
    """Return the name of a native decoder's attention and its row of the table."""
    cls: Any = request.registered
    spec, config, device = cls.entry.spec(Config(request.config)), request.config, request.device
    row = attention_row(spec, device=device, config=config, dtype=dtype)
    name = settle_attention(asked, row, config=config, device=device, dtype=dtype, events=events)
    if name != row.chosen:
        row = replace(
            row, chosen="eager", why="asked for; the plain path of torch's kernel", others={**row.others, row.chosen: "eager was asked for"}
        )
    return name, row


def _rows(model: Any, first: KernelRow, sdpa: KernelRow, *, liger: str | None, request: Request) -> list[KernelRow]:
    asked, device = request.options.backend.asked(), request.device
    if _is_native(request.registered):
        return [first, sdpa, *native_rows(model.spec, device=device, liger=liger, asked=asked)]
    return [first, sdpa, *hf_rows(model, device=device, liger=liger, asked=asked)]


def _note_loading(loading: dict[str, Any], resolution: Resolution) -> None:
    missing = sorted(str(name) for name in loading.get("missing_keys") or ())
    unexpected = sorted(str(name) for name in loading.get("unexpected_keys") or ())
    resolution.missing = missing
    for names, text in (
        (missing, "not in the weight files, so it starts at random"),
        (unexpected, "in the weight files, but not part of this model"),
    ):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            resolution.events.append(f"weights: {names[0]}{more}: {text}")


def _liger(model: Any, again: Callable[[], Any], *, request: Request, events: list[str]) -> tuple[Any, str | None]:
    """Patch with Liger where it can run; return the model and the reason why it was not patched."""
    if not request.options.liger:
        return model, "switched off (use_liger_kernel=False)"
    native = type(model).__module__.startswith("transformers.")
    reason = liger_reason(model.config.model_type, device=request.device, native_class=native)
    if reason is not None:
        return model, reason
    from liger_kernel.transformers.monkey_patch import _apply_liger_kernel_to_instance

    try:
        _apply_liger_kernel_to_instance(model=model)
    except (RuntimeError, AttributeError, TypeError, ImportError, ValueError, NotImplementedError) as error:
        reason = f"patching failed: {type(error).__name__}: {error}"
        events.append(f"liger: {reason}; the model was built again without it")
        return again(), reason
    events.append("liger: transformers' classes of this family are patched for the whole process")
    return model, None


def _sdpa(name: str, *, request: Request, events: list[str]) -> tuple[tuple[str, ...], KernelRow]:
    """Settle the SDPA backends: the names for the wrapped forward (empty: not wrapped) and the row of the table."""
    asked = request.options.sdpa
    plain = "torch's own order"
    if name != "sdpa":
        if asked:
            events.append(f"sdpa_method has no effect: attention is {name}")
        return (), KernelRow(op="sdpa", chosen="not used", why=f"attention is {name}")
    if not request.options.sdpa_patching:
        return (), KernelRow(op="sdpa", chosen=plain, why="switched off (use_sdpa_patching=False)")
    if asked is None:
        return (), KernelRow(op="sdpa", chosen=plain, why="no sdpa_method was asked for; torch takes the fastest that fits each call")
    kept, refused = usable(asked, device=request.device)
    events += [f"sdpa_method: {other} is left out: {reason}" for other, reason in refused.items()]
    if "math" in kept and "math" not in asked:
        events.append("sdpa_method: math is added as the last resort, because the CPU flash kernel alone fails with dropout")
    if not kept:
        return (), KernelRow(op="sdpa", chosen=plain, why="none of the asked backends exists here", others=refused)
    return kept, KernelRow(op="sdpa", chosen=", ".join(kept), why="sdpa_method", others=refused)


def _compile(model: Any, section: Any) -> None:
    values = section if isinstance(section, dict) else section.model_dump() if hasattr(section, "model_dump") else vars(section)
    names = ("mode", "fullgraph", "dynamic", "backend")
    model.compile(**{name: values[name] for name in names if values.get(name) is not None})


def _peft(model: Any, section: Any) -> Any:
    from automodel.recipe.schema import PeftSection

    if not isinstance(section, (PeftSection, Mapping)):
        from peft import get_peft_model

        return get_peft_model(model, section)
    from automodel.peft import apply_lora

    return apply_lora(model, section if isinstance(section, PeftSection) else PeftSection.model_validate(dict(section)))
