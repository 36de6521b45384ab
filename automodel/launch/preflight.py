"""Check a request in a short-lived process of its own, so that a notebook or a launcher never loads torch.

`python -m automodel.launch.preflight RECIPE.yaml [--nproc N] [--root DIR] [--allow-target NAME ...]` prints one JSON object:
`{"nproc": N}` with exit code 0, or `{"error": {...}}` with the error's exit code.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automodel import errors
from automodel.errors import AutomodelError
from automodel.launch.devices import device_environment

if TYPE_CHECKING:
    from automodel.launch.request import Request


def check(
    request: Request,
    *,
    nproc: int | None = None,
    devices: Sequence[str] | None = None,
    root: Path | str | None = None,
    module: str = "automodel.launch.preflight",
) -> int:
    """Have a request checked by a child process; returns the number of processes: `nproc`, else one for each GPU, at least one.

    Raises:
        RequestError: the request is wrong; it carries what the child found.
    """
    with tempfile.TemporaryDirectory(prefix="automodel-") as folder:
        path = Path(folder) / "recipe.yaml"
        path.write_text(request.recipe.to_yaml(), encoding="utf-8")
        words = [sys.executable, "-m", module, str(path)]
        words += [] if nproc is None else ["--nproc", str(nproc)]
        words += [] if root is None else ["--root", str(root)]
        words += [word for name in request.allow_targets for word in ("--allow-target", name)]
        seen = {**os.environ, **device_environment(devices)}
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=seen)
    answer = _answer(done.stdout)
    if "error" in answer:
        raise rebuild(answer["error"])
    if done.returncode != 0:
        raise errors.JobFailed("The check of the recipe broke off.", found=f"exit code {done.returncode}\n{done.stderr[-4000:].strip()}")
    return int(answer.get("nproc", nproc or 1))


def _answer(text: str) -> dict[str, Any]:
    """Return the JSON object on the last line; libraries may have printed before it."""
    lines = text.strip().splitlines()
    try:
        value = json.loads(lines[-1]) if lines else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def public_name(error: AutomodelError) -> str:
    """Return the name of the error's nearest class in `automodel.errors`: what `rebuild` can make again."""
    name: str = next(kind.__name__ for kind in type(error).__mro__ if getattr(errors, kind.__name__, None) is kind)
    return name


def rebuild(parts: dict[str, str]) -> AutomodelError:
    """Make the error again that `as_dict` and the class name describe."""
    kind = getattr(errors, parts.get("class", ""), AutomodelError)
    made: AutomodelError = kind(parts.get("what", ""), **{key: parts.get(key, "") for key in ("found", "expected", "fix")})
    return made


def main(arguments: Sequence[str]) -> int:
    """Check one recipe file and print the answer."""
    from automodel.recipe import load_recipe
    from automodel.tasks.preflight import preflight

    parser = argparse.ArgumentParser(prog="automodel.launch.preflight")
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--nproc", type=int)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--allow-target", action="append", default=[])
    chosen = parser.parse_args(arguments)
    nproc = chosen.nproc or _devices()
    try:
        recipe = load_recipe(chosen.recipe, allow_targets=chosen.allow_target).recipe
        preflight(recipe, world_size=nproc, runs_root=chosen.root)
    except AutomodelError as error:
        print(json.dumps({"error": {"class": public_name(error), **error.as_dict()}}))
        return error.exit_code
    print(json.dumps({"nproc": nproc}))
    return 0


def _devices() -> int:
    import torch

    return max(1, torch.cuda.device_count())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
