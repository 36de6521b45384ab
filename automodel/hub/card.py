"""The model card: facts from the run, blanks for what only a person knows, and a head that the Hub reads.

Head (YAML): https://huggingface.co/docs/hub/model-cards#model-card-metadata.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automodel.errors import RunError
from automodel.hub.errors import HubRefused, without_secrets
from automodel.hub.facts import Facts, gather, text_without_places
from automodel.hub.source import Source, find_source
from automodel.hub.usage import PLACEHOLDER, usage
from automodel.run.files import write_text
from automodel.version import __version__

if TYPE_CHECKING:
    from automodel.run import Run

_MARK = re.compile(r"\n<!-- written by automodel, digest ([0-9a-f]{16}) -->\n?$")
_PEFT_TEMPLATE = ("# Model Card for Model ID", "[More Information Needed]")
BLANK = "*To be written by whoever publishes this model.*"


@dataclass(frozen=True)
class ModelCard:
    """A model card: `text` is the Markdown with its head, `path` the file it was written to, `missing` what a person has to add."""

    text: str
    path: Path | None
    metadata: dict[str, Any]
    missing: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        gaps = "".join(f"<li>{escape(gap)}</li>" for gap in self.missing)
        asked = f"<p>Still to be written by a person:</p><ul>{gaps}</ul>" if gaps else ""
        return f"{asked}<pre style='white-space:pre-wrap;text-align:left'>{escape(self.text)}</pre>"

    def as_dict(self) -> dict[str, Any]:
        """Return text, path, head and gaps as plain values, for `--json`."""
        return {"text": self.text, "path": str(self.path) if self.path else None, "metadata": self.metadata, "missing": list(self.missing)}


def model_card(
    source: Run | str | Path,
    *,
    checkpoint: str | None = None,
    repo_id: str | None = None,
    base_model: str | None = None,
    license: str | None = None,
    language: Sequence[str] = (),
    intended_use: str | None = None,
    limitations: str | None = None,
    write: bool = True,
    overwrite: bool = False,
    runs_root: str | Path | None = None,
) -> ModelCard:
    """Write the card of a model from what its run recorded, and return it.

    A run's card goes to `card/README.md` of the run folder, that of a plain model folder beside its weights. Prompts that the recipe itself
    holds are shown with their answers, and so are answers of this checkpoint that somebody kept in the playground (`samples.json`); rows of
    data sets are not. Paths, host names and tokens of this machine never get in.

    Args:
        source: a `Run`, the folder of a run, a checkpoint or a model, or the name of a run.
        checkpoint: `best`, `latest` or a name; absent: the best, else the newest.
        repo_id: name on the Hub for the lines that load the model; absent: a placeholder, which `push_to_hub` fills in.
        base_model: Hub id of the base model, where the recipe names a folder of this machine.
        license: licence of this model; absent: that of the base model, marked for review, if it is known.
        language: codes such as `en`.
        intended_use: what the model is for; absent: a marked blank.
        limitations: what it is not for and gets wrong; absent: a marked blank.
        write: False only returns the card.
        overwrite: also replace a card that somebody has edited.
        runs_root: where runs are looked up by name.

    Raises:
        RunError: there is no model, or an edited card would be lost.
    """
    found = find_source(source, checkpoint=checkpoint, runs_root=runs_root)
    facts = gather(found, base_model=base_model)
    head, missing = metadata(facts, license=license, language=language)
    missing += [name for name, text in (("intended use", intended_use), ("limitations", limitations)) if not text]
    body = without_secrets("\n".join(_body(facts, license=license, intended_use=intended_use, limitations=limitations)))
    text = _signed(f"---\n{head_text(head)}\n---\n\n{body}\n")
    if repo_id:
        text = for_repo(text, repo_id)
    if not write:
        return ModelCard(text, None, head, tuple(missing))
    path = card_path(found)
    present = existing_card(found)
    if present is not None and not is_ours(present) and not overwrite:
        raise RunError(
            "There is a card that somebody has edited; it was left as it is.",
            found=str(path),
            expected="no card, or one that was written by this command and not changed since",
            fix="push it as it is, or have it replaced: model_card(..., overwrite=True), automodel card --overwrite",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
    return ModelCard(text, path, head, tuple(missing))


def card_path(source: Source) -> Path:
    """Return where the card of a source lies: in its run folder, else beside the weights."""
    return source.run.path / "card" / "README.md" if source.run is not None else source.folder / "README.md"


def existing_card(source: Source) -> str | None:
    """Return the card that is there, or None; the empty form that peft writes beside each adapter is no card."""
    try:
        text = card_path(source).read_text(encoding="utf-8")
    except OSError:
        return None
    return None if all(part in text for part in _PEFT_TEMPLATE) else text


def is_ours(text: str) -> bool:
    """Say whether a card was written by `model_card` and not changed since."""
    match = _MARK.search(text)
    return match is not None and match[1] == _digest(text[: match.start()] + "\n")


def for_repo(text: str, repo_id: str) -> str:
    """Return a card whose lines load the model from this repository; an untouched card stays recognisable as such."""
    ours, filled = is_ours(text), text.replace(PLACEHOLDER, repo_id)
    return _signed(_MARK.sub("\n", filled)) if ours else filled


def _signed(text: str) -> str:
    return f"{text}<!-- written by automodel, digest {_digest(text)} -->\n"


def _digest(text: str) -> str:
    return hashlib.sha256(text.replace("\r\n", "\n").encode()).hexdigest()[:16]


def metadata(facts: Facts, *, license: str | None = None, language: Sequence[str] = ()) -> tuple[dict[str, Any], list[str]]:
    """Return the head of the card and the names of what is missing in it."""
    missing = []
    head: dict[str, Any] = {"library_name": "peft" if facts.kind == "adapter" else "transformers", "pipeline_tag": facts.pipeline}
    if facts.base is not None and facts.base.hub:
        head["base_model"] = facts.base.name
        head["base_model_relation"] = "adapter" if facts.kind == "adapter" else "finetune"
    chosen = license or facts.license
    if chosen:
        head["license"] = chosen
    else:
        missing.append("license")
    if language:
        head["language"] = list(language)
    if facts.datasets:
        head["datasets"] = list(dict.fromkeys(one.name for one in facts.datasets))
    kind = {"pretrain": "pretraining", "seq_cls": "text-classification"}.get(facts.task, facts.task)
    tags = ["automodel", kind, "lora" if facts.kind == "adapter" or "LoRA" in facts.method else ""]
    head["tags"] = [tag for tag in dict.fromkeys(tags) if tag]
    if results := _model_index(facts):
        head["model-index"] = results
    return head, missing


def _model_index(facts: Facts) -> list[dict[str, Any]]:
    """Return the losses in the form of the Hub, which wants each beside a data set of the Hub."""
    hub = [one for one in facts.datasets if one.hub]
    loss = facts.validation.get("validation")
    if not hub or loss is None:
        return []
    metric = {"type": "loss", "value": round(loss, 4), "name": "Validation loss"}
    task = {"type": facts.pipeline}
    return [{"name": facts.title, "results": [{"task": task, "dataset": {"name": hub[-1].name, "type": hub[-1].name}, "metrics": [metric]}]}]


def head_text(head: dict[str, Any]) -> str:
    """Return the head as YAML."""
    from automodel.recipe.dump import dump_yaml

    return dump_yaml(head).strip()


def read_head(text: str) -> dict[str, Any]:
    """Return the head of a card.

    Raises:
        HubRefused: it has none, or it is no YAML.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    match = re.match(r"---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(\r?\n|$)", text, re.DOTALL)
    try:
        found = YAML(typ="safe", pure=True).load(match[1]) if match else None
    except YAMLError as error:
        found, why = None, str(error).splitlines()[0]
    else:
        why = "no block between two lines of three dashes at the beginning"
    if not isinstance(found, dict):
        raise HubRefused(
            "The head of the model card cannot be read; nothing was sent.",
            found=why,
            expected="YAML between two lines of three dashes",
            fix="correct the card, or write it anew: automodel card RUN --overwrite",
        )
    return found


def _body(facts: Facts, *, license: str | None, intended_use: str | None, limitations: str | None) -> list[str]:
    return [
        f"# {facts.title}",
        "",
        _summary(facts),
        "",
        *usage(facts, known_to_transformers=_in_transformers(facts.model_type)),
        *_data_section(facts),
        *_table_section("Training", facts.rows),
        *_settings_section(facts),
        *_results_section(facts),
        "",
        "## Intended use",
        "",
        intended_use or BLANK,
        "",
        "## Limitations",
        "",
        limitations or BLANK,
        "",
        *_known_limits(facts),
        *_license_section(facts, license),
        *_versions_section(facts),
    ]


def _summary(facts: Facts) -> str:
    base = f"[{facts.base.name}](https://huggingface.co/{facts.base.name})" if facts.base and facts.base.hub else ""
    base = base or (f"`{facts.base.name}`, a local model" if facts.base else "")
    on = " and ".join(dict.fromkeys(row[1] for row in facts.data if row[0] == "training"))
    what = f"An adapter for {base}" if facts.kind == "adapter" else (base if base else f"A `{facts.architecture or 'transformers'}` model")
    text = f"{what}, {facts.method} on {on}." if facts.method and on else f"{what}."
    if facts.kind == "model" and base and facts.method:
        text = f"Made from {base} by {facts.method}" + (f" on {on}." if on else ".")
    if facts.step is not None:
        best = ", the best by validation loss" if facts.best and facts.validation else ""
        text += f" This is the state after step {facts.step}{best}."
    return text


def _in_transformers(model_type: str) -> bool:
    if not model_type:
        return True
    from automodel.registry import ModelRegistry

    if ModelRegistry.find(name=None, model_type=model_type) is None:
        return True  # what is not our own is transformers'
    from automodel.auto.compat import known_model_types

    return model_type in known_model_types()


def _data_section(facts: Facts) -> list[str]:
    if not facts.data:
        return []
    lines = ["", "## Data", "", "| set | source | split | size |", "| --- | --- | --- | --- |"]
    return lines + [f"| {' | '.join(_cell(cell) for cell in row)} |" for row in facts.data]


def _table_section(title: str, rows: Sequence[tuple[str, str]]) -> list[str]:
    if not rows:
        return []
    return ["", f"## {title}", "", "| | |", "| --- | --- |", *(f"| {_cell(label)} | {_cell(text)} |" for label, text in rows if text)]


def _settings_section(facts: Facts) -> list[str]:
    if not facts.settings:
        return []
    head = "<details><summary>Settings that were chosen (all others are defaults)</summary>"
    return ["", head, "", "```yaml", facts.settings, "```", "", "</details>"]


def _results_section(facts: Facts) -> list[str]:
    lines = _table_section("Results", facts.results)
    for split, loss in facts.validation.items():
        if loss < 20:
            lines.append(f"| {split} perplexity | {math.exp(loss):.4g} a trained token |")
    if facts.results and not facts.validation:
        lines += ["", "No validation set was used, so nothing is known about text that the model was not trained on."]
    if facts.samples:
        said = "Answers to the prompts of the recipe, decoded greedily:"
        lines += _answers(said, ("prompt", "at the first validation", "at the end"), facts.samples)
    if facts.kept:
        said = f"The base model and this one on the same prompts, {facts.kept_how}; examples that were chosen, no measurement:"
        lines += _answers(said, ("prompt", "base model", "this model"), facts.kept)
    return lines


def _answers(said: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["", said, "", f"| {' | '.join(head)} |", "| --- | --- | --- |"]
    return lines + [f"| {' | '.join(_code(cell) for cell in row)} |" for row in rows]


def _known_limits(facts: Facts) -> list[str]:
    known = ["Known from the run:", ""]
    known.append(f"- It {'keeps the limits and biases of its base model' if facts.base else 'was not made from a published model'}.")
    if facts.results:
        only = "Only the loss was measured" if facts.validation else "Nothing but the training loss was measured"
        known.append(f"- {only}: no benchmark, no check for safety or bias.")
    return known


def _license_section(facts: Facts, given: str | None) -> list[str]:
    if given:
        return ["", "## License", "", given]
    if facts.license:
        origin = "the licence of the base model, as its own card names it"
        return ["", "## License", "", f"{facts.license}, {origin}. *Check that it fits this model and its data.*"]
    return ["", "## License", "", BLANK]


def _versions_section(facts: Facts) -> list[str]:
    if not facts.versions:
        return []
    shown = ", ".join(f"{name} {text}" for name, text in facts.versions.items() if text)
    return ["", "## Versions", "", f"Trained with [automodel](https://pypi.org/project/automodel-workbench) {__version__}: {shown}."]


def _cell(text: str) -> str:
    return text_without_places(text).replace("|", "\\|").replace("\n", " ")


def _code(text: str) -> str:
    clean = text_without_places(text)
    shown = clean if len(clean) <= 200 else clean[:200] + "…"
    printable = "".join(mark if mark.isprintable() or mark == "\n" else "\N{REPLACEMENT CHARACTER}" for mark in shown)
    return f"<code>{escape(printable).replace(chr(10), '<br>').replace('|', '&#124;')}</code>"
