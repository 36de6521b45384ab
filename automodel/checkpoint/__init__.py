"""Checkpoints: writing them aside and whole, reading them back exactly, and making plain HF folders of them."""

from automodel.checkpoint.export import base_of, export, load_model, merge_adapter, model_folder
from automodel.checkpoint.files import newest, read_manifest, verify_manifest
from automodel.checkpoint.restore import restore
from automodel.checkpoint.save import Snapshot, save_checkpoint

__all__ = [
    "Snapshot",
    "base_of",
    "export",
    "load_model",
    "merge_adapter",
    "model_folder",
    "newest",
    "read_manifest",
    "restore",
    "save_checkpoint",
    "verify_manifest",
]
