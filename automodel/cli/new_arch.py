"""`automodel new-arch`: a new architecture as one small file that points at the one it is like."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import json
import keyword
import pkgutil
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from automodel.cli.app import app
from automodel.cli.arch_text import NewArch, arch_file, project_file, test_file
from automodel.cli.output import put, put_json, say
from automodel.errors import ModelError, RequestError

if TYPE_CHECKING:
    from automodel.archs.base import Architecture

TASK = "ForCausalLM"
# Sizes that a released model of no given config might have; the files of a family say what it really has.
SIZES = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": None,
    "max_position_embeddings": 4096,
}
TOKENS = ("pad_token_id", "bos_token_id", "eos_token_id")
LONG = 8  # entries of a list that is still written down


@app.command()
def new_arch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Class of the new architecture, such as AcmeForCausalLM, or just Acme.")],
    like: Annotated[str, typer.Option("--like", help="Class, model_type or file of a native architecture that it is like.")],
    model_type: Annotated[str | None, typer.Option("--model-type", help="model_type of its config.json; else from NAME.")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="A real config.json of it, or the folder with it.")] = None,
    folder: Annotated[Path | None, typer.Option("--folder", help="Write a plug-in package there, not into this checkout.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Write the file of a new architecture that is like a native one, and its registration."""
    entry = _like(like)
    cls, kind, module = _names(name, model_type)
    room = _room() if folder is None else None
    place = folder if folder is not None else Path(f"automodel-{module}".replace("_", "-"))
    new = _describe(entry, cls, kind, module if room else f"automodel_{module}", _read_config(config))
    files = {room / f"{module}.py": arch_file(new)} if room else _package(place, new)
    _write(files)
    steps = _next_steps(new, room, place)
    if as_json:
        put_json({"name": new.name, "model_type": new.model_type, "like": new.like, "files": [str(path) for path in files], "next": steps})
        return 0
    for path in files:
        put(str(path))
    say("next:")
    for number, step in enumerate(steps, 1):
        say(f"  {number}. {step}")
    return 0


def _package(place: Path, new: NewArch) -> dict[Path, str]:
    return {
        place / f"{new.module}.py": arch_file(new),
        place / "pyproject.toml": project_file(new),
        place / f"test_{new.module}.py": test_file(new),
    }


def _next_steps(new: NewArch, room: Path | None, place: Path) -> list[str]:
    if room is not None:
        return [
            f"say in {room / new.module}.py what differs from {new.like}: fields in FILE, the rest in spec",
            f"python -m pytest tests/archs -k {new.name}    # the contract suite finds the file by itself",
            "automodel inspect FOLDER    # a real checkpoint of it",
            "docs/onboarding.md, section Parity: compare its logits with the reference",
        ]
    return [
        f"say in {place / new.module}.py what differs from {new.like}: fields in FILE, the rest in spec",
        f"pip install -e {place}    # it is then found wherever automodel runs",
        f"or, without installing: register_architecture(*{new.module}.ARCHITECTURES) before a model is loaded, with {place} on PYTHONPATH",
        f"python -m pytest {place}",
        "docs/onboarding.md, section Parity: compare its logits with the reference",
    ]


def _room() -> Path | None:
    """Return the folder of architecture files when this is run in a checkout of the project."""
    room = Path("automodel") / "archs"
    return room if (room / "base.py").is_file() and Path("pyproject.toml").is_file() else None


def _like(like: str) -> Architecture:
    from automodel.registry import ModelRegistry

    wanted = like.lower()
    known = [ModelRegistry.get(name) for name in ModelRegistry]
    native = [entry for entry in known if _file_of(entry)]
    for match in (_is_class, _is_type, _is_file):
        found = next((entry for entry in native if match(entry, wanted)), None)
        if found is not None:
            return found
    words = sorted({word for entry in native for word in (entry.name, str(entry.model_type), _file_of(entry))})
    near = difflib.get_close_matches(like, words, n=3, cutoff=0.5)
    fix = f"did you mean {' or '.join(near)}?" if near else "try llama, gpt2, or another file of automodel/archs"
    raise ModelError(f"no native architecture is called {like}", found=like, expected="a class, a model_type or a file of automodel/archs", fix=fix)


def _is_class(entry: Architecture, wanted: str) -> bool:
    return wanted in (entry.name.lower(), entry.name.removesuffix(TASK).lower())


def _is_type(entry: Architecture, wanted: str) -> bool:
    return entry.model_type == wanted


def _is_file(entry: Architecture, wanted: str) -> bool:
    return _file_of(entry) == wanted


def _file_of(entry: Architecture) -> str:
    """Return the file of automodel/archs that an architecture's spec lies in, or nothing for one from elsewhere."""
    package, _, module = (entry.spec.__module__ if entry.spec is not None else "").rpartition(".")
    return module if package == "automodel.archs" else ""


def _place_of(entry: Architecture) -> tuple[str, int]:
    """Return the module under `automodel.archs` that lists an architecture, and its place in the list."""
    import automodel.archs

    for info in pkgutil.iter_modules(automodel.archs.__path__):
        listed = getattr(importlib.import_module(f"automodel.archs.{info.name}"), "ARCHITECTURES", ())
        found = next((index for index, one in enumerate(listed) if one.name == entry.name), None)
        if found is not None:
            return info.name, found
    raise ModelError(f"{entry.name} is in no file of automodel/archs", found=entry.source, expected="one of its files", fix="name another")


def _names(name: str, model_type: str | None) -> tuple[str, str, str]:
    """Return class, model_type and module of a new architecture, or raise RequestError when one is wrong or taken."""
    from automodel.auto.compat import known_model_types
    from automodel.registry import ModelRegistry

    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or name == TASK:
        raise RequestError(
            "this is no name of a class", found=name, expected="letters and digits, such as AcmeForCausalLM", fix="choose another name"
        )
    stem = "".join(part[:1].upper() + part[1:] for part in name.removesuffix(TASK).split("_"))
    cls = stem + TASK
    kind = model_type if model_type is not None else re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", stem).lower()
    if not re.fullmatch(r"[a-z][a-z0-9_.-]*", kind):
        raise RequestError("this is no model_type", found=kind, expected="small letters, digits, - _ .", fix="pass another --model-type")
    taken = {found for entry in map(ModelRegistry.get, ModelRegistry) for found in (entry.name, *entry.also)}
    if cls in taken:
        raise RequestError("there is an architecture of this name", found=cls, expected="a new name", fix="choose another name")
    if kind in known_model_types() or ModelRegistry.find(model_type=kind) is not None:
        fix = "pass the model_type of the real config.json with --model-type; a known one needs no new architecture"
        raise RequestError("there is an architecture of this model_type", found=kind, expected="a new model_type", fix=fix)
    module = re.sub(r"\W", "_", kind)
    if keyword.iskeyword(module) or importlib.util.find_spec(f"automodel.archs.{module}") is not None:
        raise RequestError("no file can have this name", found=f"{module}.py", expected="a free name", fix="pass another --model-type")
    return cls, kind, module


def _read_config(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    file = path / "config.json" if path.is_dir() else path
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RequestError("the config cannot be read", found=f"{file}: {error}", expected="a config.json", fix="correct --config") from error
    if not isinstance(found, dict):
        raise RequestError("the config cannot be read", found=f"{file} holds no map", expected="a config.json", fix="correct --config")
    return found


def _describe(entry: Architecture, cls: str, kind: str, module: str, real: dict[str, Any] | None) -> NewArch:
    file, index = _place_of(entry)
    assert entry.spec is not None
    whole = entry.config is not None
    fields, names = ({}, {}) if whole else _sizes(entry)
    if real is not None:
        fields = _fields(entry, real) if whole else {**{key: real.get(key, value) for key, value in fields.items()}, **_fields(entry, real)}
    return NewArch(
        name=cls,
        model_type=kind,
        module=module,
        like=entry.name,
        like_module=file,
        like_index=index,
        like_spec=(_file_of(entry), entry.spec.__name__),
        fields=fields,
        names=names,
        whole=whole,
    )


def _sizes(entry: Architecture) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the size fields that a family has, under its own names, and those names."""
    from automodel.archs.config import OLD_NAMES

    names = {common: own for common, own in OLD_NAMES.items() if own in entry.tiny}
    fields = {names.get(key, key): value for key, value in SIZES.items() if names.get(key, key) in entry.tiny}
    return {**fields, **{key: entry.tiny[key] for key in TOKENS if key in entry.tiny}}, names


def _fields(entry: Architecture, real: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a real config that change the decoder, and its token ids.

    Raises:
        ModelError: the architecture does not compute this config; the reason is what a new spec has to add.
    """
    from automodel.archs.config import Config
    from automodel.spec import Unsupported

    assert entry.spec is not None
    try:
        wanted = entry.spec(Config(dict(real)))
    except Unsupported as reason:
        fix = "name another --like, or leave --config out and write the difference into the new file"
        raise ModelError(f"{entry.name} does not compute this config", found=str(reason), expected="a config of its kind", fix=fix) from reason
    kept = {}
    for key, value in real.items():
        if isinstance(value, list) and len(value) > LONG:
            continue
        rest = {name: other for name, other in real.items() if name != key}
        try:
            matters = entry.spec(Config(rest)) != wanted
        except Unsupported:
            matters = True
        if matters or key in TOKENS:
            kept[key] = value
    return kept


def _write(files: Mapping[Path, str]) -> None:
    there = [str(path) for path in files if path.exists()]
    if there:
        raise RequestError("nothing is written over", found=", ".join(there), expected="new files", fix="choose another name or --folder")
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
