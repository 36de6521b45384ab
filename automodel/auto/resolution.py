"""Why a model or tokenizer is what it is: the implementation taken, its reasons, and every fallback on the way."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from typing import Literal


@dataclass
class Resolution:
    """Which implementation was taken and why; `events` holds each step down and each repair, in order.

    Args:
        implementation: native (of this package or registered) or hf (transformers' own class).
        class_name: the class that was built.
        reasons: one sentence a reason.
        events: one sentence a fallback; empty when all went as asked.
    """

    implementation: Literal["native", "hf"]
    class_name: str
    reasons: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{self.class_name} ({self.implementation})"]
        lines += [f"  because {reason}" for reason in self.reasons]
        lines += [f"  note: {event}" for event in self.events]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        items = "".join(f"<li>{html.escape(reason)}</li>" for reason in self.reasons)
        items += "".join(f"<li><em>{html.escape(event)}</em></li>" for event in self.events)
        return f"<b>{html.escape(self.class_name)}</b> ({self.implementation})<ul>{items}</ul>"
