"""Model folders of native decoders: found, loaded by the rules of the checkpoint, and written with its names."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, PretrainedConfig

from automodel.auto import compat
from automodel.auto.configs import HUB_KEYS, check_source, hub_error, inside, load_config
from automodel.auto.fit import check_weights
from automodel.auto.native.naming import in_checkpoint_form
from automodel.auto.options import read_dtype
from automodel.errors import ModelError
from automodel.registry import ModelRegistry
from automodel.weights.files import INDEX, SINGLE
from automodel.weights.load import load_into
from automodel.weights.save import to_disk, write_shards

# Arguments of transformers' own loader that only it can follow, where they are set to something.
ONLY_TRANSFORMERS = frozenset(
    {"gguf_file", "key_mapping", "max_memory", "offload_folder", "offload_state_dict", "offload_buffers", "tp_size", "tp_plan", "variant"}
    | {"ignore_mismatched_sizes", "device_mesh", "kernel_config", "use_kernels", "experts_implementation", "quantization_config"}
)
WITHOUT_EFFECT = frozenset(
    {"trust_remote_code", "low_cpu_mem_usage", "weights_only", "code_revision", "adapter_name", "proxies", "resume_download", "mirror"}
    | {"_fast_init", "_from_auto", "_from_pipeline", "_commit_hash", "from_tf", "from_flax", "use_safetensors"}
)
SHARDED_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")


def needs_transformers(arguments: Mapping[str, Any]) -> str | None:
    """Say why arguments of `from_pretrained` ask for the loader of transformers, or return None."""
    for name in sorted(ONLY_TRANSFORMERS):
        if arguments.get(name):
            return f"{name} is an argument that only transformers' loader follows"
    if arguments.get("use_safetensors") is False:
        return "use_safetensors=False asks for pickled weights, which only transformers' loader reads"
    placed = arguments.get("device_map")
    if isinstance(placed, Mapping) and len(set(map(str, placed.values()))) > 1:
        return "device_map names several devices, over which only transformers' loader spreads a model"
    if placed in SHARDED_MAPS and torch.cuda.device_count() > 1:
        return f"device_map {placed} spreads a model over several GPUs, which only transformers' loader does"
    return None


def target_device(placed: Any) -> torch.device:
    """Return the device that a `device_map` of one device means."""
    if isinstance(placed, Mapping):
        placed = next(iter(placed.values()))
    if placed is None:
        return torch.get_default_device()
    if placed in SHARDED_MAPS:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device("cuda", placed) if isinstance(placed, int) else torch.device(placed)


def from_pretrained(cls: Any, place: str | os.PathLike[str] | None, *args: Any, config: Any = None, **kwargs: Any) -> Any:
    """Build a model of the class with the weights of a folder or repository; see `NativeForCausalLM.from_pretrained`."""
    refused = needs_transformers(kwargs)
    if refused is not None:
        raise ModelError(f"{cls.__name__} cannot be loaded so", found=refused, expected="one device and safetensors", fix="use force_hf=True")
    hub = {name: kwargs.pop(name) for name in HUB_KEYS if name in kwargs}
    wanted = {name: kwargs.pop(name, None) for name in ("attn_implementation", "device_map", "state_dict", "generation_config", "adapter_kwargs")}
    info_wanted = kwargs.pop("output_loading_info", False)
    dtype = read_dtype(kwargs)
    for name in ONLY_TRANSFORMERS | WITHOUT_EFFECT:
        kwargs.pop(name, None)
    place = None if place is None else check_source(inside(place, hub))
    config = _config(cls, place, config, kwargs, hub)
    folder = None if place is None or wanted["state_dict"] is not None else checkpoint_folder(place, hub)
    dtype = _dtype(dtype, config, folder)
    device = target_device(wanted["device_map"])
    model = empty(cls, config, dtype=dtype, attn=wanted["attn_implementation"], device=torch.device("meta") if cls.weight_prefix == "" else device)
    info = _fill(model, folder, wanted["state_dict"], device=device, dtype=dtype)
    model.eval()
    model.config.name_or_path = model.name_or_path = str(place or "")
    _generation(model, place, wanted["generation_config"], hub)
    if place is not None and os.path.isfile(os.path.join(place, "adapter_config.json")):
        model.load_adapter(place, adapter_kwargs=wanted["adapter_kwargs"])
    return (model, info) if info_wanted else model


def empty(cls: Any, config: Any, *, dtype: torch.dtype, device: torch.device, attn: Any = None) -> Any:
    """Return a model of the class whose weights are not drawn; without memory for them on meta."""

    def make() -> Any:
        with device:
            return cls._from_config(config, dtype=dtype, **({} if attn is None else {"attn_implementation": attn}))

    return compat.shapes_only(make)


def checkpoint_folder(place: str, hub: Mapping[str, Any]) -> Path:
    """Return the folder that holds the safetensors files of a model, fetched if `place` is a hub id.

    Raises:
        ModelError: there are none, or they cannot be fetched.
    """
    if os.path.isdir(place):
        check_weights(place)
        return Path(place)
    from transformers.utils.hub import cached_file, cached_files

    try:
        index = cached_file(place, INDEX, _raise_exceptions_for_missing_entries=False, **hub)
        if index is None:
            single = cached_file(place, SINGLE, _raise_exceptions_for_missing_entries=False, **hub)
            if single is None:
                fix = "take a repository with safetensors files, or let transformers read the pickled ones: use_safetensors=False, force_hf=True"
                raise ModelError(f"{place} has no {SINGLE} and no {INDEX}", found="no safetensors file", expected="safetensors weights", fix=fix)
            return Path(single).parent
        names = sorted(set(json.loads(Path(index).read_text(encoding="utf-8"))["weight_map"].values()))
        cached_files(place, names, **hub)
    except OSError as error:
        raise hub_error(place, error) from error
    return Path(index).parent


def _config(cls: Any, place: Any, config: Any, changes: dict[str, Any], hub: dict[str, Any]) -> PretrainedConfig:
    if config is None and place is None:
        raise ValueError("from_pretrained needs a folder, a hub id or a config")
    built, unused = load_config(config if config is not None else place, overrides=changes, hub=hub)
    if unused:
        raise TypeError(f"{cls.__name__}.from_pretrained() got an unexpected keyword argument {next(iter(unused))!r}")
    return built


def _dtype(wanted: Any, config: Any, folder: Path | None) -> torch.dtype:
    if isinstance(wanted, torch.dtype):
        return wanted
    if isinstance(config.dtype, torch.dtype):
        return config.dtype
    if isinstance(config.dtype, str) and config.dtype != "auto":
        return getattr(torch, config.dtype)  # type: ignore[no-any-return]  # the name of a number type
    from automodel.weights import inspect_folder

    names = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    found = [] if folder is None else [names[info.dtype] for info in inspect_folder(folder).tensors.values() if info.dtype in names]
    return found[0] if found else torch.get_default_dtype()


def _fill(model: Any, folder: Path | None, state: Mapping[str, Tensor] | None, *, device: torch.device, dtype: torch.dtype) -> dict[str, list[str]]:
    dropped: list[str] = []
    if folder is not None:
        plan = load_into(model.weight_root(), folder, model.weight_rules(), device=device, dtype=dtype, base=model.weight_base)
        dropped = sorted(plan.dropped)
    elif state is not None:
        model.to_empty(device=device)
        model.tie_weights()
        model.load_state_dict(dict(state))
    model.tie_weights()
    return {"missing_keys": [], "unexpected_keys": [], "mismatched_keys": [], "error_msgs": [], "dropped_keys": dropped}


def _generation(model: Any, place: str | None, given: Any, hub: Mapping[str, Any]) -> None:
    if given is not None:
        model.generation_config = given if isinstance(given, GenerationConfig) else GenerationConfig.from_dict(given)
    elif place is not None:
        try:
            model.generation_config = GenerationConfig.from_pretrained(place, **hub)
        except OSError:
            # There is no such file; the settings made from the config stay, as in transformers.
            return


def save_pretrained(
    model: Any,
    directory: str | os.PathLike[str],
    is_main_process: bool = True,
    *,
    state_dict: Mapping[str, Any] | None = None,
    push_to_hub: bool = False,
    max_shard_size: int | str = "5GB",
    **kwargs: Any,
) -> None:
    """Write a model as transformers writes its own; see `NativeForCausalLM.save_pretrained`."""
    from transformers import PreTrainedModel

    if getattr(model, "_hf_peft_config_loaded", False):
        plain: Any = PreTrainedModel.save_pretrained
        plain(model, directory, is_main_process, state_dict=state_dict, push_to_hub=push_to_hub, max_shard_size=max_shard_size, **kwargs)
        return
    if kwargs.get("variant"):
        raise ModelError("native models are saved without a variant", found=kwargs["variant"], expected="None", fix="rename the file afterwards")
    state = model.state_dict() if state_dict is None else state_dict
    if not in_checkpoint_form(model, state):
        state = to_disk({name.removeprefix(model.weight_prefix): tensor for name, tensor in state.items()}, model.weight_rules())
    if is_main_process:
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        _write_settings(model, folder)
        write_shards(folder, state, max_shard_size=max_shard_size)
        if push_to_hub:
            hub = {name: kwargs[name] for name in ("commit_message", "private", "create_pr", "revision", "token") if name in kwargs}
            PreTrainedModel.push_to_hub(model, kwargs.get("repo_id", folder.name), **hub)


def _write_settings(model: Any, folder: Path) -> None:
    config = deepcopy(model.config)
    config.dtype = str(model.dtype).removeprefix("torch.")
    config.architectures = architectures(model.entry, config.architectures, config.model_type)
    config.save_pretrained(folder)
    compat.rewrite_json(folder / "config.json", compat.common_config)
    if model.can_generate():
        settings = deepcopy(model.generation_config)
        # A temperature without sampling is refused at save; sampling is what it means.
        settings.do_sample = settings.do_sample or compat.generation_problem(model) is not None
        settings.save_pretrained(folder)


def architectures(entry: Any, named: list[str] | None, model_type: str) -> list[str]:
    """Return `architectures` as they stand in the file: the name that the model came with, if it is one of this architecture's."""
    if named and ModelRegistry.find(name=named[0], model_type=model_type) is entry:
        return list(named)
    return [entry.name]
