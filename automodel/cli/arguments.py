"""Telling overrides (`--a.b.c value`, `--a.b.c=value`) from a command's own options before the command line is parsed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from automodel.errors import RequestError

RECIPE_COMMANDS = ("finetune", "pretrain", "kd", "benchmark", "run", "validate", "plan", "preview")
VALUED = {
    "-c": "--config",
    "--config": "--config",
    "--nproc-per-node": "--nproc-per-node",
    "--nproc_per_node": "--nproc-per-node",
    "--runs-root": "--runs-root",
    "--allow-target": "--allow-target",
    "--allow_target": "--allow-target",
    "--executor": "--executor",
    "--nodes": "--nodes",
    "--devices": "--devices",
    "--nnodes": "--nodes",
    "--write": "--write",
    "--number": "--number",
    "--row": "--row",
    "--set": "--set",
    "--device-memory": "--device-memory",
}
FLAGS = ("--detach", "--debug", "--json", "--help")
_NAME = re.compile(r"--([A-Za-z_][\w-]*(?:\.[\w-]+)*)$")


@dataclass(frozen=True)
class Split:
    """A command line taken apart: the words for the parser, and the overrides as `--a.b.c=value`, or `--a.b.c` for true."""

    words: tuple[str, ...]
    overrides: tuple[str, ...] = field(default=())


def split(arguments: Sequence[str]) -> Split:
    """Take the overrides out of the command line of a command that reads a recipe; other commands are left as they are.

    `automodel FILE.yaml ...` becomes `automodel run FILE.yaml ...`.

    Raises:
        RequestError: an option is a misspelling of one of the command's own.
    """
    words = list(arguments)
    at = next((index for index, word in enumerate(words) if not word.startswith("-")), None)
    if at is None:
        return Split(tuple(words))
    if words[at].endswith((".yaml", ".yml")):
        words.insert(at, "run")
    if words[at] not in RECIPE_COMMANDS:
        return Split(tuple(words))
    return _take(words[: at + 1], words[at + 1 :])


def _take(kept: list[str], rest: list[str]) -> Split:
    overrides = []
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if name in VALUED:
            kept.append(VALUED[name] + (equals + value if equals and VALUED[name].startswith("--") else ""))
            if not equals and rest:
                kept.append(rest.pop(0))
        elif name in FLAGS or not _NAME.match(name):
            kept.append(word)
        else:
            _refuse_misspelling(name)
            if not equals and rest and not rest[0].startswith("--"):
                equals, value = "=", rest.pop(0)
            overrides.append(name + equals + value)
    return Split(tuple(kept), tuple(overrides))


def _refuse_misspelling(name: str) -> None:
    near = difflib.get_close_matches(name, [*VALUED, *FLAGS], n=1, cutoff=0.8)
    if near and "." not in name:
        raise RequestError("There is no such option.", found=name, expected=f"{near[0]}, or a setting of the recipe", fix=f"did you mean {near[0]}?")
