"""What an exported model remembers of its run: a small file beside it, from which its card can be written when the run is gone.

Form of `automodel.json`: `{run, checkpoint, step, made, versions, facts}`; `facts` are what a card says (`automodel.hub.facts.Facts`), without
paths, host names and secrets. It is not pushed: what may be published is in the card, where a person can take it out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from automodel.hub.facts import SHOWN_VERSIONS, as_json, gather, recorded
from automodel.hub.source import find_source, origin_of
from automodel.run.environment import versions
from automodel.run.location import ORIGIN


def record_of(folder: Path, *, made: str, base: str | None = None) -> dict[str, Any]:
    """Return the record for what is made from a model or adapter folder.

    Args:
        folder: the folder that is exported.
        made: how, `copied` or `merged`.
        base: the base model that an adapter was merged into, where it is another than the adapter names.
    """
    source = find_source(folder)
    earlier = source.origin()
    facts = gather(source)
    if base is not None:
        facts.base = origin_of(base)
    return {
        "run": source.run.id if source.run is not None else earlier.get("run"),
        "checkpoint": source.checkpoint.path.name if source.checkpoint is not None else earlier.get("checkpoint"),
        "step": facts.step,
        "made": made,
        "versions": {name: text for name, text in versions().items() if name in SHOWN_VERSIONS},
        "facts": recorded(facts),
    }


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Write a record beside an exported model."""
    (folder / ORIGIN).write_text(as_json(record), encoding="utf-8")
