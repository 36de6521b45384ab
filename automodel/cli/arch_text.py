"""The text of a new architecture file and of the package around it; what it is like is pointed to, never copied."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class NewArch:
    """All that the files of a new architecture say.

    Args:
        name: its class, such as `AcmeForCausalLM`.
        model_type: that of its config.json.
        module: the Python module that the file becomes.
        like: the class that it is like.
        like_module: module of that class, under `automodel.archs`.
        like_index: place in that module's ARCHITECTURES.
        like_spec: (module, function) of its spec.
        fields: fields of config.json with the meaning of an absent one.
        names: common name -> own name, for fields of older names.
        whole: the other class has a config file whose fields count as well.
    """

    name: str
    model_type: str
    module: str
    like: str
    like_module: str
    like_index: int
    like_spec: tuple[str, str]
    fields: Mapping[str, Any] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    whole: bool = False

    @property
    def title(self) -> str:
        """The name without the task."""
        return self.name.removesuffix("ForCausalLM")


def arch_file(new: NewArch) -> str:
    """Return the text of the architecture file."""
    module, function = new.like_spec
    modules = sorted({new.like_module, module})
    own = [] if new.whole else ["from automodel.archs.own import Filled"]
    imports = [
        f"from automodel.archs import {', '.join(modules)}",
        "from automodel.archs.base import Architecture, ConfigFile",
        "from automodel.archs.config import Config",
        *own,
        "from automodel.spec import DecoderSpec",
    ]
    read = "config" if new.whole else "Filled(config, FILE)"
    return "\n".join(
        [
            f'"""{new.title}: as {new.like} (`automodel.archs.{new.like_module}`); what differs is said here."""',
            "",
            "from __future__ import annotations",
            "",
            *imports,
            "",
            f"LIKE = {new.like_module}.ARCHITECTURES[{new.like_index}]",
            *(_whole_file(new) if new.whole else _fields_file(new)),
            "",
            "",
            "def spec(config: Config) -> DecoderSpec:",
            f'    """Return the decoder of a config of model_type {new.model_type}."""',
            f"    return {module}.{function}({read})",
            "",
            "",
            "ARCHITECTURES = (",
            "    Architecture(",
            f'        name="{new.name}",',
            "        spec=spec,",
            f'        model_type="{new.model_type}",',
            "        config=FILE,",
            "        rules=LIKE.rules,",
            "        tiny=LIKE.tiny,",
            "        variants=LIKE.variants,",
            "        unverified=LIKE.unverified,",
            "    ),",
            ")",
            "",
        ]
    )


def _whole_file(new: NewArch) -> list[str]:
    start = ["assert LIKE.config is not None", "FILE = ConfigFile(", f'    model_type="{new.model_type}",']
    if not new.fields:
        return [*start, "    fields=LIKE.config.fields,", "    names=LIKE.config.names,", ")"]
    return [*start, "    fields={", "        **LIKE.config.fields,", *_rows(new.fields), "    },", "    names=LIKE.config.names,", ")"]


def _fields_file(new: NewArch) -> list[str]:
    names = ["    names={", *_rows(new.names), "    },"] if new.names else []
    return [
        "# What config.json has, and what an absent field means; all other fields have the",
        f"# defaults of {new.like}.",
        "FILE = ConfigFile(",
        f'    model_type="{new.model_type}",',
        "    fields={",
        *_rows(new.fields),
        "    },",
        *names,
        ")",
    ]


def _rows(values: Mapping[str, Any]) -> list[str]:
    return [f"        {json.dumps(key)}: {_literal(value)}," for key, value in values.items()]


def _literal(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)}: {_literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return repr(value)


def project_file(new: NewArch) -> str:
    """Return the pyproject.toml of a plug-in: an installed one is found by its entry point."""
    return f'''[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{new.module.replace("_", "-")}"
version = "0.1.0"
description = "{new.name} for automodel"
dependencies = ["automodel-workbench"]

[project.entry-points."automodel.architectures"]
{new.model_type.replace(".", "_")} = "{new.module}:ARCHITECTURES"

[tool.hatch.build.targets.wheel]
include = ["{new.module}.py"]

[tool.ruff]
line-length = 120
lint.select = ["E", "F", "I", "UP", "B"]
'''


def test_file(new: NewArch) -> str:
    """Return the tests of a plug-in, where the contract suite of this project is not at hand."""
    return f'''"""A tiny {new.title}: built natively, saved and loaded alike, and able to learn."""

from __future__ import annotations

from pathlib import Path

import torch
from automodel import NeMoAutoModelForCausalLM
from automodel.registry import ModelRegistry, register_architecture

from {new.module} import ARCHITECTURES

(ENTRY,) = ARCHITECTURES
if ENTRY.name not in ModelRegistry:
    register_architecture(ENTRY)
OPT_IN = {{"allow_unverified": True}} if ENTRY.unverified else {{}}


def make() -> torch.nn.Module:
    fields = {{"model_type": ENTRY.model_type, "architectures": [ENTRY.name]}}
    torch.manual_seed(0)
    return NeMoAutoModelForCausalLM.from_config({{**fields, **ENTRY.tiny}}, **OPT_IN)


def test_it_is_native_and_comes_back_from_disk(tmp_path: Path) -> None:
    model = make().eval()
    assert model.resolution.implementation == "native", model.resolution
    model.save_pretrained(tmp_path)
    again = NeMoAutoModelForCausalLM.from_pretrained(tmp_path, **OPT_IN).eval()
    ids = torch.arange(5, 25)[None]
    torch.testing.assert_close(again(ids).logits, model(ids).logits)


def test_it_learns() -> None:
    model = make().train()
    ids = torch.arange(5, 25)[None]
    steps = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(5):
        loss = model(ids, labels=ids).loss
        losses.append(loss.item())
        loss.backward()
        steps.step()
        steps.zero_grad()
    assert losses[-1] < losses[0]
'''
