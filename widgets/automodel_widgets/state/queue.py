"""A queue for a class on one machine: a file in the shared folder says who waits and who runs, and everybody gets a turn.

There is no server. Each notebook looks at the file, under a lock, and starts its own job when it is next. A ticket whose notebook or job has
died is taken out by whoever looks next: a process is known by its number and its start time, as numbers are used again.
"""

from __future__ import annotations

import re
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from automodel.errors import AutomodelError, RequestError
from automodel.run import Run
from automodel.run.files import locked, read_json, write_json
from automodel.run.process import ProcessIdentity, identify, is_alive

# Hidden, so that no list of runs or students takes it for one.
FOLDER = ".queue"
WAITING, STARTING, RUNNING, STOPPING = "waiting", "starting", "running", "over time"
IN_USE = (STARTING, RUNNING, STOPPING)
DONE = ("finished", "stopped", "failed", "left", "gone")
KEPT_SECONDS = 24 * 3600
# Where liveness cannot be known (another container), a waiting notebook counts as alive for so long after its last look.
SEEN_SECONDS = 120
SEEN_EVERY = 20


@dataclass(frozen=True)
class Ticket:
    """One wish to run: whose, what, and how it stands."""

    id: str
    student: str
    what: str
    created: float
    owner: dict[str, Any]
    state: str = WAITING
    seen: float = 0.0
    started: float | None = None
    ended: float | None = None
    run: str | None = None
    why: str = ""


class ClassQueue:
    """The queue of a shared folder.

    Args:
        root: the folder of the class; each student's runs lie in a folder below it.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self.folder = self.root / FOLDER

    # What everybody sees.

    def tickets(self) -> list[Ticket]:
        """Return all tickets of the last day, oldest first."""
        return self._read()[1]

    @property
    def slots(self) -> int:
        """How many jobs may run at once."""
        return int(self._read()[0].get("slots", 1))

    @property
    def minutes(self) -> float:
        """How long a job may run before it is stopped (it is saved, and can be resumed); 0 for no limit."""
        return float(self._read()[0].get("minutes", 10))

    def set(self, *, slots: int | None = None, minutes: float | None = None) -> None:
        """Change the slots or the time limit, for everybody.

        Raises:
            RequestError: the number makes no sense.
        """
        if slots is not None and not 1 <= slots <= 64:
            raise RequestError("The number of slots is out of bounds.", found=str(slots), expected="1 to 64")
        if minutes is not None and not 0 <= minutes <= 24 * 60:
            raise RequestError("The time limit is out of bounds.", found=f"{minutes:g}", expected="0 (none) to 1440 minutes")
        with self._changing() as (settings, _):
            settings.update({name: value for name, value in (("slots", slots), ("minutes", minutes)) if value is not None})

    def order(self) -> list[Ticket]:
        """Return the waiting tickets in the order of their turn."""
        return turns(self.tickets())

    # What a notebook does.

    def join(self, student: str, what: str) -> Ticket:
        """Take a ticket.

        Raises:
            RequestError: the name cannot be a folder's name.
        """
        made = Ticket(uuid4().hex[:8], folder_name(student), what, time.time(), identify().as_dict(), seen=time.time())
        with self._changing() as (_, tickets):
            tickets.append(made)
        return made

    def leave(self, ticket: str) -> None:
        """Give a waiting ticket back."""
        self._change(ticket, lambda one: replace(one, state="left", ended=time.time()) if one.state == WAITING else one)

    def claim(self, mine: Sequence[str]) -> Ticket | None:
        """Return my ticket when it is its turn and a slot is free: the caller starts it now, and says `started` or `failed`."""
        with self._changing() as (settings, tickets):
            busy = sum(one.state in IN_USE for one in tickets)
            free = int(settings.get("slots", 1)) - busy
            for one in turns(tickets)[: max(free, 0)]:
                if one.id in mine:
                    claimed = replace(one, state=STARTING, started=time.time())
                    tickets[tickets.index(one)] = claimed
                    return claimed
        return None

    def started(self, ticket: str, run: Path) -> None:
        """Say that the job of a claimed ticket runs."""
        self._change(ticket, lambda one: replace(one, state=RUNNING, run=str(run)))

    def failed(self, ticket: str, why: str) -> None:
        """Say that the job of a claimed ticket could not be started."""
        self._change(ticket, lambda one: replace(one, state="failed", ended=time.time(), why=why))

    def look(self, mine: Sequence[str] = ()) -> list[Ticket]:
        """Settle what has changed: jobs that ended, notebooks that died, jobs over their time; return all tickets."""
        now = time.time()
        with self._changing() as (settings, tickets):
            limit = 60 * float(settings.get("minutes", 10))
            for place, one in enumerate(tickets):
                settled = self._settle(one, now, limit)
                if settled.id in mine and now - settled.seen > SEEN_EVERY:
                    settled = replace(settled, seen=now)
                tickets[place] = settled
            return list(tickets)

    def _settle(self, one: Ticket, now: float, limit: float) -> Ticket:
        if one.state in (WAITING, STARTING):
            return one if _lives(one, now) else replace(one, state="gone", ended=now, why="its notebook was closed")
        if one.state not in IN_USE:
            return one
        try:
            run = Run(str(one.run))
            status = run.status
        except AutomodelError:
            return replace(one, state="gone", ended=now, why="its run folder was deleted")
        if status.done and not status.alive:
            why = one.why if one.state == STOPPING else ""
            return replace(one, state=status.state, ended=status.ended or now, why=why)
        if limit and one.state == RUNNING and now - (one.started or now) > limit:
            with suppress(OSError):  # another student's folder: their own notebook stops it
                run.stop(save=True)
                return replace(one, state=STOPPING, why="its time was over; it is saved and can be resumed")
        return one

    # The file.

    def _read(self) -> tuple[dict[str, Any], list[Ticket]]:
        record = read_json(self.folder / "queue.json") or {}
        known = {field.name for field in fields(Ticket)}
        found = [Ticket(**{key: value for key, value in one.items() if key in known}) for one in record.get("tickets", ())]
        return dict(record.get("settings", {})), found

    @contextmanager
    def _changing(self) -> Iterator[tuple[dict[str, Any], list[Ticket]]]:
        self._prepare()
        with locked(self.folder / "lock"):
            settings, tickets = self._read()
            before = (dict(settings), list(tickets))
            yield settings, tickets
            if (settings, tickets) == before:
                return
            new = [asdict(one) for one in tickets if one.ended is None or time.time() - one.ended < KEPT_SECONDS]
            write_json(self.folder / "queue.json", {"settings": settings, "tickets": new})

    def _change(self, ticket: str, change: Callable[[Ticket], Ticket]) -> None:
        with self._changing() as (_, tickets):
            tickets[:] = [change(one) if one.id == ticket else one for one in tickets]

    def _prepare(self) -> None:
        """Make the folder, open to whoever the class folder is open to."""
        if (self.folder / "lock").exists():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        mode = stat.S_IMODE(self.root.stat().st_mode)
        (self.folder / "lock").touch()
        with suppress(PermissionError):  # made by somebody else a moment ago
            self.folder.chmod(mode)
            (self.folder / "lock").chmod(mode & 0o666)


def turns(tickets: Sequence[Ticket]) -> list[Ticket]:
    """Return the waiting tickets in the order of their turn.

    Who has fewer jobs running goes first, then who has waited longest since their last start, then who came first. A second ticket of the same
    student comes after everybody's first.
    """
    used = Counter(one.student for one in tickets if one.state in IN_USE)
    last = {one.student: one.started or 0.0 for one in sorted(tickets, key=lambda one: one.started or 0.0)}
    left, order = [one for one in tickets if one.state == WAITING], []
    while left:
        pick = min(left, key=lambda one: (used[one.student], last.get(one.student, 0.0), one.created))
        left.remove(pick)
        order.append(pick)
        used[pick.student] += 1
    return order


def folder_name(student: str) -> str:
    """Return a student's name as the name of a folder; raises RequestError when nothing is left of it."""
    made = re.sub(r"[^\w.-]+", "-", student.strip()).strip(".-")
    if not made:
        raise RequestError("A name is needed.", found=repr(student), expected="letters or digits", fix="type your name")
    return made


def _lives(one: Ticket, now: float) -> bool:
    alive = is_alive(ProcessIdentity.from_dict(one.owner))
    return now - one.seen < SEEN_SECONDS if alive is None else alive
