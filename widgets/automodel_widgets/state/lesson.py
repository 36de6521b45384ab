"""Help for a class: is everything there, a bundle to send when something went wrong without anything secret in it, and a fresh start."""

from __future__ import annotations

import getpass
import importlib.util
import json
import re
import shutil
import socket
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from automodel.errors import AutomodelError
from automodel.run import Run, environment, runs
from automodel.run.files import read_json
from automodel_widgets.state.devices import machine
from automodel_widgets.state.queue import IN_USE, STARTING, ClassQueue, Ticket, folder_name
from automodel_widgets.state.session import Session

GB = 1e9
DISK = (2 * GB, 10 * GB)
MEMORY = (1 * GB, 3 * GB)
LOG_LINES = 300
LAST_ROWS = 50
OWN_FILES = ("recipe.user.yaml", "recipe.yaml", "command.txt", "environment.json", "run.json", "events.jsonl")
# A name for what is taken out, and where it stands; what is found in the last group goes.
SECRETS: tuple[tuple[str, str], ...] = (
    (r"\bhf_[A-Za-z0-9]{6,}", "TOKEN"),
    (r"\b(?:sk|pk|rk)-[A-Za-z0-9_-]{12,}|\bgh[pousr]_[A-Za-z0-9]{12,}|\bgithub_pat_\w{12,}|\bxox[abprs]-[\w-]{8,}|\bAKIA[A-Z0-9]{12,}", "TOKEN"),
    (r"\beyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{5,}", "TOKEN"),
    (r"(?<=://)[^/\s:@'\"]+:[^/\s@'\"]+(?=@)", "LOGIN"),
    (r"(?i)(?<=bearer )[\w.~+/=-]{8,}", "TOKEN"),
)
NAMED_SECRET = re.compile(
    r"(?i)((?<!eos_)(?<!bos_)(?<!pad_)(?<!unk_)(?<![a-z])(?:\w*(?:api_?-?key|secret|passwo?r?d|access_?key)\w*|\w*_token|token)"
    r"[\"']?\s*[:=]\s*[\"']?)([^\s\"',;}\]]{6,})"
)
TOKEN_IDS = re.compile(r"(?i)(?:eos|bos|pad|unk|sep|cls|mask)_token")
HOMES = re.compile(r"/(?:home|Users)/[^/\s\"':,;]+|/root(?=[/\s\"':,;]|$)")


@dataclass(frozen=True)
class Check:
    """One line of the preflight: what was looked at, how it stands (good, warn, bad), what was found, and the fix."""

    name: str
    kind: str
    found: str
    fix: str = ""


@dataclass(frozen=True)
class Bundle:
    """The zip for the teacher: where it is, name -> size of its files, and how many secrets were taken out."""

    path: Path
    files: dict[str, int]
    removed: int


@dataclass
class LessonState:
    """What the panel of a student or a teacher knows."""

    session: Session
    root: Path
    student: str = field(default_factory=lambda: folder_name(_user()))
    checks: list[Check] = field(default_factory=list)
    bundle: Bundle | None = None
    mine: list[str] = field(default_factory=list)
    _waiting: dict[str, tuple[dict[str, Any], int]] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def __post_init__(self) -> None:
        self.queue = ClassQueue(self.root)
        self._first = self.session.recipe

    @property
    def place(self) -> Path:
        """The folder of this student's runs."""
        return self.root / self.student

    # The queue.

    def join(self, recipe: Mapping[str, Any], processes: int = 1) -> Ticket:
        """Take a ticket for a recipe; it starts by itself when it is its turn, while this notebook is open."""
        model = str((recipe.get("model") or {}).get("pretrained_model_name_or_path") or "model")
        name = str((recipe.get("run") or {}).get("name") or Path(model).name)
        ticket = self.queue.join(self.student, name)
        with self._lock:
            self.mine.append(ticket.id)
            self._waiting[ticket.id] = (dict(recipe), processes)
        return ticket

    def step(self, start: Callable[..., Run]) -> Run | None:
        """Settle the queue and start my job if it is next; `start(recipe, processes=, devices=, root=)` returns its run."""
        self.queue.look(self.mine)
        with self._lock:
            ticket = self.queue.claim(list(self._waiting))
            if ticket is None:
                return None
            recipe, processes = self._waiting.pop(ticket.id)
        try:
            run = start(recipe, processes=processes, devices=self._devices(ticket, processes), root=self.place)
        except AutomodelError as error:
            self.queue.failed(ticket.id, error.what)
            raise
        except OSError as error:
            self.queue.failed(ticket.id, str(error))
            raise
        self.queue.started(ticket.id, run.path)
        return run

    def _devices(self, mine: Ticket, processes: int) -> list[str] | None:
        """Return the GPUs for my job: those that no job of the queue has, the emptiest first; None where there is no choice."""
        gpus = machine().gpus
        if len(gpus) <= processes:
            return None
        tickets = self.queue.tickets()
        taken = {number for one in tickets if one.state in IN_USE and one.run for number in _devices_of(Path(one.run))}
        order = sorted(gpus, key=lambda device: (device.number in taken, len(device.users), -device.free))
        # Jobs that are started in the same moment do not see each other's run yet: each leaves room for those before it.
        before = sum(one.state == STARTING and one.id != mine.id and (one.started or 0) <= (mine.started or 0) for one in tickets) * processes
        return [order[place % len(order)].number for place in range(before, before + processes)]

    @property
    def waiting(self) -> bool:
        """Say whether one of my tickets waits."""
        return bool(self._waiting)

    def leave(self, ticket: str) -> None:
        """Give one of my tickets back."""
        if ticket in self.mine:
            with self._lock:
                self._waiting.pop(ticket, None)
            self.queue.leave(ticket)

    # A fresh start.

    def own_runs(self) -> list[Run]:
        """Return this student's runs that go on."""
        # The root of the session is this student's own, unless it is the class folder itself.
        bases = {self.place.resolve(), self.session.root.resolve()} - {self.root.resolve()}
        found = [run for base in bases for run in runs(base)]
        return [run for run in found if run.status.alive]

    def reset(self) -> list[str]:
        """Stop this student's runs (saved), give the tickets back, clear the form; return the names of the stopped runs."""
        for ticket in list(self.mine):
            self.leave(ticket)
        stopped = []
        for run in self.own_runs():
            run.stop(save=True)
            stopped.append(run.path.name)
        self.session.run = None
        self.session.recipe = self._first
        return stopped


def preflight(root: Path) -> list[Check]:
    """Look at what a lesson needs, without loading torch."""
    facts = environment()
    disk = shutil.disk_usage(next(path for path in (root.absolute(), *root.absolute().parents) if path.exists())).free
    return [
        _python(),
        *_packages(),
        _amount("Free disk", disk, DISK, "empty the trash, old runs and the model cache, or choose another folder for the runs"),
        _amount("Free memory", _free_memory(), MEMORY, "close other notebooks (Kernel, Shut down all) and programs"),
        Check(
            "Processor", "good", f"{facts['cores']} cores" + (f", {', '.join(facts['gpus'])}" if facts["gpus"] else ", no GPU: the lessons need none")
        ),
        _writable(root),
        *_hub(),
        *_widgets(),
    ]


def _python() -> Check:
    good = (3, 10) <= sys.version_info[:2] < (3, 14)
    found = ".".join(map(str, sys.version_info[:3]))
    return Check("Python", "good" if good else "bad", found, "" if good else "choose a kernel with Python 3.10 to 3.13")


def _packages() -> list[Check]:
    made = []
    for name, least in (("torch", "2.7"), ("transformers", "4.57")):
        version = _version(name)
        if version is None or importlib.util.find_spec(name) is None:
            made.append(Check(name, "bad", "not installed", "install this package again: pip install 'automodel-workbench[notebook]'"))
        elif _numbers(version) < _numbers(least):
            made.append(Check(name, "bad", version, f"pip install '{name}>={least}'"))
        else:
            made.append(Check(name, "good", version))
    return made


def _amount(name: str, found: float, limits: tuple[float, float], fix: str) -> Check:
    kind = "bad" if found < limits[0] else "warn" if found < limits[1] else "good"
    return Check(name, kind, f"{found / GB:.1f} GB", "" if kind == "good" else f"{fix} ({limits[1] / GB:.0f} GB are comfortable)")


def _writable(root: Path) -> Check:
    near = next(path for path in (root.absolute(), *root.absolute().parents) if path.exists())
    probe = near / f".write-test-{socket.gethostname()}-{threading.get_ident()}"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        return Check(
            "Folder of the runs", "bad", f"{root}: {error.strerror}", "ask for the right to write there, or set AUTOMODEL_RUNS to another folder"
        )
    return Check("Folder of the runs", "good", f"{root} can be written")


def _hub() -> list[Check]:
    from huggingface_hub import constants, get_token

    login = Check("Hub login", "good", "a token is stored")
    if not get_token():
        login = Check("Hub login", "warn", "no token", "only for gated models and for publishing: in a terminal, hf auth login")
    cache = Path(constants.HF_HUB_CACHE)
    models = sorted(cache.glob("models--*")) if cache.is_dir() else []
    if models:
        return [login, Check("Model cache", "good", f"{len(models)} models in {scrub(str(cache))[0]}")]
    return [
        login,
        Check("Model cache", "warn", f"empty ({scrub(str(cache))[0]})", "the lessons need none; other models are downloaded when first used"),
    ]


def _widgets() -> list[Check]:
    static = Path(__file__).parents[1] / "static" / "surface.js"
    missing = [name for name in ("anywidget", "ipywidgets", "jupyterlab_widgets") if _version(name) is None]
    if missing:
        return [Check("Widgets", "bad", f"{', '.join(missing)} not installed", "pip install 'automodel-workbench[notebook]', then reload the page")]
    if not static.is_file():
        return [Check("Widgets", "bad", "the front end is not built", "python widgets/build_frontend.py, then reload the page")]
    return [Check("Widgets", "good", f"ipywidgets {_version('ipywidgets')}, anywidget {_version('anywidget')}: you are looking at one")]


def make_bundle(folder: Path, *, run: Run | None, recipe: Mapping[str, Any], checks: Sequence[Check]) -> Bundle:
    """Write a zip with the recipe, the end of the logs, versions and checks; tokens, logins and names of people and machines are taken out."""
    texts: dict[str, str] = {
        "checks.txt": "\n".join(f"{check.kind:<5} {check.name}: {check.found}" + (f" -> {check.fix}" if check.fix else "") for check in checks),
        "form.json": json.dumps(recipe, indent=1, default=str),
        "versions.json": json.dumps(environment(), indent=1, default=str),
    }
    if run is not None:
        texts |= _of_run(run)
    removed, sizes = 0, {}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"help-{time.strftime('%Y%m%d-%H%M%S')}{'-' + run.id if run else ''}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts.items():
            clean, count = scrub(text)
            archive.writestr(name, clean)
            removed += count
            sizes[name] = len(clean.encode())
    return Bundle(path, sizes, removed)


def _of_run(run: Run) -> dict[str, str]:
    found: dict[str, str] = {"explanation.txt": str(run.explain()), "status.txt": str(run)}
    for name in OWN_FILES:
        file = run.path / name
        if file.is_file():
            found[name] = file.read_text(encoding="utf-8", errors="replace")
    found["last-metrics.jsonl"] = "\n".join(json.dumps(row) for row in run.metrics()[-LAST_ROWS:])
    for rank in sorted(run.folder.ranks()) or [0]:
        found[f"log-rank-{rank}.txt"] = run.log(rank=rank, tail=LOG_LINES)
    return found


def scrub(text: str) -> tuple[str, int]:
    """Return the text without tokens, passwords, logins, home folders, and the names of the user and the machine; and how many secrets went."""
    count = 0
    for pattern, word in SECRETS:
        text, hits = re.subn(pattern, f"<{word}>", text)
        count += hits

    def named(match: re.Match[str]) -> str:
        nonlocal count
        if TOKEN_IDS.search(match[1]) or match[2].startswith("<TOKEN>"):
            return match[0]
        count += 1
        return f"{match[1]}<SECRET>"

    text = NAMED_SECRET.sub(named, text)
    for private, word in ((str(Path.home()), "~"), (socket.gethostname(), "<HOST>"), (_user(), "<USER>")):
        if len(private) > 3:
            text = re.sub(rf"(?<![\w.-]){re.escape(private)}(?![\w-])", word, text)
    return HOMES.sub("~", text), count


def _devices_of(run: Path) -> list[str]:
    launched = (read_json(run / "run.json") or {}).get("launch") or {}
    return [str(one) for one in launched.get("devices") or ()]


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "student"


def _free_memory() -> float:
    import psutil

    return float(psutil.virtual_memory().available)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])
