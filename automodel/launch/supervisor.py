"""The process that outlives the one that launched it: starts the workers, watches them, ends them when they do not end themselves.

`python -m automodel.launch.supervisor RUN_DIR [--resume] [--worker MODULE]`. A stop goes by escalation: the stop request, which the workers
honour at a step boundary; after the recipe's grace time SIGTERM to each worker, and at last SIGKILL. The agent (torchrun) is never
asked to stop while workers live: it answers a signal with a traceback and code 1 even when everybody saved.
The state at the end comes from the files that the workers wrote, never from the agent's code.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType

from automodel.launch.devices import device_environment
from automodel.launch.env import cpu_environment
from automodel.run.folder import RunFolder
from automodel.run.process import ProcessIdentity, is_alive, signal_process
from automodel.run.reader import Run
from automodel.run.report import leave_report
from automodel.run.states import FINAL

WORKER = "automodel.launch.worker"
TERM_SECONDS = 10.0
ECHO_SECONDS = 20.0
AGENT_SECONDS = 30.0
_MARGIN_SECONDS = 30.0
_POLL_SECONDS = 0.1


class Supervisor:
    """Watches the workers of one run folder from start to end."""

    def __init__(self, folder: RunFolder, *, worker: str = WORKER, resume: bool = False) -> None:
        settings = folder.record().get("launch", {})
        self.folder = folder
        self.worker = worker
        self.resume = resume
        self.nproc = int(settings.get("nproc_per_node", 1))
        self.devices: list[str] | None = settings.get("devices")
        self.grace = float(settings.get("stop_grace_seconds", 60))
        self.stop_seen: float | None = None
        self.error_seen: float | None = None
        self.sent: list[str] = []

    def run(self) -> int:
        """Start the workers, wait for their end, write the final state; returns 0, 1 or 3 by it."""
        self.folder.claim(launcher="supervisor", world_size=self.nproc)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        child = self._start()
        while child.poll() is None:
            self._watch()
            time.sleep(_POLL_SECONDS)
        self._end_orphans(child.returncode)
        return self._settle(child.returncode)

    def _start(self) -> subprocess.Popen[bytes]:
        added = {**cpu_environment(self.nproc), **device_environment(self.devices)}
        # Torchrun ends workers itself when one fails; it must not be more impatient than the recipe.
        added.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(int(self.grace + _MARGIN_SECONDS)))
        words = [sys.executable, *self._agent(), "-m", self.worker, str(self.folder.path), *(["--resume"] if self.resume else [])]
        self.folder.event("launching", command=words, environment=added, processes=self.nproc)
        return subprocess.Popen(words, stdin=subprocess.DEVNULL, env={**os.environ, **added}, start_new_session=True)

    def _agent(self) -> list[str]:
        if self.nproc == 1:
            return []
        # --standalone takes a free port of this host.
        return ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={self.nproc}", "--max-restarts=0"]

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.folder.request_stop(by=signal.Signals(number).name)

    def _watch(self) -> None:
        self.folder.heartbeat()
        now = time.monotonic()
        if self.stop_seen is None and self.folder.requests().stop:
            self.stop_seen = now
        if self.error_seen is None and self.folder.first_error() is not None:
            self.error_seen = now
        # When one rank failed the others can only wait in a collective that never completes.
        if self.error_seen is not None and now - self.error_seen > ECHO_SECONDS:
            self._signal(signal.SIGKILL, "another rank had failed")
        if self.stop_seen is not None:
            waited = now - self.stop_seen
            if waited > self.grace:
                self._signal(signal.SIGTERM, f"no stop within {self.grace:g} seconds")
            if waited > self.grace + min(TERM_SECONDS, self.grace):
                self._signal(signal.SIGKILL, "no stop after SIGTERM")

    def _signal(self, number: int, why: str) -> None:
        """Signal every living worker, once for each signal."""
        name = signal.Signals(number).name
        if name in self.sent:
            return
        self.sent.append(name)
        alive = {rank: who for rank, who in self.folder.rank_processes().items() if is_alive(who)}
        for who in alive.values():
            signal_process(who, number, group=number == signal.SIGKILL)
        self.folder.event("escalation", signal=name, ranks=sorted(alive), text=f"{name} to {len(alive)} worker(s): {why}")

    def _end_orphans(self, code: int | None) -> None:
        """Workers that outlive their agent are asked to stop, then ended: nobody is left to restart or join them."""
        if not self._orphans():
            return
        self.folder.event("agent died", exit_code=code, text="the launcher of the workers died; they are asked to save and stop")
        self.folder.request_stop(by="supervisor: the agent died")
        self.stop_seen = self.stop_seen or time.monotonic()
        while self._orphans():
            self._watch()
            if "SIGKILL" in self.sent and time.monotonic() - self.stop_seen > self.grace + AGENT_SECONDS:
                return
            time.sleep(_POLL_SECONDS)

    def _orphans(self) -> list[ProcessIdentity]:
        return [who for who in self.folder.rank_processes().values() if is_alive(who)]

    def _settle(self, code: int | None) -> int:
        """Write the final state from what the workers left."""
        state = self.folder.record().get("state")
        error = self.folder.first_error()
        if error is not None and state != "failed":
            self.folder.set_state("failed", error=error, exit_code=code)
        elif state not in FINAL and self.folder.requests().stop and self.sent:
            self.folder.set_state("stopped", ended_by=self.sent[-1])
        elif state not in FINAL:
            self.folder.set_state("failed", error={"what": _how_it_ended(code), "time": time.time()}, exit_code=code)
        self.folder.update(exit_code=code)
        leave_report(Run(self.folder.path))
        return {"finished": 0, "stopped": 3}.get(str(self.folder.record().get("state")), 1)


def _how_it_ended(code: int | None) -> str:
    if code is not None and code < 0:
        return f"The worker was ended by signal {-code} ({signal.Signals(-code).name})."
    return f"The workers ended with exit code {code} and left no message."


def main(arguments: Sequence[str]) -> int:
    """Supervise one run folder."""
    parser = argparse.ArgumentParser(prog="automodel.launch.supervisor")
    parser.add_argument("run_dir")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--worker", default=WORKER)
    chosen = parser.parse_args(arguments)
    return Supervisor(RunFolder(chosen.run_dir), worker=chosen.worker, resume=chosen.resume).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
