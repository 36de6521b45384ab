"""Data: from files and hub sets to token rows, from token rows to batches; the same rows in the same order on any number of processes.

`build_dataset` reads, formats and tokenises; it loads no torch. `build_loader` deals the rows to the ranks.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from automodel.data.batch import collate
    from automodel.data.build import build_dataset, check_dataset
    from automodel.data.dataset import DataReport, Shown, TokenizedDataset
    from automodel.data.loader import Loader, build_loader, build_sampler
    from automodel.data.preview import PreviewRow, data_report, preview_row, preview_rows
    from automodel.data.sampler import GlobalBatchSampler
else:
    _HOMES = {
        "build_dataset": "build",
        "check_dataset": "build",
        "collate": "batch",
        "DataReport": "dataset",
        "Shown": "dataset",
        "TokenizedDataset": "dataset",
        "Loader": "loader",
        "build_loader": "loader",
        "build_sampler": "loader",
        "PreviewRow": "preview",
        "data_report": "preview",
        "preview_row": "preview",
        "preview_rows": "preview",
        "GlobalBatchSampler": "sampler",
    }

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


__all__ = [
    "DataReport",
    "GlobalBatchSampler",
    "Loader",
    "PreviewRow",
    "Shown",
    "TokenizedDataset",
    "build_dataset",
    "build_loader",
    "build_sampler",
    "check_dataset",
    "collate",
    "data_report",
    "preview_row",
    "preview_rows",
]
