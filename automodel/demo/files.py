"""Where the files of the demo lie inside the package."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).resolve().parent
MODEL = FOLDER / "model"
TRAIN = FOLDER / "data" / "train.json"
HELD_OUT = FOLDER / "data" / "heldout.json"
