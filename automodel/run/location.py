"""Where run folders lie and what they are called."""

from __future__ import annotations

import os
import re
import secrets
import time
from pathlib import Path

ROOT_VARIABLE = "AUTOMODEL_RUNS"
RECORD = "run.json"
# Lies beside an exported model and says which run it comes from.
ORIGIN = "automodel.json"


def runs_root(root: Path | str | None = None) -> Path:
    """Return the folder that holds the runs: the argument, else $AUTOMODEL_RUNS, else ./runs."""
    return Path(root or os.environ.get(ROOT_VARIABLE) or "runs").expanduser()


def new_id() -> str:
    """Return six random hexadecimal digits."""
    return secrets.token_hex(3)


def folder_name(*, model: str, task: str, identity: str, name: str | None = None, now: float | None = None) -> str:
    """Return `<date-time>-<model or name>-<task>-<id>` with characters that are safe on every file system."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(now))
    return "-".join([stamp, _slug(name or Path(model).name), _slug(task), identity])


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._-")[:40] or "model"
