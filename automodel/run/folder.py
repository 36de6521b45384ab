"""The writer's side of a run folder: what a job leaves for its viewers, and how it hears from them."""

from __future__ import annotations

import json
import shlex
import shutil
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from automodel.errors import AutomodelError, RunError
from automodel.run.environment import environment
from automodel.run.files import append_line, locked, read_json, write_json, write_text
from automodel.run.location import RECORD, folder_name, new_id, runs_root
from automodel.run.process import ProcessIdentity, identify
from automodel.run.states import ACTIVE, FINAL

HEARTBEAT_SECONDS = 5.0
_CREATE_ATTEMPTS = 20


@dataclass(frozen=True)
class Requests:
    """What viewers ask of a job: stop (with or without saving), or save and go on."""

    stop: bool = False
    save_on_stop: bool = True
    save: bool = False


class RunFolder:
    """One run's folder, as the job writes it; every method may be called from any rank unless it says otherwise."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._beat = 0.0

    @classmethod
    def create(
        cls,
        root: Path | str | None = None,
        *,
        recipe_yaml: str,
        user_yaml: str,
        command: list[str],
        model: str,
        task: str,
        name: str | None = None,
        parent: str | None = None,
        launch: dict[str, Any] | None = None,
        checkpoints_dir: str | None = None,
    ) -> RunFolder:
        """Make the folder with everything that is known before the job starts.

        It is filled aside and renamed, so a reader never sees half of it.

        Raises:
            RunError: the root cannot be made or written; nothing is left behind.
        """
        base = runs_root(root)
        made = _make_root(base)
        identity = new_id()
        title = folder_name(model=model, task=task, identity=identity, name=name)
        record = {
            "id": identity,
            "name": name or title,
            "state": "created",
            "created": time.time(),
            "model": model,
            "task": task,
            "parent": parent,
            "launch": launch or {},
            "checkpoints_dir": checkpoints_dir,
            **identify().as_dict(),
        }
        aside = base / f".{title}.new"
        try:
            for part in ("", "status", "logs", "requests", "checkpoints"):
                (aside / part).mkdir()
            texts = {"recipe.yaml": recipe_yaml, "recipe.user.yaml": user_yaml, "command.txt": shlex.join(command) + "\n"}
            for file, text in texts.items():
                write_text(aside / file, text)
            write_json(aside / "environment.json", environment())
            (aside / "metrics.jsonl").touch()
            append_line(aside / "events.jsonl", {"time": time.time(), "kind": "created"})
            write_json(aside / RECORD, record, durable=True)
            aside.rename(base / title)
        except OSError as problem:
            shutil.rmtree(aside, ignore_errors=True)
            _remove(made)
            raise _unwritable(base, problem) from problem
        return cls(base / title)

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    @property
    def id(self) -> str:
        """Return the short id that names this run."""
        return str(self.record().get("id", self.path.name))

    @property
    def recipe_path(self) -> Path:
        """Return the path of the resolved recipe."""
        return self.path / "recipe.yaml"

    @property
    def checkpoints_dir(self) -> Path:
        """Return the folder of the checkpoints: inside the run folder unless the recipe names another."""
        own = self.record().get("checkpoints_dir")
        return Path(own) if own else self.path / "checkpoints"

    def record(self) -> dict[str, Any]:
        """Return `run.json`; empty when it is missing."""
        return read_json(self.path / RECORD) or {}

    # ---- what happens ----

    def event(self, kind: str, **fields: Any) -> None:
        """Append one event, flushed at once."""
        append_line(self.path / "events.jsonl", {"time": time.time(), "kind": kind, **fields})

    def metric(self, **fields: Any) -> None:
        """Append one row of metrics, flushed at once; a non-finite value becomes null and is named in `nonfinite`."""
        append_line(self.path / "metrics.jsonl", {"time": time.time(), **fields})

    def set_state(self, state: str, **fields: Any) -> None:
        """Change the state, with further fields of `run.json` (`total_steps`, `error`, ...), and record it as an event.

        A job of which a rank has failed cannot become `stopped` or `finished`: it is `failed`.

        Raises:
            ValueError: there is no such state.
        """
        if state not in ACTIVE and state not in FINAL:
            raise ValueError(f"unknown state {state!r}; there are {', '.join((*ACTIVE, *FINAL))}")
        # When a rank has failed, the others are asked to stop: that they did is not how the job ended.
        if state in ("stopped", "finished") and (error := self.first_error()) is not None:
            state, fields = "failed", {**fields, "error": error}
        now = time.time()
        if state in FINAL:
            fields = {"ended": now, **fields}
        before = self._update(state=state, heartbeat=now, **fields)
        if before.get("state") != state:
            self.event(state, **fields)

    def claim(self, *, launcher: str, world_size: int, pid: int | None = None) -> None:
        """Write who runs this job from now on: by default this process."""
        self._update(launcher=launcher, world_size=world_size, heartbeat=time.time(), **identify(pid).as_dict())

    def update(self, **fields: Any) -> None:
        """Change further fields of `run.json` and leave the state as it is."""
        self._update(**fields)

    def heartbeat(self) -> None:
        """Say that the job lives; cheap to call often, written every few seconds."""
        now = time.time()
        if now - self._beat >= HEARTBEAT_SECONDS:
            self._beat = now
            self._update(durable=False, heartbeat=now)

    def _update(self, *, durable: bool = True, **fields: Any) -> dict[str, Any]:
        """Change fields of `run.json` under a lock, as a supervisor and rank 0 both write it; returns what was there."""
        with locked(self.path / ".lock"):
            before = self.record()
            write_json(self.path / RECORD, {**before, **fields}, durable=durable)
        return before

    # ---- ranks ----

    def rank_status(self, rank: int, *, phase: str, step: int | None = None, error: BaseException | dict[str, Any] | None = None) -> None:
        """Write one rank's phase and step; the first error it reports stays."""
        path = self.path / "status" / f"rank-{rank}.json"
        before = read_json(path) or {}
        me = identify().as_dict()
        # An entry of an earlier process (before a resume) says nothing about this one.
        known = before.get("error") if before.get("pid") == me["pid"] and before.get("start") == me["start"] else None
        found = known or _error_record(error)
        write_json(path, {"rank": rank, "phase": phase, "step": step, "time": time.time(), "error": found, **me})

    def rank_log(self, rank: int) -> Path:
        """Return the path of one rank's log."""
        return self.path / "logs" / f"rank-{rank}.log"

    def ranks(self) -> dict[int, dict[str, Any]]:
        """Return what each rank reported last."""
        found = {}
        for path in (self.path / "status").glob("rank-*.json"):
            record = read_json(path)
            if record is not None:
                found[int(record["rank"])] = record
        return dict(sorted(found.items()))

    def rank_processes(self) -> dict[int, ProcessIdentity]:
        """Return the process of each rank that reported."""
        pairs = ((rank, ProcessIdentity.from_dict(record)) for rank, record in self.ranks().items())
        return {rank: who for rank, who in pairs if who is not None}

    def first_error(self) -> dict[str, Any] | None:
        """Return the error that some rank reported first, with its rank; later ones are mostly its echo."""
        errors = [{**record["error"], "rank": rank} for rank, record in self.ranks().items() if record.get("error")]
        return min(errors, key=lambda error: float(error.get("time", 0)), default=None)

    # ---- requests ----

    def requests(self) -> Requests:
        """Return what viewers ask for; two file look-ups when nobody asks."""
        folder = self.path / "requests"
        stop = read_json(folder / "stop.json") if (folder / "stop.json").exists() else None
        return Requests(stop=stop is not None, save_on_stop=bool((stop or {}).get("save", True)), save=(folder / "save.json").exists())

    def request_stop(self, *, save: bool = True, by: str = "request") -> None:
        """Ask the job to stop at the next optimizer step; a request to discard replaces one to save, never the other way."""
        standing = self.requests()
        if not standing.stop or (standing.save_on_stop and not save):
            self._request("stop", save=save, by=by)

    def request_save(self) -> None:
        """Ask the job to save at the next optimizer step and go on."""
        self._request("save", by="request")

    def clear_request(self, name: str) -> None:
        """Take back `stop` or `save`, once honoured."""
        (self.path / "requests" / f"{name}.json").unlink(missing_ok=True)

    def _request(self, name: str, **fields: Any) -> None:
        (self.path / "requests").mkdir(exist_ok=True)
        write_json(self.path / "requests" / f"{name}.json", {"time": time.time(), "run": self.id, **fields})

    # ---- resume ----

    def truncate_metrics(self, after_step: int) -> int:
        """Drop metric rows of steps beyond `after_step`, which a resumed job writes again; returns how many went.

        The dropped lines are kept in `metrics.dropped.jsonl`. A torn last line is dropped too.
        """
        path = self.path / "metrics.jsonl"
        lines = path.read_bytes().split(b"\n") if path.exists() else []
        kept: list[bytes] = []
        dropped: list[bytes] = []
        for line in lines:
            if line:
                (kept if _is_up_to(line, after_step) else dropped).append(line)
        if dropped:
            with (self.path / "metrics.dropped.jsonl").open("ab") as out:
                out.writelines(line + b"\n" for line in dropped)
            write_text(path, "".join(line.decode("utf-8", "replace") + "\n" for line in kept), durable=True)
        return len(dropped)

    def prepare_resume(self, *, step: int) -> None:
        """Make the folder ready to go on after `step`: metrics cut, old requests and rank errors gone, state `preparing`."""
        dropped = self.truncate_metrics(step)
        for name in ("stop", "save"):
            self.clear_request(name)
        for path in (self.path / "status").glob("rank-*.json"):
            path.unlink()
        count = int(self.record().get("resumes", 0)) + 1
        self._update(resumes=count, error=None, ended=None, **identify().as_dict())
        self.event("resumed", step=step, dropped_metrics=dropped, resumes=count)
        self.set_state("preparing")


def _is_up_to(line: bytes, step: int) -> bool:
    try:
        value = json.loads(line)
    except ValueError:
        return False
    found = value.get("step") if isinstance(value, dict) else None
    return found is None or int(found) <= step


def _error_record(error: BaseException | dict[str, Any] | None) -> dict[str, Any] | None:
    if error is None:
        return None
    if isinstance(error, dict):
        return {"time": time.time(), **error}
    parts = error.as_dict() if isinstance(error, AutomodelError) else {"what": str(error) or type(error).__name__}
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return {"time": time.time(), "type": type(error).__name__, **parts, "traceback": text}


def _make_root(base: Path) -> list[Path]:
    """Make the root and return the folders that had to be made, deepest first."""
    missing = []
    probe = base
    while not probe.exists() and probe != probe.parent:
        missing.append(probe)
        probe = probe.parent
    try:
        base.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        _remove(missing)
        raise _unwritable(base, problem) from problem
    return missing


def _remove(folders: list[Path]) -> None:
    for folder in folders:
        if folder.is_dir():
            try:
                folder.rmdir()
            except OSError:
                return


def _unwritable(base: Path, problem: OSError) -> RunError:
    return RunError(
        f"The run folder cannot be made in {base}.",
        found=problem.strerror or str(problem),
        expected="a folder that can be written",
        fix="name another one with --runs-root DIR or the variable AUTOMODEL_RUNS, or free space there",
    )
