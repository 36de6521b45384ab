"""The monitor: a run as it goes, from its folder; any notebook, any number of them, and again after a kernel restart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from automodel.run import Run, attach
from automodel.run.remedy import Remedy
from automodel.run.show import duration, number
from automodel_widgets.panels.base import Panel
from automodel_widgets.parts.html import Html, Raw, badge, button, code, dialog, fold, note, progress, region, table, tabs, tag, text, tiles
from automodel_widgets.parts.surface import Surface
from automodel_widgets.state.monitor import MonitorState, clock
from automodel_widgets.state.session import RUN, Session

SIDES = {"events": "Events", "log": "Log", "samples": "Samples", "checkpoints": "Checkpoints", "numbers": "Chart in words"}
BOARD = tag("div", "", data_board="run", role="group", aria_label="Live curves of the run; the tab 'Chart in words' says the same in text")


class Monitor(Panel):
    """Follows one run: curves, tiles, events, logs, samples, checkpoints, stop, resume, and the reason of a failure.

    Args:
        run: a Run, its id or folder, or "latest".
        root: where runs are looked for by id.
    """

    name: ClassVar[str] = "monitor"
    title: ClassVar[str] = "Monitor"
    idle: ClassVar[float | None] = 2.0

    def __init__(
        self,
        run: Run | str | Path | None = "latest",
        *,
        root: str | Path | None = None,
        session: Session | None = None,
        surface: Surface | None = None,
    ) -> None:
        super().__init__(surface=surface)
        self.root = root if session is None else session.root
        self.session = session
        self.state: MonitorState | None = None
        self._side = "events"
        self._rank = 0
        # The run that was asked about: a late answer does not stop another.
        self._asking = ""
        self._busy = ""
        if session is not None:
            session.listen(self._heard)
            run = session.run
        if run is not None:
            self.follow(run if isinstance(run, Run) else attach(run, root=self.root))

    @property
    def run(self) -> Run | None:
        """The run that is shown."""
        return self.state.run if self.state else None

    def follow(self, run: Run) -> None:
        """Show another run from now on."""
        self.state = MonitorState(run)
        self._rank, self._asking = self.state.failed_rank, ""
        if self._surface is not None:
            self._surface.reset("run")
            self._look()
            self.refresh()
        self.watch()

    @property
    def surface(self) -> Surface:
        """Return the widget, with the curve up to now."""
        first = self._surface is None
        made = super().surface
        if first:
            self._look()
            self.refresh()
        return made

    def tick(self) -> bool:
        """Read what is new; a run that is over is looked at again when its record was written, by a resume elsewhere for instance."""
        if self.state is not None and self.state.over and not self.state.changed():
            return False
        self._look()
        self.refresh()
        return self.state is not None and not self.state.over

    def _look(self) -> None:
        if self.state is None or self._surface is None:
            return
        if not self.state.run.folder.record():
            # The folder was deleted.
            self._leave()
            return
        news = self.state.look()
        if news.restarted:
            self._surface.reset("run")
        if news.train or news.check:
            self._surface.append("run", train=news.train, check=news.check, restarts=self.state.restarts())

    def _leave(self) -> None:
        """Be about no run."""
        self.state, self._asking = None, ""
        if self._surface is not None:
            self._surface.reset("run")

    # What it looks like.

    def body(self) -> Html:
        """Return the frame."""
        return "".join(region(self.part(name)) for name in ("head", "tiles", "failure", "chart", "side", "dialog"))

    def parts(self) -> Mapping[str, Html]:
        """Return what changes."""
        if self.state is None:
            empty = note("No run yet. Start one in the Launch tab, or open one in the Runs tab.")
            return {"head": tag("h2", self.title) + empty, "tiles": "", "failure": "", "chart": "", "side": "", "dialog": ""}
        made = {"head": self._head(), "tiles": self._tiles(), "failure": self._failure(), "chart": BOARD + self._hint()}
        return made | {"side": self._sides(), "dialog": self._dialog()}

    def _head(self) -> Html:
        state = self._known()
        word, kind = state.phase
        name = state.run.path.name
        controls = []
        if not state.status.done:
            why = "It is stopping already" if state.asked_to_stop or state.status.state == "stopping" else None
            saving = "It saves at the end of this step" if state.run.folder.requests().save else None
            controls.append(button("Stop…", self.act("ask-stop"), kind="danger", why_not=why))
            controls.append(button("Save now", self.act("save"), kind="quiet", why_not=why or saving))
            controls.append(tag("span", text(f"{saving}."), class_="am-muted", role="status") if saving else "")
        elif not state.status.alive and state.status.state != "finished":
            point = state.run.resume_point
            label = f"Resume from step {point.step}" if point else "Start again from the beginning"
            controls.append(button(label, self.act("resume"), why_not="A job is being started" if self._busy else None))
        line = progress(state.share, "Steps done")
        title = tag("div", tag("h2", text(name)) + badge(word, kind) + "".join(controls), class_="am-row")
        said, how = state.stop_words()
        reason = note(text(state.status.reason), "warn") if state.status.reason else ""
        reason += note(text(said), how, live=True) if said else ""
        waits = "" if state.asked_to_stop else state.waiting()
        reason += tag("p", text(waits), class_="am-muted am-flush") if waits else ""
        busy = note(text(self._busy), live=True) if self._busy else ""
        return title + line + reason + busy

    def _tiles(self) -> Html:
        state = self._known()
        last, status = state.last, state.status
        done = f"{status.step or 0:,}" + (f" / {status.total_steps:,}" if status.total_steps else "")
        values = {
            "Loss": number(last.get("loss")),
            "Validation loss": number(status.validation_loss),
            "Step": done,
            "Epoch": "-" if last.get("epoch") is None else f"{last['epoch']:.2f}",
            "Elapsed": duration(state.elapsed),
            "Left": "-" if state.eta is None else duration(state.eta),
            "Steps / s": "-" if not state.pace else f"{1 / state.pace:.3g}",
            "Learning rate": "-" if last.get("lr") is None else f"{last['lr']:.1e}",
            "Gradient norm": number(last.get("grad_norm")),
            "Tokens / s": "-" if last.get("tokens_per_second") is None else f"{last['tokens_per_second']:,.0f}",
            "Tokens seen": "-" if last.get("tokens_seen") is None else f"{last['tokens_seen']:,}",
            "Memory": "-" if not last.get("memory_bytes") else f"{last['memory_bytes'] / 1e9:.2f} GB",
        }
        return tiles(values)

    def _failure(self) -> Html:
        state = self._known()
        if state.status.state != "failed":
            return ""
        found = state.run.explain()
        ways = "".join(tag("li", self._remedy(number, way)) for number, way in enumerate(found.remedies))
        said = tag("strong", text(found.sentence)) + tag("p", text(found.cause)) + (tag("ol", ways, class_="am-ways") if ways else "")
        first, count = state.failed_rank, state.status.world_size or 1
        said += tag("p", f"Rank {first} of {count} failed first.", class_="am-flush") if count > 1 else ""
        raw = fold("The end of the log" + (f" of rank {first}" if count > 1 else ""), code(state.log(first), label="Log of the failed run"))
        return note(said + raw, "bad", live=True)

    def _remedy(self, number: int, way: Remedy) -> Html:
        if not way.overrides:
            return text(way.text)
        does = tag("code", text(" ".join(word.removeprefix("--") for word in way.overrides)))
        why = "A job is being started" if self._busy else None
        press = button("Apply and rerun", self.act("fix"), value=number, kind="quiet", why_not=why, aria_label=f"Apply and rerun: {way.text}")
        return f"{text(way.text)} {does} {press}"

    def _sides(self) -> Html:
        inner = {"events": self._events, "log": self._log, "samples": self._samples, "checkpoints": self._checkpoints, "numbers": self._numbers}
        return tabs(self.act("side"), SIDES, self._side, inner[self._side]())

    def _events(self) -> Html:
        rows = [(clock(event.get("time")), str(event.get("kind", "")).replace("_", " "), event.get("text", "")) for event in self._known().events()]
        return table(("Time", "What", "Detail"), rows, caption="Events, newest first") if rows else note("Nothing has happened yet.")

    def _log(self) -> Html:
        state = self._known()
        ranks = [str(rank) for rank in state.ranks]
        pick = "".join(button(f"Rank {rank}", self.act("rank"), value=rank, kind="" if rank == str(self._rank) else "quiet") for rank in ranks)
        body = tag("pre", text(state.log(self._rank) or "The log is empty."), tabindex="0", data_follow=True, role="region", aria_label="Log")
        return tag("div", pick, class_="am-row") + body

    def _samples(self) -> Html:
        found = self._known().samples()
        if not found:
            return note("No samples. Add prompts under <code>samples.prompts</code> of the recipe, and they are answered at each validation.")
        wanted = any(event.get("wanted") for event in found)
        rows = [(event.get("prompt", ""), event.get("answer", event.get("text", "")), *([event.get("wanted")] if wanted else [])) for event in found]
        return table(
            ("Prompt", "Answer", *(["Wanted"] if wanted else [])), rows, caption=f"Samples at step {found[0].get('step')}", hide_caption=False
        )

    def _checkpoints(self) -> Html:
        rows = []
        for point in self._known().checkpoints:
            marks = [badge(word, "good") for word, is_it in (("latest", point.latest), ("best", point.best)) if is_it]
            whole = badge("verified", "good") if point.verified else badge("not verified", "warn")
            rows.append((f"{point.step:,}", point.epoch, Raw(" ".join(marks)), Raw(whole), Raw(f"<code>{text(point.model)}</code>")))
        if not rows:
            return note("No checkpoint yet.")
        return table(("Step", "Epoch", "", "State", "Model folder"), rows, caption="Checkpoints, newest first", numbers=(0, 1))

    def _numbers(self) -> Html:
        return table(("What", "Value"), self._known().summary(), caption="The curve in numbers", numbers=(1,))

    def _hint(self) -> Html:
        """Return what the chart lacks, and how to get it."""
        state = self._known()
        others = [name for name in state.checks if name != state.drawn]
        if others:
            words = f"Validation drawn: {state.drawn}. The tab 'Chart in words' has {', '.join(others)}, too."
        elif state.drawn is None and not state.validates:
            words = "No validation is drawn: the recipe has no validation set. Set one (validation_dataset) to see how the model does on other rows."
        elif state.drawn is None and not state.status.done:
            words = "The validation loss is drawn from the first check on."
        else:
            return ""
        return tag("p", text(words), class_="am-muted am-small")

    def _dialog(self) -> Html:
        if not self._asking:
            return ""
        said = tag("p", "The run goes to the end of its step first. A saved run can be resumed exactly where it stopped.")
        row = button("Stop and save", self.act("stop"), value="save", autofocus=True)
        row += button("Stop and discard", self.act("stop"), value="discard", kind="danger") + button(
            "Keep going", self.act("stop"), value="cancel", kind="quiet"
        )
        return dialog(f"Stop {self._known().run.path.name}?", said + tag("div", row, class_="am-row"), act=self.act("stop"), key="stop")

    def drawn(self, html: Html) -> Html:
        """Return the page with the curves as a picture and in words."""
        if self.state is None or BOARD not in html:
            return html
        words = table(("What", "Value"), self.state.summary(), caption="The curve in numbers", numbers=(1,))
        return html.replace(BOARD, tag("div", self.state.picture(), class_="am-overlay am-measure") + words)

    # What it does.

    def act_opened(self, _value: Any, _fields: Mapping[str, str]) -> None:
        """Nothing to do: the state came with the view."""

    def act_side(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Show another tab."""
        self._side = str(value) if value in SIDES else self._side

    def act_rank(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Show another rank's log."""
        self._rank = int(value)

    def act_ask_stop(self, _value: Any, _fields: Mapping[str, str]) -> None:
        """Ask how to stop."""
        self._asking = self._known().run.id

    def act_stop(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Stop with or without saving, or keep going."""
        asked, self._asking = self._asking, ""
        run = self._known().run
        if value in ("save", "discard") and asked == run.id:
            run.stop(save=value == "save")

    def act_save(self, _value: Any, _fields: Mapping[str, str]) -> None:
        """Ask for a checkpoint at the next step."""
        self._known().run.folder.request_save()

    def act_resume(self, _value: Any, _fields: Mapping[str, str]) -> None:
        """Go on from the newest whole checkpoint."""
        run = self._known().run
        self._busy = "Resuming…"
        self._begin(run.resume)

    def act_fix(self, value: Any, _fields: Mapping[str, str]) -> None:
        """Start the run anew with a change to its recipe."""
        from automodel_widgets.state.jobs import rerun

        run = self._known().run
        changes = run.explain().remedies[int(value)].overrides
        self._busy = "Checking the changed recipe and starting it…"
        self._begin(lambda: rerun(run, changes, root=self.root))

    def _begin(self, start: Callable[[], Run]) -> None:
        def work() -> None:
            try:
                run = start()
            finally:
                self._busy = ""
            self.follow(run)

        self.later(work)

    def _heard(self, what: str) -> None:
        if what != RUN or self.session is None:
            return
        if self.session.run is not None:
            self.follow(self.session.run)
        elif self.state is not None and not self.state.run.folder.record():
            self._leave()
            self.refresh()

    def _known(self) -> MonitorState:
        assert self.state is not None
        return self.state
