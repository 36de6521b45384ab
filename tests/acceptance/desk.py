"""A person at a desk: a folder with a recipe, a model and data, and the command line called from it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RECIPE = """\
recipe: TrainFinetuneRecipeForNextTokenPrediction
model:
  pretrained_model_name_or_path: model
dataset:
  path_or_dataset: rows.jsonl
  seq_length: 128
step_scheduler:
  global_batch_size: 4
  local_batch_size: 2
  max_steps: 2
optimizer:
  lr: 1e-3
"""
FINETUNE = ("finetune", "llm", "-c", "recipe.yaml")
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONPATH": str(ROOT)}


@dataclass(frozen=True)
class Answer:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


class Desk:
    """A working folder with `recipe.yaml`, `model/` and `rows.jsonl`; it is the current folder while a command runs in it."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder, self.recipe, self.rows = folder, folder / "recipe.yaml", folder / "rows.jsonl"
        self.model = Path(shutil.copytree(model, folder / "model"))
        self.recipe.write_text(RECIPE)
        self.write_rows({"context": "The bridge was built by Anna.", "question": "Who built it?", "answers": {"text": ["Anna"]}} for _ in range(16))

    def write_rows(self, rows: object) -> None:
        """Write the data: an iterable of rows, each an object or the text of its line."""
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]  # type: ignore[attr-defined]  # an iterable
        self.rows.write_text("".join(line + "\n" for line in lines))

    def edit(self, old: str, new: str) -> None:
        """Change the text of the recipe."""
        text = self.recipe.read_text()
        assert text.count(old) == 1, old
        self.recipe.write_text(text.replace(old, new))

    def config(self, **changes: object) -> None:
        """Change config.json of the model."""
        file = self.model / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    def call(self, *words: str) -> Answer:
        """Run the command line in this process."""
        from automodel.cli import main

        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main(list(words))
                code = 0
            except SystemExit as end:
                code = int(end.code or 0)
        return Answer(code, out.getvalue(), err.getvalue())

    def start(self, *words: str, **environment: str) -> Answer:
        """Run the command line in a process of its own."""
        env = {**os.environ, **ENVIRONMENT, **environment}
        done = subprocess.run(
            [sys.executable, "-m", "automodel", *words], cwd=self.folder, env=env, capture_output=True, text=True, timeout=120, check=False
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def refuse(self, *words: str, here: bool = True, **environment: str) -> str:
        """Run a command that must be refused: code 2, one message in four parts, and not a file more or less than before."""
        before = listing(self.folder)
        answer = self.call(*words) if here else self.start(*words, **environment)
        assert answer.code == 2, answer
        check_message(answer.err)
        assert answer.out == ""
        assert listing(self.folder) == before
        return answer.err


def check_message(text: str) -> None:
    """Check that a text on stderr is one error with what, found, expected and fix, as a person is to see it."""
    lines = text.splitlines()
    assert lines[0].startswith("error: "), text
    assert [line for line in lines if line.startswith("error")] == lines[:1], text
    for label in ("found:", "expected:", "fix:"):
        rows = [line.split(label, 1)[1].strip() for line in lines[1:] if line.strip().startswith(label)]
        assert len(rows) == 1, f"{label} {text}"
        assert rows[0], f"{label} is empty: {text}"
    for mark in ("Traceback", "Error(", "pydantic", "  File "):
        assert mark not in text, text


def listing(folder: Path) -> list[str]:
    """Return every file and folder below a folder, with sizes: nothing may be left behind, nor anything be changed."""
    return sorted(f"{path.relative_to(folder)} {path.stat().st_size if path.is_file() else ''}" for path in folder.rglob("*"))


def overrides(*pairs: str) -> Sequence[str]:
    """Return `a.b=c` as the words of a command line."""
    return [f"--{pair}" for pair in pairs]
