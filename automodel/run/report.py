"""`report.html`: a run on one page that opens anywhere without a server, a script or a network.

The charts are SVG drawn here, because a report is written for every run: it weighs some tens of kilobytes, where plotly's script alone
is above four megabytes. `interactive=True` takes plotly's figure instead, inline, for those who want to zoom.
"""

from __future__ import annotations

import time
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automodel.run import report_page as html
from automodel.run.files import read_json, tail_text, write_text
from automodel.run.kept import read_kept
from automodel.run.report_chart import Line, chart
from automodel.run.report_series import Series, in_words, picked, plain, restarts, series, smoothed
from automodel.run.show import duration, elapsed, number, progress
from automodel.tables import size_text

if TYPE_CHECKING:
    from automodel.run.reader import Run

NAME = "report.html"
_EVENTS = 400
_TRACE_LINES = 60
_RECIPE_LINES = 400
# column, title, scale of the small charts
SMALL = (
    ("lr", "learning rate", 1.0),
    ("grad_norm", "gradient norm", 1.0),
    ("tokens_per_second", "tokens per second", 1.0),
    ("memory_bytes", "memory in MB", 1e-6),
)


def write_report(run: Run, path: str | Path | None = None, *, interactive: bool = False) -> Path:
    """Write the report of a run, by default to `report.html` in its folder, and return the path; a run that goes on is shown as it stands."""
    target = Path(path) if path is not None else run.path / NAME
    target.parent.mkdir(parents=True, exist_ok=True)
    write_text(target, report_text(run, interactive=interactive))
    return target


def leave_report(run: Run) -> None:
    """Write the report of a run that has just ended; a run that is done stays done, so a report that fails is an event and no more."""
    try:
        write_report(run)
    except Exception as problem:  # noqa: BLE001  # whatever it is, it must not turn a finished run into a failed one
        run.folder.event("fallback", text=f"{NAME} could not be written: {type(problem).__name__}: {problem}")


def report_text(run: Run, *, interactive: bool = False) -> str:
    """Return the report of a run as HTML."""
    rows, events = run.metrics(), run.events()
    charts = _plotly(run, rows) if interactive else _charts(rows, events)
    parts = [
        _head(run),
        _failure(run),
        _outcome(run, rows),
        charts,
        _samples(events),
        _kept(run),
        _recipe(run),
        _checkpoints(run),
        _events(events),
        _machine(run),
    ]
    return html.page(f"Report of {run.path.name}", parts, scripts=interactive)


def _head(run: Run) -> str:
    status = run.status
    kind = status.state if status.state in ("finished", "failed") else "other"
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run.created))
    made = time.strftime("%Y-%m-%d %H:%M:%S")
    return (
        f"<h1>{escape(run.path.name)}</h1><p><span class='badge {kind}'>{escape(status.state)}</span></p>"
        f"<p>{escape(run.explain().sentence)}</p><p class='soft'>Started {when}; report made {made}.</p>"
    )


def _failure(run: Run) -> str:
    found = run.explain()
    if found.state != "failed":
        return ""
    fixes = "".join(f"<li>{escape(text)}</li>" for text in found.fixes)
    cause = f"<p>Likely cause: {escape(found.cause)}</p>" if found.cause else ""
    trace = "\n".join(found.raw.splitlines()[-_TRACE_LINES:])
    raw = html.folded("The end of the log or traceback", html.text_block(trace)) if trace else ""
    return html.heading("What went wrong") + cause + (f"<p>What to do:</p><ol>{fixes}</ol>" if fixes else "") + raw


def _outcome(run: Run, rows: list[dict[str, Any]]) -> str:
    status, record = run.status, run.folder.record()
    train = [row for row in rows if row.get("split") == "train"]
    shown = [("step", progress(status)), ("loss", number(status.loss))]
    for split in _splits(rows):
        low = series([row for row in rows if row.get("split") == split], "loss").lowest
        if low is not None:
            shown.append((f"best {split} loss", f"{number(low[1])} at step {low[0]:.0f}"))
    shown.append(("time", duration(elapsed(status))))
    if train:
        shown.append(("tokens", f"{train[-1].get('tokens_seen') or sum(int(row.get('tokens') or 0) for row in train):,}"))
        peak = max((int(row.get("memory_bytes") or 0) for row in train), default=0)
        shown += [("peak memory", f"{size_text(peak)} a process")] if peak else []
    if record.get("parameters"):
        trained = record.get("trained_parameters") or 0
        shown.append(("parameters", f"{record['parameters']:,}, {trained:,} trained ({trained / record['parameters']:.2%})"))
    shown.append(("processes", str(status.world_size or 1)))
    if status.resumes:
        shown.append(("resumed", f"{status.resumes} times"))
    return html.heading("Outcome") + html.facts(shown)


def _splits(rows: list[dict[str, Any]]) -> list[str]:
    return [split for split in dict.fromkeys(str(row.get("split", "train")) for row in rows) if split != "train"]


def _charts(rows: list[dict[str, Any]], events: list[dict[str, Any]]) -> str:
    train = [row for row in rows if row.get("split") == "train"]
    if not rows:
        return html.heading("Curves") + "<p class='soft'>No step was finished, so there is nothing to draw.</p>"
    stops = restarts(events)
    parts = [html.heading("Curves"), _loss(rows, train, stops), "<div class='many'>"]
    for key, title, scale in SMALL:
        curve = series(train, key, name=title, scale=scale)
        if len(curve.known) > 1:
            told = in_words(curve, title)
            drawn = chart([Line(curve, "main")], title=title, description=told, identity=key, width=380, height=190, restarts=stops)
            parts.append(f"<figure><h3>{escape(title)}</h3>{drawn}<figcaption>{escape(told)}</figcaption>{_twin([curve])}</figure>")
    return "\n".join([*parts, "</div>"])


def _loss(rows: list[dict[str, Any]], train: list[dict[str, Any]], stops: list[float]) -> str:
    raw = series(train, "loss", name="training loss")
    soft = smoothed(raw)
    checks = [series([row for row in rows if row.get("split") == split], "loss", name=f"{split} loss") for split in _splits(rows)]
    best = checks[0].lowest if checks else None
    told = " ".join(in_words(curve, curve.name) for curve in (raw, *checks))
    lines = [Line(raw, "raw"), Line(soft, "main"), *(Line(curve, "check", marks=True) for curve in checks)]
    drawn = chart(lines, title="loss", description=told, identity="loss", star=best, restarts=stops)
    keys = [_key("raw", "training, each step"), _key("main", "training, smoothed (0.6)")]
    keys += [_key("check", curve.name.removesuffix(" loss") + " (diamonds)") for curve in checks] + (["<span>★ best</span>"] if best else [])
    keys += ["<span>┊ went on after a stop</span>"] if stops else []
    head = f"<h3>loss</h3><p class='key soft'>{''.join(keys)}</p>"
    return f"<figure>{head}{drawn}<figcaption>{escape(told)}</figcaption>{_twin([raw, *checks])}</figure>"


def _key(style: str, text: str) -> str:
    return f'<span><svg viewBox="0 0 26 12" aria-hidden="true"><path class="{style}" d="M0 6L26 6"/></svg>{escape(text)}</span>'


def _twin(curves: list[Series]) -> str:
    """Return the chart as a table: some steps evenly, and each point of a sparse curve while they are few."""
    sparse = {x for curve in curves[1:] for x in picked([x for x, _ in curve.points], 16)}
    gaps = [x for x, y in curves[0].points if y is None][:16]
    steps = sorted({*picked([x for x, _ in curves[0].points]), *sparse, *gaps})
    values = [dict(curve.points) for curve in curves]
    body = [(f"{x:,.0f}", *(_cell(found, x) for found in values)) for x in steps]
    return html.folded("As a table", html.table(("step", *(curve.name for curve in curves)), body, numbers=True))


def _cell(found: dict[float, float | None], x: float) -> str:
    return "" if x not in found else "not a number" if found[x] is None else plain(found[x])


def _plotly(run: Run, rows: list[dict[str, Any]]) -> str:
    from automodel.run.report_figure import figure_html

    curves = [series([row for row in rows if row.get("split") == split], "loss", name=f"{split} loss") for split in ("train", *_splits(rows))]
    told = " ".join(in_words(curve, curve.name) for curve in curves)
    return f"{html.heading('Curves')}<figure>{figure_html(run)}<figcaption>{escape(told)}</figcaption>{_twin(curves)}</figure>"


def _samples(events: list[dict[str, Any]]) -> str:
    found: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        if event.get("kind") == "sample":
            found.setdefault(str(event.get("prompt", "")), []).append(event)
    if not found:
        return ""
    first, last = (f"at step {step}" for step in _ends(found))
    rows = [
        (prompt[-400:], str(answers[-1].get("wanted") or "-"), str(answers[0].get("answer", "")), str(answers[-1].get("answer", "")))
        for prompt, answers in found.items()
    ]
    return html.heading("Answers") + html.table(("prompt", "in the data", first, last), rows)


def _ends(found: dict[str, list[dict[str, Any]]]) -> tuple[Any, Any]:
    steps = [event.get("step", 0) for answers in found.values() for event in answers]
    return min(steps), max(steps)


def _kept(run: Run) -> str:
    kept = read_kept(run.path)
    if kept is None or not kept.results:
        return ""
    when = f" Kept {time.strftime('%Y-%m-%d %H:%M', time.localtime(kept.time))}." if kept.time else ""
    said = f"Same prompts, same settings: {kept.how}. Tuned model: {kept.checkpoint}.{when}"
    rows = [(one.prompt, one.base.shown, one.tuned.shown, {True: "same", False: "different", None: "-"}[one.same]) for one in kept.results]
    return html.heading("Base model and tuned model") + f"<p>{escape(said)}</p>" + html.table(("prompt", "base model", "tuned model", ""), rows)


def _recipe(run: Run) -> str:
    own, whole = (tail_text(run.path / name).strip() for name in ("recipe.user.yaml", "recipe.yaml"))
    command = tail_text(run.path / "command.txt").strip()
    parts = [html.heading("Recipe"), html.text_block(own)]
    if command:
        parts.append(f"<p class='soft'>Started by:</p>{html.text_block(command)}")
    parts.append(html.folded("With every default", html.text_block("\n".join(whole.splitlines()[:_RECIPE_LINES]))))
    return "\n".join(parts)


def _checkpoints(run: Run) -> str:
    points = run.checkpoints
    if not points:
        return html.heading("Checkpoints") + "<p class='soft'>Nothing was saved.</p>"
    rows = []
    for point in points:
        files = (read_json(point.path / "manifest.json") or {}).get("files", {})
        marks = [word for word, is_so in (("best", point.best), ("latest", point.latest)) if is_so]
        whole = "whole" if point.verified and point.whole else "damaged or unfinished"
        rows.append((point.path.name, ", ".join(marks), size_text(sum(int(one["size"]) for one in files.values())), whole))
    return html.heading("Checkpoints") + html.table(("name", "", "size", "state"), rows)


def _events(events: list[dict[str, Any]]) -> str:
    if not events:
        return ""
    began = float(events[0].get("time", 0))
    told = [event for event in events if event.get("kind") != "sample"]
    rows = [(duration(float(event.get("time", 0)) - began), str(event.get("kind", "")), str(event.get("text", ""))[:400]) for event in told]
    left = f"The first {len(rows) - _EVENTS} are left out." if len(rows) > _EVENTS else ""
    body = html.table(("time", "what", "in words"), rows[-_EVENTS:]) + (f"<p class='soft'>{left}</p>" if left else "")
    return html.heading("Events") + html.folded(f"{len(rows)} events", body, opened=len(rows) <= 30)


def _machine(run: Run) -> str:
    found = read_json(run.path / "environment.json") or {}
    gpus = found.get("gpus") or []
    rows = [
        ("processor", f"{found.get('cpu', '-')}, {found.get('cores', '-')} cores"),
        ("memory", size_text(found["memory_bytes"]) if found.get("memory_bytes") else "-"),
        ("GPUs", ", ".join(gpus) if gpus else "none"),
        ("python", f"{found.get('python', '-')} on {found.get('platform', '-')}"),
        ("packages", ", ".join(f"{name} {text}" for name, text in (found.get("packages") or {}).items())),
    ]
    if found.get("git"):
        rows.append(("git", found["git"].get("commit", "") + (" (with changes)" if found["git"].get("changed") else "")))
    return html.heading("Environment") + html.facts(rows)
