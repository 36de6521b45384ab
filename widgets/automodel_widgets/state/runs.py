"""What the table of runs knows: a row for each run of a folder, or for each student of a shared folder, and the runs chosen to compare."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

from automodel.errors import AutomodelError
from automodel.run import Comparison, Run, Status, compare, runs, runs_root
from automodel.run.report_chart import Line, chart
from automodel.run.report_series import Series, in_words, picked, plain, series, smoothed
from automodel.run.show import elapsed
from automodel_widgets.state.monitor import PHASES

# As many runs as there are line styles that can be told apart.
SLOTS = 8
TWIN_ROWS = 16
CURVES = {
    "loss": "Loss",
    "lr": "Learning rate",
    "grad_norm": "Gradient norm",
    "tokens_per_second": "Tokens per second",
}
_DATE = re.compile(r"^\d{8}-\d{6}-")
# Column -> what it is sorted by.
SORTS: dict[str, Callable[[RunRow], Any]] = {}


@dataclass(frozen=True)
class RunRow:
    """A run as one line of the table.

    Attributes:
        key: the folder's path inside the root; names the row.
        word: the state as a word, `kind` its badge.
        best: the lowest validation loss so far.
        problem: the failure in a few words, empty unless it failed.
        student: folder of the student, in a class.
    """

    run: Run
    key: str
    status: Status
    word: str
    kind: str
    best: float | None
    seconds: float
    model: str
    task: str
    problem: str = ""
    student: str = ""

    @property
    def label(self) -> str:
        """The run's name without its date and time, which have a column of their own; in a class the student's."""
        return self.student or _DATE.sub("", self.run.path.name)

    @property
    def step(self) -> str:
        """The steps done, of all."""
        done, total = self.status.step or 0, self.status.total_steps
        return f"{done:,} / {total:,}" if total else f"{done:,}"

    def why_no_resume(self) -> str | None:
        """Say why the run cannot be resumed, or None."""
        if self.status.alive:
            return "It is still running"
        return "It has finished; start a new run to train further" if self.status.state == "finished" else None

    def why_no_delete(self) -> str | None:
        """Say why the run cannot be deleted, or None."""
        return f"It is still {self.status.state}: stop it first" if self.status.alive else None


@dataclass(frozen=True)
class Student:
    """A student's folder: how many runs it holds, and the newest."""

    name: str
    path: Path
    count: int
    newest: RunRow | None


@dataclass(frozen=True)
class Overlay:
    """The curves of several runs: `svg` drawn, `sentences` in words, `table` as numbers by step."""

    svg: str
    sentences: tuple[str, ...]
    head: tuple[str, ...]
    table: tuple[tuple[str, ...], ...]


class RunsState:
    """The runs below a folder; `look()` reads what is new.

    Args:
        root: the folder of runs, or of the students' folders.
        by: None, or "student" for a row per folder below root.
    """

    def __init__(self, root: Path | str | None = None, *, by: str | None = None) -> None:
        if by not in (None, "student"):
            raise ValueError(f"by is {by!r}; expected None or 'student'")
        self.top = runs_root(root)
        self.by = by
        self.student: str | None = None
        self.rows: list[RunRow] = []
        self.students: list[Student] = []
        self.sort, self.down = "time", True
        self.curve = "loss"
        self._slots: dict[str, int] = {}
        self._kept: dict[str, tuple[Any, RunRow]] = {}
        self._compared: tuple[Any, Comparison] | None = None
        self._drawn: tuple[Any, Overlay] | None = None

    @property
    def root(self) -> Path:
        """The folder whose runs the table shows."""
        return self.top if self.student is None else _home(self.top / self.student)

    @property
    def is_class(self) -> bool:
        """Say whether a row is a student."""
        return self.by == "student" and self.student is None

    @property
    def alive(self) -> bool:
        """Say whether any run goes on."""
        newest = [one.newest for one in self.students if one.newest] if self.is_class else self.rows
        return any(row.status.alive for row in newest)

    def look(self) -> None:
        """Read what is new; a run that ended is read once."""
        if self.is_class:
            self.students = [self._student(path) for path in _folders(self.top)]
            self.rows = [one.newest for one in self.students if one.newest]
        else:
            self.rows = [self._row(run, run.path.name) for run in runs(self.root)]
        known = {row.key for row in self.rows}
        self._slots = {key: slot for key, slot in self._slots.items() if key in known}

    def _student(self, path: Path) -> Student:
        found = runs(_home(path))
        return Student(path.name, path, len(found), self._row(found[0], f"{path.name}/{found[0].path.name}", path.name) if found else None)

    def _row(self, run: Run, key: str, student: str = "") -> RunRow:
        stamp = tuple(_stamp(run.path / name) for name in ("run.json", "metrics.jsonl"))
        # A student's run has another name in the class than in the student's own table.
        place = f"{run.path}:{key}"
        held = self._kept.get(place)
        if held is not None and held[0] == stamp and held[1].status.done and not held[1].status.alive:
            return held[1]
        # The run of the last look has read its metrics already; it reads on from there.
        made = _read(held[1].run if held else run, key, student)
        self._kept[place] = (stamp, made)
        return made

    # Order.

    def sort_by(self, column: str) -> None:
        """Sort by a column; a second time turns the order."""
        if column in SORTS:
            self.sort, self.down = column, not self.down if column == self.sort else column in ("time", "step")

    def in_order(self) -> list[RunRow]:
        """Return the rows in order; what has no value comes last either way."""
        value = SORTS[self.sort]
        known = [row for row in self.rows if value(row) is not None]
        return sorted(known, key=value, reverse=self.down) + [row for row in self.rows if value(row) is None]

    # Choice.

    def row(self, key: str) -> RunRow | None:
        """Return a row by its name."""
        return next((row for row in self.rows if row.key == key), None)

    def choose(self, key: str, on: bool) -> bool:
        """Put a run among those that are compared, or take it out; False when there is no room for one more."""
        if not on:
            self._slots.pop(key, None)
            return True
        row, used = self.row(key), set(self._slots.values())
        if row is None or (len(used) == SLOTS and key not in self._slots):
            return False
        # A run looks the same wherever it is compared, by its id; another that has the same place moves on to the next one that is free.
        own = crc32(row.run.id.encode())
        self._slots.setdefault(key, next((slot % SLOTS for slot in range(own, own + SLOTS) if slot % SLOTS not in used), 0))
        return True

    def clear(self) -> None:
        """Choose none."""
        self._slots.clear()

    @property
    def chosen(self) -> list[RunRow]:
        """The rows that are compared, in the order in which they were chosen."""
        return [row for key in self._slots if (row := self.row(key)) is not None]

    def slot(self, key: str) -> int | None:
        """Return the line style of a run; it stays while the run is chosen."""
        return self._slots.get(key)

    def comparison(self) -> Comparison:
        """Return the settings that differ between the chosen runs, and how they came out."""
        stamp = self._stamp()
        if self._compared is None or self._compared[0] != stamp:
            self._compared = (stamp, compare(*(row.run for row in self.chosen)))
        return self._compared[1]

    def _stamp(self) -> Any:
        return tuple((row.key, self._slots[row.key], row.status) for row in self.chosen)

    def overlay(self) -> Overlay:
        """Return one curve of every chosen run in one chart: training smoothed, validation with a diamond at each check."""
        stamp = (self.curve, self._stamp())
        if self._drawn is None or self._drawn[0] != stamp:
            self._drawn = (stamp, self._draw())
        return self._drawn[1]

    def _draw(self) -> Overlay:
        lines: list[Line] = []
        told, columns = [], []
        for row in self.chosen:
            name, style = row.label, f"am-line{self._slots[row.key]}"
            metrics = row.run.metrics()
            raw = series([one for one in metrics if one.get("split", "train") == "train"], self.curve, name=name)
            check = series([one for one in metrics if one.get("split") == "validation"], self.curve, name=f"{name}, validation")
            lines.append(Line(smoothed(raw) if self.curve == "loss" else raw, style))
            columns.append(raw)
            told.append(f"{name}: {in_words(raw, CURVES[self.curve].lower())}")
            if check.known:
                lines.append(Line(check, f"{style} am-check", marks=True))
                columns.append(check)
                told.append(f"{name}: {in_words(check, 'validation ' + CURVES[self.curve].lower())}")
        title = f"{CURVES[self.curve]} of {len(self.chosen)} runs"
        svg = chart(lines, title=title, description=" ".join(told), identity="runs-overlay", height=320) if lines else ""
        return Overlay(svg, tuple(told), ("Step", *(one.name for one in columns)), _numbers(columns))

    def figure(self, keys: Iterable[str] | None = None, *, column: str = "loss") -> Any:
        """Return the chosen runs (or all) as a plotly figure."""
        from automodel.run.report_figure import figure

        rows = [row for key in keys if (row := self.row(key))] if keys is not None else self.chosen or self.rows[:SLOTS]
        return figure(*(row.run for row in rows), column=column)

    def counts(self) -> dict[str, int]:
        """Return how many newest runs are in which state; for a class."""
        found: dict[str, int] = {}
        for one in self.students:
            word = one.newest.word if one.newest else "No run yet"
            found[word] = found.get(word, 0) + 1
        return found


def _read(run: Run, key: str, student: str) -> RunRow:
    status, record = run.status, run.folder.record()
    word, kind = PHASES.get(status.state, (status.state.capitalize(), ""))
    return RunRow(
        run=run,
        key=key,
        status=status,
        word=word,
        kind=kind,
        best=status.best_validation_loss,
        seconds=elapsed(status),
        model=Path(str(record.get("model") or "-")).name,
        task=str(record.get("task") or "-"),
        problem=problem(run) if status.state == "failed" else "",
        student=student,
    )


def problem(run: Run) -> str:
    """Return a failure in a few words: what is known of it, else the class of the error."""
    try:
        found = run.explain()
    except (AutomodelError, OSError) as trouble:
        return type(trouble).__name__
    error = run.folder.first_error() or run.folder.record().get("error") or {}
    return found.sentence.partition(" (")[0].rstrip(".") if found.key else str(error.get("type") or "Ended without saying why")


def _numbers(columns: list[Series]) -> tuple[tuple[str, ...], ...]:
    steps = picked(sorted({x for one in columns for x, _ in one.points}), TWIN_ROWS)
    # A check seldom falls on a step picked evenly: its own steps are added while they are few.
    sparse = {x for one in columns if 0 < len(one.points) <= TWIN_ROWS for x, _ in one.points}
    values = [dict(one.points) for one in columns]
    cell = [[plain(found[x]) if found.get(x) is not None else "" for found in values] for x in sorted({*steps, *sparse})]
    return tuple((f"{x:,.0f}", *cells) for x, cells in zip(sorted({*steps, *sparse}), cell, strict=True))


def _folders(top: Path) -> list[Path]:
    return sorted(path for path in top.iterdir() if path.is_dir() and not path.name.startswith(".")) if top.is_dir() else []


def _home(path: Path) -> Path:
    """Return where a student's runs lie: in the folder itself, or in `runs` below it."""
    inside = path / "runs"
    return inside if inside.is_dir() else path


def _stamp(path: Path) -> tuple[int, int]:
    try:
        facts = path.stat()
    except OSError:
        return (0, 0)
    return (facts.st_mtime_ns, facts.st_size)


SORTS.update(
    name=lambda row: row.label,
    student=lambda row: row.student,
    state=lambda row: row.word,
    step=lambda row: row.status.step,
    loss=lambda row: row.status.loss,
    best=lambda row: row.best,
    time=lambda row: row.run.created,
    took=lambda row: row.seconds,
    model=lambda row: row.model,
    task=lambda row: row.task,
)
