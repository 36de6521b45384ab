"""A look at a model from its config alone: what it is, what would be built, what can be done with it, and what is missing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automodel.auto.configs import HUB_KEYS, check_source, load_config
from automodel.auto.fit import check_weights
from automodel.auto.sections import AUTO_OF_TASK
from automodel.errors import AutomodelError, ModelError, RecipeError
from automodel.tables import facts_html, facts_text, grid_html, grid_text

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from automodel.auto.outline import LayerKind
    from automodel.kernels import KernelRow

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")
PLACEMENTS: dict[str, dict[str, Any]] = {
    "one process": {},
    "DDP": {"strategy": "ddp"},
    "FSDP2": {"strategy": "fsdp2"},
    "TP": {"tp_size": 2},
    "PP": {"pp_size": 2},
    "CP": {"cp_size": 2},
    "EP": {"ep_size": 2},
}
METHODS: dict[str, dict[str, Any]] = {
    "full": {},
    "LoRA": {"peft": {"dim": 8}},
    "QLoRA": {"peft": {"dim": 8}, "quantization": {"load_in_4bit": True}},
}
YES = "yes"


@dataclass(frozen=True, kw_only=True)
class LoraTarget:
    """Linear layers of one name that LoRA would take: how many there are, and their input and output size."""

    name: str
    count: int
    shapes: tuple[tuple[int, int], ...]


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Something that is missing, in the four parts of an error."""

    what: str
    found: str = ""
    expected: str = ""
    fix: str = ""

    @classmethod
    def of(cls, error: AutomodelError) -> Gap:
        """Return an error as a gap."""
        return cls(**error.as_dict())

    def __str__(self) -> str:
        return str(AutomodelError(self.what, found=self.found, expected=self.expected, fix=self.fix))


@dataclass(kw_only=True)
class Inspection:
    """What is known about a model without reading a weight; prints as text and HTML.

    Attributes:
        target: what was looked at.
        kind: dense, MoE, VLM, audio, encoder, encoder-decoder or unknown.
        implementation: native, hf or refused; `class_name` is the class that would be built and `reasons` says why.
        parameters: exact number, None when the model is refused; `parts` divides it, `active` is what works on one token.
        lora_targets: what `peft: {match_all_linear: true}` would take; `lora_parameters` is the size of such an adapter of rank 8.
        tokenizer: True, False, or None when only a config was given; `chat_template` likewise.
        methods: method -> placement -> "yes" or why not.
        missing: what stands in the way, each with its fix.
        config: the config as it was read; `layers` are its layers by kind, and `kernels` what this machine would run them with.
    """

    target: str
    task: str
    kind: str
    model_type: str
    architecture: str
    implementation: str = "refused"
    class_name: str = ""
    reasons: list[str] = field(default_factory=list)
    parameters: int | None = None
    active: int | None = None
    parts: dict[str, int] = field(default_factory=dict)
    dtype: str = ""
    context_length: int | None = None
    lora_targets: list[LoraTarget] = field(default_factory=list)
    lora_parameters: int = 0
    tokenizer: bool | None = None
    chat_template: bool | None = None
    methods: dict[str, dict[str, str]] = field(default_factory=dict)
    missing: list[Gap] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    layers: list[LayerKind] = field(default_factory=list)
    kernels: list[KernelRow] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Say whether the model can be built and trained in some way."""
        return any(verdict == YES for row in self.methods.values() for verdict in row.values())

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values, for `--json`."""
        return {**asdict(self), "ok": self.ok}

    def facts(self) -> list[tuple[str, str]]:
        """Return label and text of each line but the table of methods."""
        named = f"{self.model_type or 'no model_type'}, {self.architecture or 'no architecture named'}"
        rows = [("model", self.target), ("kind", f"{self.kind} ({named})")]
        rows.append(("implementation", f"{self.implementation}: {self.class_name}" if self.class_name else self.implementation))
        rows += [("", reason) for reason in self.reasons]
        if self.parameters is not None:
            rows.append(("parameters", f"{self.parameters:,}" + (f", {self.active:,} active a token" if self.active != self.parameters else "")))
            rows += [("", f"{part:<16} {count:>17,} {count / self.parameters:7.1%}") for part, count in self.parts.items()]
        rows.append(("number type", self.dtype or "not named"))
        if self.context_length is not None:
            rows.append(("context", f"{self.context_length:,} tokens"))
        if self.parameters is not None:
            rows += self._lora_facts(self.parameters)
        rows.append(("tokenizer", _found(self.tokenizer)))
        template = {True: "yes", False: "no: a plain prompt is used", None: "not known from a config"}
        rows.append(("chat template", template[self.chat_template]))
        rows += [("missing", str(gap)) for gap in self.missing]
        return rows

    def _lora_facts(self, total: int) -> list[tuple[str, str]]:
        if not self.lora_targets:
            return [("LoRA targets", "none: no linear layer")]
        rows = [("LoRA targets", f"rank 8 on all of them: {self.lora_parameters:,} parameters ({self.lora_parameters / total:.2%})")]
        for target in self.lora_targets:
            shapes = ", ".join(f"{a} x {b}" for a, b in target.shapes[:3]) + (", ..." if len(target.shapes) > 3 else "")
            rows.append(("", f"{target.name:<16} {target.count:>5} of {shapes}"))
        return rows

    def _method_rows(self) -> tuple[list[str], list[list[str]]]:
        return ["", *PLACEMENTS], [[method, *(row[place] for place in PLACEMENTS)] for method, row in self.methods.items()]

    def __str__(self) -> str:
        return facts_text(self.facts()) + "\n\n" + grid_text(*self._method_rows())

    def _repr_html_(self) -> str:
        head, rows = self._method_rows()
        return facts_html(f"Model {self.target}", self.facts()) + grid_html("What works", head, rows)


def inspect(target: str | Path | Mapping[str, Any] | PretrainedConfig, *, task: str | None = None, **hub: Any) -> Inspection:
    """Look at a model from its config alone; no weight is read, nothing but small files is fetched.

    Args:
        target: hub id, model folder, config.json, a map with `model_type`, or a config.
        task: sft, seq_cls, vlm, ...; absent: what suits the kind of model.
        hub: revision, cache_dir, token and the like.

    Returns:
        An `Inspection`. A model that cannot be used is not an error: it comes back as refused, with what is missing.

    Raises:
        ModelError: there is no such folder, file or repository, or no such task.
    """
    if task is not None and task not in AUTO_OF_TASK:
        raise ModelError("There is no such task.", found=task, expected=", ".join(AUTO_OF_TASK), fix="leave task out")
    unknown = sorted(set(hub) - set(HUB_KEYS))
    if unknown:
        raise TypeError(f"inspect() got an unexpected keyword argument {unknown[0]!r}")
    name, source, data = _open(target, hub)
    kind = classify(data)
    names = data.get("architectures") or [""]
    found = Inspection(
        target=name,
        task=task or _task_of(kind),
        kind=kind,
        model_type=str(data.get("model_type") or ""),
        architecture=str(names[0] or ""),
        config=data,
    )
    if isinstance(source, Path):
        _look_at_files(found, source)
    elif isinstance(source, str):
        _look_at_repository(found, source, hub)
    _build(found, source, hub)
    _quantised(found, data)
    found.methods = _methods(found)
    return found


def classify(data: Mapping[str, Any]) -> str:
    """Return the kind of model that a config describes, known to transformers or not."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_MASKED_LM_MAPPING_NAMES

    named = str((data.get("architectures") or [""])[0])
    kind = data.get("model_type")
    if any(isinstance(data.get(key), Mapping) for key in ("vision_config", "visual", "vision_tower_config")) or data.get("img_processor"):
        return "VLM"
    if isinstance(data.get("audio_config"), Mapping):
        return "audio"
    if data.get("is_encoder_decoder"):
        return "encoder-decoder"
    counts = [data.get(key) for key in ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")]
    if any(isinstance(count, int) and count > 1 for count in counts):
        return "MoE"
    if kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not data.get("is_decoder") and not named.endswith(("ForCausalLM", "LMHeadModel")):
        return "encoder"
    if kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or named.endswith(("ForCausalLM", "LMHeadModel")):
        return "dense"
    layered = any(key in data for key in ("num_hidden_layers", "n_layer", "num_layers")) and any(
        key in data for key in ("hidden_size", "n_embd", "d_model")
    )
    return "dense" if layered else "unknown"


def _task_of(kind: str) -> str:
    return {"VLM": "vlm", "encoder": "seq_cls", "encoder-decoder": "seq2seq"}.get(kind, "sft")


def _open(target: Any, hub: dict[str, Any]) -> tuple[str, Any, dict[str, Any]]:
    """Return a name for the target, what `load_config` takes (a Path for a folder), and the raw config."""
    from transformers import PretrainedConfig

    if isinstance(target, PretrainedConfig):
        return type(target).__name__, target, target.to_dict()
    if isinstance(target, Mapping):
        return str(target.get("model_type") or "a config"), dict(target), dict(target)
    path = Path(target).expanduser()
    if path.is_file():
        if path.name != "config.json":
            data = _json(path)
            return str(target), data, data
        path = path.parent
    place = check_source(str(path) if path.is_dir() else target)
    if not path.is_dir():
        return place, place, _fetched(place, hub)
    own = path / "config.json"
    return str(target), path, _json(own) if own.is_file() else {}


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} is not JSON", found=str(error), expected="a JSON object", fix="give the config.json of a model") from error
    if not isinstance(data, dict):
        raise ModelError(f"{path} is not a config", found=type(data).__name__, expected="a JSON object", fix="give the config.json of a model")
    return data


def _fetched(place: str, hub: dict[str, Any]) -> dict[str, Any]:
    from transformers import PretrainedConfig

    from automodel.auto.configs import hub_error

    try:
        return dict(PretrainedConfig.get_config_dict(place, **hub)[0])
    except OSError as error:
        raise hub_error(place, error) from error


def _look_at_files(found: Inspection, folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    found.tokenizer = bool(names & set(TOKENIZER_FILES))
    found.chat_template = "chat_template.jinja" in names or "chat_template.json" in names
    settings = folder / "tokenizer_config.json"
    if not found.chat_template and settings.is_file():
        found.chat_template = bool(_json(settings).get("chat_template"))
    if "config.json" not in names:
        return
    try:
        check_weights(folder)
    except ModelError as error:
        found.missing.append(Gap.of(error))
    if not found.tokenizer:
        fix = "set tokenizer.pretrained_model_name_or_path to the folder or hub id that has it"
        found.missing.append(Gap(what="The folder holds no tokenizer.", found=", ".join(sorted(names)[:8]), expected="tokenizer.json", fix=fix))


def _look_at_repository(found: Inspection, place: str, hub: dict[str, Any]) -> None:
    from transformers.utils.hub import cached_file

    quiet: dict[str, Any] = {f"_raise_exceptions_for_{why}": False for why in ("missing_entries", "gated_repo", "connection_errors")}

    def fetched(name: str) -> Path | None:
        file = cached_file(place, name, **quiet, **hub)
        return None if file is None else Path(file)

    settings = fetched("tokenizer_config.json")
    found.tokenizer = settings is not None or fetched("tokenizer.json") is not None
    found.chat_template = bool(settings is not None and _json(settings).get("chat_template")) or fetched("chat_template.jinja") is not None


def _build(found: Inspection, source: Any, hub: dict[str, Any]) -> None:
    """Build the model on meta and fill in what it shows, or say why it cannot be built."""
    from huggingface_hub.errors import StrictDataclassError

    from automodel.auto import models

    # What config and model classes raise when a value makes no sense to them; transformers has no error of its own for that.
    strange = (ValueError, TypeError, KeyError, AttributeError, IndexError, OSError, ImportError, RuntimeError, ZeroDivisionError, AssertionError)
    try:
        config, _ = load_config(str(source) if isinstance(source, Path) else source, hub=hub)
        auto = getattr(models, AUTO_OF_TASK[found.task])
        model = auto.from_config(config, device="meta", use_liger_kernel=False)
    except AutomodelError as error:
        found.missing.append(Gap.of(error))
    except (*strange, StrictDataclassError) as error:
        text = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        fix = f"check the config, or ask for another task than {found.task}"
        found.missing.append(Gap(what="The model cannot be built from its config.", found=text, expected="a valid config", fix=fix))
    else:
        _describe(found, model, config)
    if found.implementation == "refused":
        found.reasons = [gap.what for gap in found.missing[-1:]]


def _describe(found: Inspection, model: Any, config: Any) -> None:
    from automodel.auto.outline import kernels_here, layer_kinds, layer_types
    from automodel.auto.parts import active_parameters, count_parts, experts

    resolution = model.resolution
    found.implementation, found.class_name = resolution.implementation, resolution.class_name
    found.reasons = [reason for reason in resolution.reasons if "from_config" not in reason]
    found.parts = count_parts(model)
    found.parameters = sum(found.parts.values())
    found.active = active_parameters(found.parts, experts(config))
    found.dtype = str(config.dtype).removeprefix("torch.") if config.dtype is not None else ""
    length = getattr(config.get_text_config(), "max_position_embeddings", None)
    found.context_length = length if isinstance(length, int) else None
    found.layers = layer_kinds(model, layer_types(config.get_text_config().to_dict()))
    found.kernels = kernels_here(model, config)
    _lora(found, model)


def _lora(found: Inspection, model: Any) -> None:
    from automodel.peft import match_layers
    from automodel.recipe.schema import PeftSection

    section = PeftSection(match_all_linear=True)
    try:
        chosen = match_layers(model, section).modules
    except RecipeError as error:
        found.missing.append(Gap.of(error))
        return
    shapes: dict[str, list[tuple[int, int]]] = {}
    for name in chosen:
        rows, columns = model.get_submodule(name).weight.shape
        shapes.setdefault(name.rpartition(".")[2], []).append((columns, rows))
    found.lora_targets = [LoraTarget(name=name, count=len(every), shapes=tuple(dict.fromkeys(every))) for name, every in shapes.items()]
    found.lora_parameters = section.dim * sum(a + b for every in shapes.values() for a, b in every)


def _quantised(found: Inspection, data: Mapping[str, Any]) -> None:
    settings = data.get("quantization_config")
    if not isinstance(settings, Mapping):
        return
    method = str(settings.get("quant_method") or "quantised")
    fix = "start from a copy of the model with bfloat16 weights"
    found.missing.append(Gap(what=f"The weights are stored quantised ({method}).", found="quantization_config", expected="float weights", fix=fix))


def _methods(found: Inspection) -> dict[str, dict[str, str]]:
    """Return which method works in which placement; what is built is asked of the recipe room, so the answer cannot grow old."""
    return {method: {place: _verdict(found, method, place) for place in PLACEMENTS} for method in METHODS}


def _verdict(found: Inspection, method: str, place: str) -> str:
    from automodel.recipe import Recipe, features_not_built, recipe_for

    if found.implementation == "refused":
        return "no"
    if place == "EP" and "experts" not in found.parts:
        return "no experts"
    if method != "full" and not found.lora_targets:
        return "no targets"
    domain = {"sft": "llm", "causal_lm": "llm", "llm": "llm", "pretrain": "llm"}.get(found.task, found.task)
    job = recipe_for("pretrain" if found.task == "pretrain" else "finetune", domain)
    if job is None:
        return "not built yet"
    kind = "chat" if found.task == "vlm" else "mock"  # rows that the job can read
    recipe = Recipe(recipe=job, dataset={"name": kind}, distributed=PLACEMENTS[place], **METHODS[method])
    return "not built yet" if features_not_built(recipe) else "weights quantised" if _is_quantised(found) else YES


def _is_quantised(found: Inspection) -> bool:
    return any(gap.found == "quantization_config" for gap in found.missing)


def _found(value: bool | None) -> str:
    return {True: "yes", False: "no", None: "not known from a config"}[value]
