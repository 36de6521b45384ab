"""The viewer's side of a run folder: the same `Run` from the job's own process, a notebook, or a shell weeks later."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automodel.errors import RunError
from automodel.run.files import LineReader, read_json, read_lines, tail_text
from automodel.run.folder import RunFolder
from automodel.run.location import RECORD, runs_root
from automodel.run.process import ProcessIdentity, signal_process
from automodel.run.show import run_html, run_line, run_text
from automodel.run.states import Status, decide

if TYPE_CHECKING:
    from automodel.run.explain import Explanation

_CHECKPOINT = re.compile(r"epoch_(\d+)_step_(\d+)$")
_POLL_SECONDS = 0.1
_KILL_SECONDS = 5.0


@dataclass(frozen=True)
class Checkpoint:
    """One saved point of a run; `verified` says that its manifest was written after everything was checked."""

    path: Path
    epoch: int
    step: int
    verified: bool
    latest: bool = False
    best: bool = False

    @property
    def model(self) -> Path:
        """Return the folder in Hugging Face layout (or the adapter folder)."""
        return self.path / "model"

    @property
    def whole(self) -> bool:
        """Say whether every file of the manifest is there with its size."""
        files = (read_json(self.path / "manifest.json") or {}).get("files", {})
        return all((self.path / name).is_file() and (self.path / name).stat().st_size == facts["size"] for name, facts in files.items())

    @property
    def training(self) -> Path:
        """Return the folder with what an exact resume needs."""
        return self.path / "training"


class Run:
    """A run, seen from outside: read its state, curves and logs, ask it to stop, go on with it, have its failure explained."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).resolve()
        self.folder = RunFolder(self.path)
        self._cursor = LineReader(self.path / "metrics.jsonl")
        self._restarts = 0
        self._last: dict[str, dict[str, Any]] = {}
        self._best: dict[str, float] = {}
        if not (self.path / RECORD).is_file():
            raise RunError("This is not a run folder.", found=str(path), expected=f"a folder with {RECORD}", fix="list the runs with: automodel runs")

    @property
    def id(self) -> str:
        """Return the short id that names this run."""
        return self.folder.id

    @property
    def created(self) -> float:
        """Return when the folder was made, in seconds since 1970."""
        return float(self.folder.record().get("created", 0))

    @property
    def status(self) -> Status:
        """Return where the run stands now, worked out from its files and from which of its processes live."""
        record, ranks = self.folder.record(), self.folder.ranks()
        state, alive, reason = decide(record, ranks)
        last = self._last_rows()
        train = last.get("train", {})
        checked = "validation" if "validation" in last else next((name for name in last if name.startswith("validation")), "validation")
        return Status(
            state=state,
            alive=alive,
            step=train.get("step"),
            total_steps=record.get("total_steps"),
            loss=train.get("loss"),
            validation_loss=last.get(checked, {}).get("loss"),
            best_validation_loss=self._best.get(checked),
            created=record.get("created"),
            ended=record.get("ended"),
            heartbeat=record.get("heartbeat"),
            launcher=record.get("launcher"),
            world_size=record.get("world_size"),
            resumes=int(record.get("resumes", 0)),
            reason=reason,
        )

    def _last_rows(self) -> dict[str, dict[str, Any]]:
        """Return the newest row of each split; reads only what is new, as a waiting viewer asks many times a second."""
        fresh = self._cursor.read()
        if self._cursor.restarts != self._restarts:
            self._restarts = self._cursor.restarts
            self._last, self._best = {}, {}
        for row in fresh:
            split, loss = str(row.get("split", "train")), row.get("loss")
            self._last[split] = row
            if loss is not None:
                self._best[split] = min(loss, self._best.get(split, loss))
        return self._last

    def metrics(self, split: str | None = None) -> list[dict[str, Any]]:
        """Return the rows of metrics, or those of one split: `train`, `validation`, `validation/NAME`."""
        rows = read_lines(self.path / "metrics.jsonl")
        return rows if split is None else [row for row in rows if row.get("split") == split]

    def events(self) -> list[dict[str, Any]]:
        """Return the events, oldest first."""
        return read_lines(self.path / "events.jsonl")

    def log(self, rank: int = 0, tail: int | None = None) -> str:
        """Return one rank's log, or its last `tail` lines; rank 0 falls back to the launcher's log while there is none."""
        text = tail_text(self.folder.rank_log(rank), tail)
        return text if text or rank else tail_text(self.path / "logs" / "supervisor.log", tail)

    def follow_metrics(self) -> LineReader:
        """Return a reader whose `read()` gives the rows that are new since its last call."""
        return LineReader(self.path / "metrics.jsonl")

    @property
    def checkpoints(self) -> list[Checkpoint]:
        """Return the checkpoints by step, with what `latest` and `best` point to."""
        folder = self.folder.checkpoints_dir
        names = {name: _pointer(folder, name) for name in ("latest", "best")}
        found = []
        for path in folder.iterdir() if folder.is_dir() else ():
            match = _CHECKPOINT.match(path.name)
            if match and path.is_dir() and not path.is_symlink():
                manifest = read_json(path / "manifest.json") or {}
                found.append(
                    Checkpoint(
                        path=path,
                        epoch=int(match[1]),
                        step=int(match[2]),
                        verified=manifest.get("verified") is True,
                        latest=names["latest"] == path.name,
                        best=names["best"] == path.name,
                    )
                )
        return sorted(found, key=lambda point: point.step)

    @property
    def resume_point(self) -> Checkpoint | None:
        """Return the newest checkpoint that is verified and holds training state; None: a resume starts at the beginning."""
        return next((point for point in reversed(self.checkpoints) if point.verified and point.training.is_dir() and point.whole), None)

    def stop(self, save: bool = True, timeout: float | None = None) -> Status:
        """Ask the job to stop at its next optimizer step, by default after saving.

        Without `timeout` this returns at once; the job's supervisor ends it by force when the recipe's `run.stop_grace_seconds` have passed.
        With `timeout` this waits so many seconds and then ends the job by force: SIGTERM first, SIGKILL after. A run that has ended is left alone.
        """
        status = self.status
        if status.done or not status.alive:
            return status
        self.folder.request_stop(save=save)
        self.folder.event("stop requested", save=save)
        if timeout is None:
            return self.status
        if not self._wait_end(timeout):
            self._end_by_force()
        return self.status

    def _wait_end(self, timeout: float) -> bool:
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            status = self.status
            if status.done and not status.alive:
                return True
            time.sleep(_POLL_SECONDS)
        return False

    def _end_by_force(self) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.status.done and not self.status.alive:
                return
            who = list(self.folder.rank_processes().values())
            record = self.folder.record()
            if record.get("launcher") != "supervisor":
                who += [owner] if (owner := ProcessIdentity.from_dict(record)) else []
            sent = [one.pid for one in who if signal_process(one, number, group=number == signal.SIGKILL)]
            self.folder.event("ended by force", signal=signal.Signals(number).name, pids=sent)
            self._wait_end(_KILL_SECONDS)
        self._settle_after_force()

    def _settle_after_force(self) -> None:
        status = self.status
        if not status.alive and self.folder.record().get("state") not in ("finished", "stopped", "failed"):
            self.folder.set_state("stopped", ended_by="SIGKILL")

    def wait(self, timeout: float | None = None) -> Status:
        """Wait until the run has ended and return its status.

        Raises:
            TimeoutError: it has not ended within `timeout` seconds.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            status = self.status
            if status.done:
                return status
            if end is not None and time.monotonic() >= end:
                raise TimeoutError(f"{self.path.name} is still {status.state} after {timeout:g} seconds")
            time.sleep(_POLL_SECONDS)

    def resume(self, detach: bool = True) -> Run:
        """Go on with this run in its own folder, from its newest verified checkpoint (else from the start).

        Raises:
            RunError: it still runs, or it has finished.
        """
        words = [sys.executable, "-m", "automodel", "resume", str(self.path), *(["--detach"] if detach else [])]
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode == 2:
            raise RunError(f"{self.path.name} cannot be resumed.", found=done.stderr.strip())
        return self

    def delete(self) -> None:
        """Delete the folder of a run that has ended.

        Raises:
            RunError: it still runs.
        """
        if self.status.alive:
            raise RunError(f"{self.path.name} still runs.", found=self.status.state, fix="stop it first")
        shutil.rmtree(self.path)

    def explain(self) -> Explanation:
        """Say in words how the run stands: for a failed one what happened, the likely cause, and what to do."""
        from automodel.run.explain import explain

        return explain(self)

    def report(self, path: str | Path | None = None, *, interactive: bool = False) -> Path:
        """Write the run as one HTML page that needs no network, by default `report.html` in its folder, and return the path.

        Args:
            path: another file.
            interactive: plotly's figure in place of the drawn charts; some megabytes larger, and needs plotly.
        """
        from automodel.run.report import write_report

        return write_report(self, path, interactive=interactive)

    def figure(self, column: str = "loss") -> Any:
        """Return a plotly figure of one column of the metrics: training and validation, the best starred, gaps and restarts as they were.

        Raises:
            RequestError: plotly is not installed, or the run has no such column.
        """
        from automodel.run.report_figure import figure

        return figure(self, column=column)

    def __repr__(self) -> str:
        return run_line(self)

    def __str__(self) -> str:
        return run_text(self)

    def _repr_html_(self) -> str:
        return run_html(self)


def runs(root: Path | str | None = None) -> list[Run]:
    """Return the runs of a root folder, newest first; folders that are no runs are left out."""
    base = runs_root(root)
    found = [Run(path.parent) for path in base.glob(f"[!.]*/{RECORD}")] if base.is_dir() else []
    return sorted(found, key=lambda run: (run.created, run.path.name), reverse=True)


def attach(run: str | Path = "latest", root: Path | str | None = None) -> Run:
    """Return a run by `latest`, path, folder name, id, or an unambiguous part of its name.

    Raises:
        RunError: no run or several runs answer to it.
    """
    text = str(run)
    if (Path(text).expanduser() / RECORD).is_file():
        return Run(Path(text).expanduser())
    every = runs(root)
    if not every:
        raise RunError(f"There are no runs in {runs_root(root)}.", found=text, fix="name the root with --runs-root DIR, or start a run")
    if text == "latest":
        return every[0]
    exact = [one for one in every if text in (one.id, one.path.name)]
    for matches in (exact, [one for one in every if text in one.path.name]):
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise RunError("Several runs answer to this name.", found=text, expected=", ".join(one.path.name for one in matches[:8]))
    raise RunError("No run answers to this name.", found=text, expected=", ".join(one.id for one in every[:8]), fix="list them with: automodel runs")


def _pointer(folder: Path, name: str) -> str | None:
    """Return the folder that `latest` or `best` points to: a link, or a text file where links are not possible."""
    link = folder / name
    if link.is_symlink():
        return Path(link.readlink()).name
    text = folder / f"{name}.txt"
    return Path(text.read_text(encoding="utf-8").strip()).name if text.is_file() else None
