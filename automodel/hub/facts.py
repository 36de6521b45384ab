"""The facts of a model card, gathered from a run folder and a model folder; nothing is guessed, and no path of this machine gets in."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from automodel.hub.errors import without_secrets
from automodel.hub.source import CONFIG, Origin, Source, origin_of, read_map
from automodel.run.files import read_json
from automodel.run.kept import read_kept
from automodel.run.show import duration, number
from automodel.tables import size_text

METHODS = {"pretrain": "pre-training", "seq_cls": "fine-tuning as a classifier", "kd": "knowledge distillation"}
PIPELINES = {"seq_cls": "text-classification", "vlm": "image-text-to-text"}
PIPELINE_OF_CLASS = (
    ("ForSequenceClassification", "text-classification"),
    ("ForTokenClassification", "token-classification"),
    ("ForImageTextToText", "image-text-to-text"),
    ("ForConditionalGeneration", "image-text-to-text"),
    ("ForTextToWaveform", "text-to-audio"),
)
SHOWN_VERSIONS = ("automodel-workbench", "torch", "transformers", "peft", "datasets", "tokenizers", "safetensors")
_PLACE_KEYS = ("run", "checkpoint_dir", "cache_dir", "restore_from")
_ANYWHERE = re.compile(r"(?<![\w:/.<])(?:~?/)(?:[\w.@+-]+/)+[\w.@+-]*")


@dataclass(kw_only=True)
class Facts:
    """What a card says, before it is put into words.

    Attributes:
        title: heading of the card; `kind` is `model` or `adapter`.
        base: the model it started from; None after random weights, or when nothing is known.
        license: of the base model, as its own card says; None when that is not known.
        rows: label and text of the table on training.
        data: role, source, split and what was counted, of each data set.
        step: of the checkpoint; `best` says that it is the best by validation loss.
        results: label and text; `samples` are prompt, answer at the first validation, answer at the end.
        kept: prompt, answer of the base model, answer of this model, as somebody kept them; `kept_how` are the settings in words.
        settings: what the user set, as YAML without places of this machine.
    """

    title: str
    kind: str
    task: str
    pipeline: str
    architecture: str
    model_type: str
    config: dict[str, Any]
    base: Origin | None = None
    license: str | None = None
    datasets: list[Origin] = field(default_factory=list)
    data: list[tuple[str, str, str, str]] = field(default_factory=list)
    rows: list[tuple[str, str]] = field(default_factory=list)
    results: list[tuple[str, str]] = field(default_factory=list)
    validation: dict[str, float] = field(default_factory=dict)
    samples: list[tuple[str, str, str]] = field(default_factory=list)
    kept: list[tuple[str, str, str]] = field(default_factory=list)
    kept_how: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    settings: str = ""
    prompt: str = ""
    chat: bool = False
    method: str = ""
    step: int | None = None
    best: bool = False


def gather(source: Source, *, base_model: str | None = None) -> Facts:
    """Return the facts of a source; `base_model` is the Hub id to name in place of what the files say.

    Those of an exported model are what its record kept of its run.
    """
    config = source.config()
    recipe, record = _recipe(source), source.origin()
    task = str((record.get("facts") or {}).get("task") or _task(recipe))
    classes = [str(name) for name in config.get("architectures") or []]
    facts = Facts(
        title=source.name,
        kind="adapter" if source.is_adapter else "model",
        task=task,
        pipeline=PIPELINES.get(task) or next((kind for part, kind in PIPELINE_OF_CLASS if classes and classes[0].endswith(part)), "text-generation"),
        architecture=classes[0] if classes else "",
        model_type=str(config.get("model_type", "")),
        config=config,
        chat=_has_chat_template(source.folder),
        step=source.checkpoint.step if source.checkpoint else None,
        best=source.checkpoint is not None and source.checkpoint.best,
    )
    if record:
        recall(facts, record, base_model)
        return facts
    facts.base = _base(source, config, recipe, base_model)
    if facts.base is not None:
        facts.license = license_of(facts.base)
        if facts.kind == "adapter" and facts.base.path is not None:
            inner = read_map(facts.base.path / CONFIG)
            facts.architecture = str((inner.get("architectures") or [""])[0])
            facts.model_type = str(inner.get("model_type", ""))
    facts.method = _method(facts, config, recipe)
    if source.run is not None:
        _from_run(facts, source, recipe)
    return facts


# What a record keeps of the facts; all else is read from the exported folder itself.
KEPT_FACTS = ("title", "task", "method", "step", "best", "license", "prompt", "settings", "kept_how", "validation", "versions")
KEPT_ROWS = ("rows", "data", "results", "samples", "kept")


def recorded(facts: Facts) -> dict[str, Any]:
    """Return facts as plain values for the record of an export: what a card says of the run, without places of this machine."""
    origins = {"base": _plain(facts.base) if facts.base else None, "datasets": [_plain(one) for one in facts.datasets]}
    kept: dict[str, Any] = _clean({name: getattr(facts, name) for name in (*KEPT_FACTS, *KEPT_ROWS)})
    return {**kept, **origins}


def _plain(origin: Origin) -> dict[str, Any]:
    return {"name": origin.name, "hub": origin.hub, "revision": origin.revision}


def _clean(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _clean(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(inner) for inner in value]
    return without_secrets(text_without_places(value)) if isinstance(value, str) else value


def recall(facts: Facts, record: Mapping[str, Any], base_model: str | None) -> None:
    """Fill in the facts that the record of an export kept; `base_model` goes before the base that it names."""
    kept = record.get("facts") or {}
    for name in KEPT_FACTS:
        setattr(facts, name, kept.get(name, getattr(facts, name)))
    for name in KEPT_ROWS:
        setattr(facts, name, [tuple(row) for row in kept.get(name) or ()])
    facts.datasets = [Origin(**one) for one in kept.get("datasets") or ()]
    facts.base = Origin(base_model, True) if base_model else Origin(**kept["base"]) if kept.get("base") else None
    facts.license = facts.license or (license_of(facts.base) if facts.base else None)


def _task(recipe: Mapping[str, Any]) -> str:
    from automodel.recipe import RECIPES

    return RECIPES.get(str(recipe.get("recipe", "")), "sft") if recipe else ""


def _recipe(source: Source) -> dict[str, Any]:
    if source.run is None:
        return {}
    from ruamel.yaml import YAML

    path = source.run.folder.recipe_path
    value = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return value if isinstance(value, dict) else {}


def _base(source: Source, config: Mapping[str, Any], recipe: Mapping[str, Any], given: str | None) -> Origin | None:
    section = recipe.get("model") or {}
    named, revision = section.get("pretrained_model_name_or_path"), section.get("revision")
    if not named and source.is_adapter:
        named, revision = config.get("base_model_name_or_path"), config.get("revision")
    known = origin_of(str(named), revision=revision, cwd=source.launched_in) if named else None
    return Origin(given, True, None, known.path if known else None) if given else known


def license_of(base: Origin) -> str | None:
    """Return the licence that the base model's own card names, if that card is on this machine."""
    card = base.path / "README.md" if base.path is not None else None
    if base.hub and card is None:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(base.name, "README.md", revision=base.revision)
        card = Path(found) if isinstance(found, str) else None
    if card is None or not card.is_file():
        return None
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    match = re.match(r"---\s*\n(.*?)\n---", card.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    try:
        head = YAML(typ="safe", pure=True).load(match[1]) if match else None
    except YAMLError:
        return None
    named = head.get("license") if isinstance(head, dict) else None
    return str(named) if isinstance(named, str) and named else None


def _has_chat_template(folder: Path) -> bool:
    return (folder / "chat_template.jinja").is_file() or bool(read_map(folder / "tokenizer_config.json").get("chat_template"))


def _method(facts: Facts, config: Mapping[str, Any], recipe: Mapping[str, Any]) -> str:
    peft = recipe.get("peft") or {}
    if facts.kind == "adapter" or peft:
        rank, alpha = (config.get("r"), config.get("lora_alpha")) if facts.kind == "adapter" else (peft.get("dim"), peft.get("alpha"))
        kind = "DoRA" if config.get("use_dora") else "rsLoRA" if config.get("use_rslora") else "LoRA"
        return f"{kind} (rank {rank}, alpha {number(float(alpha)) if alpha is not None else '-'})"
    return METHODS.get(facts.task, "full fine-tuning" if recipe else "")


def _from_run(facts: Facts, source: Source, recipe: Mapping[str, Any]) -> None:
    run = source.run
    assert run is not None
    record = run.folder.record()
    surroundings = read_json(run.path / "environment.json") or {}
    events = run.events()
    facts.versions = {name: text for name, text in (surroundings.get("packages") or {}).items() if name in SHOWN_VERSIONS}
    facts.versions["python"] = str(surroundings.get("python", ""))
    facts.settings = _settings(run.path / "recipe.user.yaml")
    _data(facts, source, recipe, events)
    train = [row for row in run.metrics("train") if facts.step is None or row.get("step", 0) <= facts.step]
    facts.rows = _training_rows(facts, recipe, record, surroundings, events, train)
    _results(facts, run.metrics(), train)
    own = [str(text) for text in (recipe.get("samples") or {}).get("prompts") or []]
    facts.prompt = own[0] if own else ""
    facts.samples = _samples(events, own, facts.step)
    _take_kept(facts, source, events, own)


def _take_kept(facts: Facts, source: Source, events: list[dict[str, Any]], own: list[str]) -> None:
    """Take answers that were kept, if it was this checkpoint that gave them, and without prompts that are rows of a data set."""
    kept = read_kept(source.run.path) if source.run is not None else None
    if kept is None or source.checkpoint is None or kept.checkpoint != source.checkpoint.path.name:
        return
    rows = {str(event.get("prompt")).strip() for event in events if event.get("kind") == "sample"} - {text.strip() for text in own}
    answered = [one for one in kept.results if one.prompt.strip() not in rows and one.tuned.state == "done"]
    facts.kept, facts.kept_how = [(one.prompt, one.base.shown, one.tuned.shown) for one in answered], kept.how


def _data(facts: Facts, source: Source, recipe: Mapping[str, Any], events: list[dict[str, Any]]) -> None:
    counted = next((event for event in events if event.get("kind") == "data"), {})
    sets = {"training": recipe.get("dataset") or {}, **{name: recipe[name] for name in recipe if name.startswith("validation_dataset")}}
    for role, section in sets.items():
        named = section.get("path_or_dataset")
        parts = [named] if isinstance(named, str) else list(named or [])
        origins = [origin_of(str(part), revision=section.get("revision"), cwd=source.launched_in, data=True) for part in parts]
        facts.datasets += [one for one in origins if one.hub and one not in facts.datasets]
        kind = "made-up rows" if section.get("name") == "mock" else str(section.get("_target_", "")).rpartition(".")[2] or "own code"
        shown = ", ".join(_link(one) for one in origins)
        label = "training" if role == "training" else role.removeprefix("validation_dataset").strip("_") or "validation"
        size = str(counted.get("text", "")) if role == "training" else ""
        facts.data.append((label, shown or kind, str(section.get("split", "train")), size))


def _link(data: Origin) -> str:
    return f"[{data.name}](https://huggingface.co/datasets/{data.name})" if data.hub else f"`{data.name}` (a local file)"


def _training_rows(
    facts: Facts,
    recipe: Mapping[str, Any],
    record: Mapping[str, Any],
    surroundings: Mapping[str, Any],
    events: list[dict[str, Any]],
    train: list[dict[str, Any]],
) -> list[tuple[str, str]]:
    batch, optimizer = recipe.get("step_scheduler") or {}, recipe.get("optimizer") or {}
    said = {str(event.get("kind")): str(event.get("text", "")) for event in events}
    last = train[-1] if train else {}
    style = (recipe.get("lr_scheduler") or {}).get("lr_decay_style", "constant")
    rows = [("method", facts.method)]
    if record.get("parameters"):
        share = record["trained_parameters"] / record["parameters"]
        rows.append(("parameters", f"{record['parameters']:,}, of which {record['trained_parameters']:,} trained ({share:.2%})"))
    if last:
        rows.append(("steps", f"{last.get('step')} optimizer steps, {number(last.get('epoch'))} epochs, {last.get('tokens_seen', 0):,} tokens seen"))
    rows.append(("batch", f"{batch.get('global_batch_size', '-')} rows a step"))
    rows.append(("optimizer", f"{optimizer.get('name', 'adamw')}, learning rate {optimizer.get('lr', '-')}, {style} schedule"))
    rows.append(("seed", str(recipe.get("seed", "-"))))
    if said.get("precision"):
        rows.append(("precision", said["precision"]))
    if said.get("strategy"):
        rows.append(("processes", f"{record.get('world_size') or 1}: {said['strategy']}"))
    gpus = surroundings.get("gpus") or []
    rows.append(("hardware", ", ".join(gpus) if gpus else f"{surroundings.get('cpu', 'CPU')}, {surroundings.get('cores', '?')} cores"))
    if len(train) > 1:
        rows.append(("time", duration(float(last.get("time", 0)) - float(train[0].get("time", 0)) + float(train[0].get("step_seconds") or 0))))
    peak = max((int(row.get("memory_bytes") or 0) for row in train), default=0)
    if peak:
        rows.append(("peak memory", f"{size_text(peak)} {'a GPU' if gpus else 'a process'}"))
    return rows


def _results(facts: Facts, rows: list[dict[str, Any]], train: list[dict[str, Any]]) -> None:
    """Give the losses at the very step that is published, not the best of the run."""
    until = [row for row in rows if facts.step is None or (row.get("step") or 0) <= facts.step]
    for split in dict.fromkeys(str(row.get("split", "train")) for row in until):
        if split == "train":
            continue
        last = [row for row in until if row.get("split") == split][-1]
        if last.get("loss") is not None:
            facts.validation[split] = float(last["loss"])
            facts.results.append((f"{split} loss", f"{last['loss']:.4f} at step {last.get('step')}, over {last.get('label_tokens', 0):,} tokens"))
    if train and train[-1].get("loss") is not None:
        facts.results.append(("training loss", f"{train[-1]['loss']:.4f} in the last step, {number(train[0].get('loss'))} in the first"))


def _samples(events: list[dict[str, Any]], own: list[str], step: int | None) -> list[tuple[str, str, str]]:
    """Return the recipe's own prompts with their first and last answers; rows of a data set are not for everybody to read."""
    answers: dict[str, list[str]] = {}
    for event in events:
        if event.get("kind") == "sample" and event.get("prompt") in own and (step is None or (event.get("step") or 0) <= step):
            answers.setdefault(str(event["prompt"]), []).append(str(event.get("answer", "")))
    return [(prompt, found[0], found[-1]) for prompt, found in answers.items()]


def _settings(path: Path) -> str:
    if not path.is_file():
        return ""
    from ruamel.yaml import YAML

    from automodel.recipe.dump import dump_yaml

    value = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    return dump_yaml(without_places(value)).strip() if isinstance(value, dict) else ""


def without_places(value: Any, key: str = "") -> Any:
    """Return settings without the folders of this machine: paths keep their last part, places of runs and caches go."""
    if isinstance(value, dict):
        return {name: kept for name, inner in value.items() if name not in _PLACE_KEYS and (kept := without_places(inner, name)) is not None}
    if isinstance(value, list):
        return [without_places(inner, key) for inner in value]
    if isinstance(value, str):
        if (match := _SNAPSHOT_ANY.search(value)) is not None:
            return match[1].replace("--", "/")
        return text_without_places(value)
    return value


_SNAPSHOT_ANY = re.compile(r"models--(.+?)/snapshots/")


def text_without_places(text: str) -> str:
    """Return a text in which each absolute path is only its last part."""
    return _ANYWHERE.sub(lambda match: match[0].rstrip("/").rpartition("/")[2], text)


def places_in(text: str) -> list[str]:
    """Return what looks like absolute paths of a machine: below a home, or existing here."""
    found = [match[0] for match in _ANYWHERE.finditer(text)]
    return [path for path in found if re.match(r"(/home/|/Users/|/root/|/mnt/|/tmp/|~)", path) or Path(path).exists()]


def as_json(value: Any) -> str:
    """Return a value as JSON text for a file of the folder."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
