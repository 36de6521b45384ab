"""The files of a checkpoint folder: its manifest, the pointers `latest` and `best`, and what is kept."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

from automodel.errors import RunError

NAME = re.compile(r"epoch_(\d+)_step_(\d+)$")
MANIFEST = "manifest.json"
BLOCK = 1 << 20


def step_of(folder: Path) -> int:
    """Return the step in a checkpoint's folder name, or -1 for another folder."""
    match = NAME.fullmatch(folder.name)
    return int(match.group(2)) if match else -1


def checkpoints_in(root: Path) -> list[Path]:
    """Return the checkpoint folders below `root`, oldest first; unfinished ones have other names and are left out."""
    found = [path for path in root.iterdir() if step_of(path) >= 0 and path.is_dir() and not path.is_symlink()] if root.is_dir() else []
    return sorted(found, key=step_of)


def write_manifest(folder: Path, facts: dict[str, Any]) -> None:
    """Write sizes and SHA-256 of every file of the folder beside the given facts, and put all of it on the disk."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            files[path.relative_to(folder).as_posix()] = {"size": path.stat().st_size, "sha256": _digest(path, sync=True)}
    body = {**facts, "created": time.time(), "verified": True, "files": files}
    target = folder / MANIFEST
    with target.open("w", encoding="utf-8") as file:
        json.dump(body, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def _digest(path: Path, *, sync: bool = False) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
        if sync:
            os.fsync(file.fileno())
    return digest.hexdigest()


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a checkpoint.

    Raises:
        RunError: there is none, so the folder was never finished.
    """
    try:
        body: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(
            "The folder is not a finished checkpoint.",
            found=f"{folder} ({error})",
            expected=f"a folder checkpoints/epoch_E_step_S with {MANIFEST}",
            fix="choose another checkpoint of the run",
        ) from error
    return body


def verify_manifest(folder: Path, *, hashes: bool = True) -> dict[str, Any]:
    """Compare every file of a checkpoint with its manifest and return the manifest.

    Raises:
        RunError: a file is missing or differs; the message names it.
    """
    body = read_manifest(folder)
    for name, facts in body["files"].items():
        path = folder / name
        size = path.stat().st_size if path.is_file() else None
        if size != facts["size"] or (hashes and _digest(path) != facts["sha256"]):
            raise RunError(
                f"The checkpoint file {name} is damaged.",
                found="no such file" if size is None else f"{size} bytes with another hash",
                expected=f"{facts['size']} bytes, SHA-256 {facts['sha256'][:12]}…",
                fix=f"resume from another checkpoint in {folder.parent}",
            )
    return body


def newest(root: Path) -> Path | None:
    """Return the newest checkpoint whose files agree with its manifest, or None."""
    for folder in reversed(checkpoints_in(root)):
        try:
            verify_manifest(folder)
        except RunError:
            continue
        return folder
    return None


def point(root: Path, pointer: str, name: str) -> None:
    """Let `latest` or `best` name a checkpoint: a relative link, or a text file where links are not allowed."""
    aside = root / f".{pointer}.new"
    try:
        aside.unlink(missing_ok=True)
        aside.symlink_to(name, target_is_directory=True)
        os.replace(aside, root / pointer)
    except OSError:
        (root / f"{pointer}.txt").write_text(name + "\n", encoding="utf-8")


def prune(root: Path, *, keep: int | None, best: str | None) -> list[str]:
    """Delete all but the newest `keep` checkpoints and the best one; return the names that went."""
    if keep is None:
        return []
    gone = [folder for folder in checkpoints_in(root)[:-keep] if folder.name != best]
    for folder in gone:
        shutil.rmtree(folder)
    return [folder.name for folder in gone]
