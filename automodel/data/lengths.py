"""What a dataset section says about the length of rows."""

from __future__ import annotations

from automodel.recipe.schema import DatasetSection


def truncates(section: DatasetSection) -> bool:
    """Tell whether too long rows are cut; the words of transformers are understood."""
    return section.truncation not in (False, "do_not_truncate", "false", "none")


def row_length(section: DatasetSection) -> int | None:
    """Return the length in tokens that every row is filled to, or None for the longest of its batch."""
    return section.seq_length if section.padding == "max_length" else None
