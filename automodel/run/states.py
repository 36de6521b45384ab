"""The states of a run, and how a reader works out the true one from files and living processes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from automodel.run.process import ProcessIdentity, is_alive

ACTIVE = ("created", "preparing", "training", "validating", "saving", "stopping")
FINAL = ("finished", "stopped", "failed")
SUPERVISED = ("supervisor", "launching")
HEARTBEAT_LIMIT = 120.0


@dataclass(frozen=True)
class Status:
    """Where a run stands: `state` as a reader should see it, `alive` if any of its processes lives."""

    state: str
    alive: bool
    step: int | None = None
    total_steps: int | None = None
    loss: float | None = None
    validation_loss: float | None = None
    best_validation_loss: float | None = None
    created: float | None = None
    ended: float | None = None
    heartbeat: float | None = None
    launcher: str | None = None
    world_size: int | None = None
    resumes: int = 0
    reason: str = ""

    @property
    def done(self) -> bool:
        """Say whether the run has ended, one way or another."""
        return self.state in FINAL

    @property
    def exit_code(self) -> int | None:
        """Return what a command that followed this run returns: 0, 1 or 3; None while it goes on."""
        return {"finished": 0, "failed": 1, "stopped": 3}.get(self.state)


def decide(record: dict[str, Any], ranks: dict[int, dict[str, Any]]) -> tuple[str, bool, str]:
    """Return the true state, whether any process lives, and why the written state was not believed.

    A supervisor may be killed while the ranks go on, so all of them must be dead before an active state reads `failed`. For a process of
    another host or container the age of the heartbeat decides.
    """
    written = str(record.get("state", "created"))
    verdicts = [is_alive(ProcessIdentity.from_dict(part)) for part in (record, *ranks.values())]
    alive = any(verdict is True for verdict in verdicts)
    if written in FINAL:
        # A supervisor still has to see its workers off; a foreground job (in a notebook that lives on) wrote its state as its last act.
        return written, alive and record.get("launcher") in SUPERVISED, ""
    if alive:
        return written, True, ""
    if any(verdict is None for verdict in verdicts):
        age = time.time() - float(record.get("heartbeat") or record.get("created") or 0)
        if age <= HEARTBEAT_LIMIT:
            return written, True, ""
        return "failed", False, f"no sign of life from {record.get('host')} for {age:.0f} seconds"
    return "failed", False, f"its processes ended while it was {written}, without saying why"
