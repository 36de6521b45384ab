"""A model folder before it leaves this machine: whole, complete, loadable, and without what must not be published."""

from __future__ import annotations

import fnmatch
import hashlib
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automodel.errors import ModelError, RunError
from automodel.hub.errors import SECRET
from automodel.hub.facts import as_json, places_in
from automodel.hub.source import ADAPTER, CONFIG, Source, origin_of, read_map
from automodel.run import find_base
from automodel.run.files import read_json
from automodel.run.location import ORIGIN

if TYPE_CHECKING:
    import torch

BLOCK = 1 << 20
TEXT_BYTES = 50_000_000
# State of a training, caches and pickled code have no place in a published model. Nor has the record of an export: what may be published
# is in the card, where a person can take it out.
LEFT_OUT = (
    ORIGIN,
    "optimizer*",
    "scheduler*",
    "rng_state*",
    "training_args.bin",
    "trainer_state.json",
    "*.pkl",
    "*.pickle",
    "*.distcp",
    "*.lock",
    "*.partial",
    "events.out.*",
)
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model", "tekken.json")
_LOADING_FAULTS = (
    ("missing_keys", "lack"),
    ("mismatched_keys", "have another shape than it says:"),
    ("unexpected_keys", "hold, without being asked,"),
)
_NAMES_A_PLACE = ("_name_or_path", "name_or_path", "base_model_name_or_path")


@dataclass(frozen=True)
class SentFile:
    """One file that is to be published: its bytes lie in `path`, or in `content` where they differ from what is on disk."""

    name: str
    size: int
    sha256: str
    path: Path | None = None
    content: bytes | None = None


@dataclass(kw_only=True)
class Checked:
    """A folder that was found fit to be published: `files` by name, and `notes` on what a reader should know."""

    folder: Path
    kind: str
    files: dict[str, SentFile]
    notes: list[str] = field(default_factory=list)

    def put(self, name: str, content: bytes) -> None:
        """Add a file, or replace one, by its content."""
        self.files[name] = SentFile(name, len(content), hashlib.sha256(content).hexdigest(), content=content)


def check_folder(source: Source, *, load: bool = True, base_model: str | None = None, token: str | None = None) -> Checked:
    """Check a model or adapter folder and return what would be sent.

    Args:
        source: the folder, with the run it comes from if there is one.
        load: also load the model and compute with it; an adapter is put on its base model, if that is on this machine.
        base_model: Hub id that an adapter shall name as its base.
        token: looked for in the texts, together with everything that looks like one.

    Raises:
        ModelError: a file is missing or damaged, the weights do not fit the config, or a text holds a token.
    """
    from automodel.auto import verify_hf

    verify_hf(source.folder).check()
    _check_parts(source)
    checked = Checked(folder=source.folder, kind="adapter" if source.is_adapter else "model", files={})
    _collect(checked)
    _compare_with_manifest(source, checked)
    _without_places(source, checked, base_model)
    if load:
        checked.notes += _load_adapter(source) if source.is_adapter else _load_model(source)
    _check_texts(checked, token)
    return checked


def _check_parts(source: Source) -> None:
    folder = source.folder
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise ModelError(
            "The folder has no tokenizer, so nobody could use the model.",
            found=", ".join(sorted(path.name for path in folder.iterdir())[:12]),
            expected=f"one of {', '.join(TOKENIZER_FILES[:4])}",
            fix="save the tokenizer beside the weights: tokenizer.save_pretrained(FOLDER)",
        )


def _collect(checked: Checked) -> None:
    left = []
    for path in sorted(checked.folder.rglob("*")):
        name = path.relative_to(checked.folder).as_posix()
        if not path.is_file() or name == "README.md":
            continue
        if any(part.startswith(".") or part == "__pycache__" for part in name.split("/")) or any(fnmatch.fnmatch(path.name, one) for one in LEFT_OUT):
            left.append(name)
            continue
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
        checked.files[name] = SentFile(name, path.stat().st_size, digest.hexdigest(), path=path)
    if left:
        checked.notes.append(f"left out, because it is no part of a model: {', '.join(left[:8])}" + (" ..." if len(left) > 8 else ""))


def _compare_with_manifest(source: Source, checked: Checked) -> None:
    """Hold what is sent against the hashes that were taken when the checkpoint was written."""
    manifest = read_json(source.checkpoint.path / "manifest.json") if source.checkpoint is not None else None
    for name, facts in ((manifest or {}).get("files") or {}).items():
        inner = name.removeprefix("model/")
        if inner in checked.files and name != inner and checked.files[inner].sha256 != facts.get("sha256"):
            raise ModelError(
                f"{inner} is not the file that the run saved; nothing was sent.",
                found=f"SHA-256 {checked.files[inner].sha256[:12]}…, {checked.files[inner].size:,} bytes",
                expected=f"SHA-256 {str(facts.get('sha256'))[:12]}…, {facts.get('size'):,} bytes, as in manifest.json",
                fix="take another checkpoint (`automodel status RUN` lists them); a folder that you changed on purpose can be pushed as a copy",
            )


def _without_places(source: Source, checked: Checked, base_model: str | None) -> None:
    """Take folders of this machine out of the config files; an adapter names its base by Hub id, or not at all."""
    for name in [one for one in checked.files if one.endswith(".json") and "/" not in one and "tokenizer.json" not in one]:
        file = checked.files[name]
        data = read_map(file.path) if file.path is not None and file.size < TEXT_BYTES else {}
        changed = dict(data)
        for key in _NAMES_A_PLACE:
            value = data.get(key)
            if isinstance(value, str) and value and (named := _published_name(value, source)) != value:
                changed[key] = named
        if name == ADAPTER:
            changed["base_model_name_or_path"] = base_model or changed.get("base_model_name_or_path")
            if not changed["base_model_name_or_path"]:
                note = "the adapter names no base model, because that is a folder of this machine; name its Hub id with base_model"
                checked.notes.append(note)
        if changed != data:
            checked.put(name, as_json(changed).encode())


def _published_name(value: str, source: Source) -> str | None:
    origin = origin_of(value, cwd=source.launched_in)
    return origin.name if origin.hub else None


def _check_texts(checked: Checked, token: str | None) -> None:
    """Refuse texts that hold a token; say which hold a folder of this machine."""
    for file in checked.files.values():
        if file.size > TEXT_BYTES or not file.name.endswith((".json", ".md", ".txt", ".jinja", ".py", ".yaml", ".yml")):
            continue
        text = (file.content if file.content is not None else file.path.read_bytes() if file.path else b"").decode("utf-8", "replace")
        check_secrets(file.name, text, token)
        if file.name not in TOKENIZER_FILES and (found := places_in(text)):
            checked.notes.append(f"{file.name} names a folder of this machine: {found[0]}")


def check_secrets(name: str, text: str, token: str | None) -> None:
    """Refuse a text that holds a token of the Hub.

    Raises:
        ModelError: it does; the message does not repeat it.
    """
    if (token and token in text) or SECRET.search(text):
        raise ModelError(
            f"{name} holds a token of the Hub; nothing was sent.",
            found="text of the form hf_...",
            expected="no secret in what is published",
            fix=f"take it out of {name}, and revoke that token in the settings of your account",
        )


def _load_model(source: Source) -> list[str]:
    """Load the weights as a user would and compute once."""
    from automodel.auto import models
    from automodel.hub.facts import PIPELINE_OF_CLASS
    from automodel.hub.usage import AUTO_CLASSES

    names = [str(name) for name in source.config().get("architectures") or [""]]
    pipeline = next((kind for part, kind in PIPELINE_OF_CLASS if names[0].endswith(part)), "")
    auto: Any = getattr(models, f"NeMo{AUTO_CLASSES.get(pipeline, 'AutoModelForCausalLM')}")
    model, info = auto.from_pretrained(str(source.folder), output_loading_info=True, use_liger_kernel=False)
    for kind, what in _LOADING_FAULTS:
        wrong = sorted(str(name) for name in info.get(kind) or ())
        if wrong:
            raise ModelError(
                f"The weights do not fit the config; they {what} {wrong[0]}.",
                found=f"{len(wrong)} such tensors",
                expected="a tensor for each parameter of the model, and no other",
                fix="save the model again, or take another checkpoint",
            )
    return [] if pipeline else _compute(model, source.folder)


def _compute(model: Any, folder: Path) -> list[str]:
    import torch

    from automodel.auto import NeMoAutoTokenizer

    tokenizer = NeMoAutoTokenizer.from_pretrained(str(folder))
    ids = torch.tensor([tokenizer("A text to read.")["input_ids"] or [0]])
    rows = model.get_input_embeddings().weight.shape[0]
    if int(ids.max()) >= rows:
        raise ModelError(
            "The tokenizer does not belong to the model: it makes ids that have no embedding.",
            found=f"id {int(ids.max())}, {rows} embeddings",
            expected=f"ids below {rows}",
            fix="save the tokenizer that the model was trained with beside it",
        )
    with torch.no_grad():
        logits: torch.Tensor = model.eval()(input_ids=ids).logits
    if not bool(torch.isfinite(logits).all()):
        raise ModelError(
            "The model computes values that are no numbers.",
            found="NaN or infinity in the logits of a short text",
            expected="finite logits",
            fix="take an earlier checkpoint",
        )
    return []


def _load_adapter(source: Source) -> list[str]:
    """Build the base model's skeleton from its config, put the adapter's layers on it, and compare names and shapes; no base weight is read."""
    import torch
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict

    from automodel.auto import class_that_writes, verify_hf

    config = source.config()
    named = str(config.get("base_model_name_or_path") or "")
    if config.get("task_type") != "CAUSAL_LM" or config.get("peft_type") != "LORA":
        return [f"the adapter was not put on its base model: {config.get('peft_type')} for {config.get('task_type')} is not checked"]
    try:
        place = find_base(named, source.run.folder if source.run is not None else None)
        shape = class_that_writes(place).from_pretrained(place, device="meta", revision=config.get("revision"))
    except (ModelError, RunError) as error:
        return [f"the adapter was not put on its base model, which is not here: {error.what}"]
    lora = LoraConfig.from_pretrained(str(source.folder))
    lora.init_lora_weights, lora.base_model_name_or_path = False, place
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # between peft and transformers: nobody here can act on it
        built: Any = get_peft_model(shape, lora)
    wanted = {name: tuple(value.shape) for name, value in get_peft_model_state_dict(built).items()}
    found = {name: info.shape for name, info in verify_hf(source.folder).tensors.items()}
    wrong = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if wrong:
        raise ModelError(
            f"The adapter does not fit its base model at {wrong[0]}.",
            found=f"shape {list(found[wrong[0]])}" if wrong[0] in found else "no such tensor in the adapter",
            expected=f"shape {list(wanted[wrong[0]])}" if wrong[0] in wanted else "no such layer in the base model",
            fix="name the base model it was trained on",
        )
    return []


__all__ = ["CONFIG", "Checked", "SentFile", "check_folder", "check_secrets"]
