"""What the demo prints: short acts for the terminal, plain text where there is none."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from automodel.demo.files import HELD_OUT, MODEL, TRAIN

if TYPE_CHECKING:
    from automodel.demo.run import Examination, Method, Result
    from automodel.demo.score import Score
    from automodel.run import Run

SHOWN = 6
_METHODS = {"sft": "all weights are trained", "lora": "small matrices beside frozen weights are trained"}
_SMOOTH = 0.8


class Stage:
    """Prints the acts of the demo in order.

    Args:
        method: how the model is trained.
        console: where to print; absent: standard output.
    """

    def __init__(self, method: Method, *, console: Console | None = None) -> None:
        self.method = method
        self.console = console or Console(highlight=False)

    def opening(self) -> None:
        """Show model and data."""
        self._act("1. A small model and questions it was not trained to answer")
        config = json.loads((MODEL / "config.json").read_text(encoding="utf-8"))
        size = sum(path.stat().st_size for path in MODEL.iterdir()) / 1e6
        layers, width = config["num_hidden_layers"], config["hidden_size"]
        self._say(f"model     {config['model_type']}, {layers} layers of width {width}, pre-trained on text about an invented world ({size:.1f} MB)")
        for label, path in (("training", TRAIN), ("held out", HELD_OUT)):
            articles = json.loads(path.read_text(encoding="utf-8"))["data"]
            count = sum(len(part["qas"]) for article in articles for part in article["paragraphs"])
            self._say(f"{label:<9} {count:,} questions on {len(articles)} articles, SQuAD format")
        paragraph = articles[0]["paragraphs"][0]
        self.console.print()
        self.console.print(
            textwrap.fill(paragraph["context"], min(self.console.width - 2, 96), initial_indent="  ", subsequent_indent="  "),
            style="italic",
            markup=False,
        )
        for row in paragraph["qas"][:2]:
            self.console.print(f"    [dim]{escape(row['question'])}[/dim] [bold]{escape(row['answers'][0]['text'])}[/bold]")

    def before(self, examination: Examination, answers: Sequence[str], result: Score) -> None:
        """Show how the base model answers."""
        self._act("2. Its answers before training, on held-out articles")
        table = Table("question", "right answer", "its answer", box=None, header_style="dim", padding=(0, 2, 0, 2))
        for number in _spread(len(answers), 3):
            table.add_row(Text(examination.question(number)), Text(examination.expected(number)), Text(_short(answers[number])))
        self.console.print(table)
        self._say(f"exact match {result.exact_match:.1f} %, F1 {result.f1:.1f} %, over {result.questions} questions")

    def training(self) -> None:
        """Announce the training, and the command that does the same."""
        self._act(f"3. Training: {_METHODS[self.method]}")
        self._say(f"the recipe is examples/demo_{self.method}.yaml; the curve and the checkpoints go to a run folder")

    def stopped(self, run: Run) -> None:
        """Say that the training ended early."""
        self._say(f"The run is {run.status.state}; its folder is {run.path}. Go on with it: automodel resume {run.id}")

    def after(self, examination: Examination, before: Sequence[str], after: Sequence[str]) -> None:
        """Show the answers of both models side by side."""
        self._act("4. The same questions after training")
        table = Table("question", "right answer", "before", "after", box=None, header_style="dim", padding=(0, 2, 0, 2))
        for number in _spread(len(after), SHOWN):
            expected = examination.expected(number)
            style = "green" if after[number].lower() == expected.lower() else "red"
            table.add_row(
                Text(examination.question(number)),
                Text(expected),
                Text(_short(before[number]), style="dim"),
                Text(_short(after[number]), style=style),
            )
        self.console.print(table)

    def closing(self, run: Run, result: Result) -> None:
        """Show the scores, the loss curve, what it took, and where everything lies."""
        table = Table("held-out questions", "before", "after", "gain", box=None, header_style="dim", padding=(0, 2, 0, 2))
        for name in ("exact_match", "f1"):
            old, new = getattr(result.before, name), getattr(result.after, name)
            label = {"exact_match": "exact match", "f1": "F1"}[name]
            table.add_row(f"{label} (of {result.after.questions})", f"{old:.1f} %", f"[bold]{new:.1f} %[/bold]", f"{new - old:+.1f}")
        self.console.print()
        self.console.print(table)
        self._curve(run)
        share = 100 * result.trained_parameters / result.parameters
        self._say(f"trained     {result.trained_parameters:,} of {result.parameters:,} parameters ({share:.1f} %)")
        self._say(f"took        {result.train_seconds:.0f} s, at most {result.peak_memory_bytes / 1e9:.2f} GB of memory")
        self._say(f"run folder  {_near(run.path)}")
        self._say(f"checkpoint  {_near(result.checkpoint)}  (loads with transformers' AutoModelForCausalLM)")
        self.console.print()
        self._say("next: train a model of yours on your own questions, or see what the run left")
        self._say(
            f"  automodel finetune llm -c examples/{'peft' if self.method == 'lora' else 'sft'}_guide.yaml "
            "--model.pretrained_model_name_or_path ID --dataset.path_or_dataset FILE.json"
        )
        self._say(f"  automodel status {run.id}")

    def _curve(self, run: Run) -> None:
        rows = [(row["step"], row["loss"]) for row in run.metrics("train") if row.get("loss") is not None]
        if len(rows) > 1:
            self.console.print(Text(loss_curve(rows, width=min(self.console.width, 100)), style="cyan"))

    def _act(self, title: str) -> None:
        self.console.print()
        self.console.rule(f"[bold]{title}", align="left")

    def _say(self, line: str) -> None:
        self.console.print(f"  {line}", markup=False, soft_wrap=True)


def loss_curve(rows: Sequence[tuple[int, float]], *, width: int, height: int = 14) -> str:
    """Return a drawing of the running mean of the loss over the steps, as plain lines of text."""
    import plotext

    mean, smooth = rows[0][1], []
    for _, loss in rows:
        mean = _SMOOTH * mean + (1 - _SMOOTH) * loss
        smooth.append(mean)
    figure = plotext.figure
    figure.clear()
    figure.plot_size(width, height)
    curve = figure.signal([step for step, _ in rows], smooth)
    curve.lines()
    figure.draw(curve)
    figure.title("training loss (running mean)")
    figure.label("step", "x")
    # The library paints a white background, which hurts on a dark terminal: the terminal's own colours are taken.
    return str(plotext.uncolorize(str(figure.build())))


def _spread(count: int, wanted: int) -> list[int]:
    """Return so many places, evenly spread."""
    wanted = min(count, wanted)
    return [number * count // wanted for number in range(wanted)]


def _short(text: str, *, width: int = 48) -> str:
    """Return a text on one line, cut where it gets long."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"


def _near(path: Path) -> str:
    """Return a path from here where it lies below, else in full."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
