"""What the recipe form knows: each field's value and whether it applies, what is wrong and where, and the recipe as text in three languages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from automodel.errors import RecipeError
from automodel.recipe import Problem, Recipe, RecipeProblems, list_presets
from automodel.recipe.checks import combinations, completeness
from automodel.recipe.inherit import fill_in
from automodel.recipe.read import Reading, placed, read_tree
from automodel.recipe.sections import RecipeFields
from automodel.recipe.tree import Tree
from automodel_widgets.state import applies, recipe_text
from automodel_widgets.state.fields import GROUPS, VALIDATION, Field, by_path, fields, optional_sections
from automodel_widgets.state.session import Session

LANGUAGES = {"yaml": "YAML", "command": "Command", "python": "Python"}
READERS = {"yaml": recipe_text.from_yaml, "command": recipe_text.from_command, "python": recipe_text.from_python}
# Recipes to start from, in words; others of the package stand below under their file's name. The base of the demo needs files made by a script.
PRESETS = {
    "demo_sft": "Demo: fine-tune the built-in model",
    "demo_lora": "Demo: LoRA on the built-in model",
    "mock_smoke": "Smoke test: a tiny random model on made-up rows",
    "sft_guide": "Fine-tune a small model on questions and answers",
    "peft_guide": "LoRA on a small model",
    "column_mapped": "Instruction data with columns of any name",
    "pretrain_text": "Go on pre-training on plain text",
}
NO_PRESET = ("demo_pretrain",)
# What a workbench begins with where no recipe is given.
DEMO = "demo_sft"
# Adapters take about ten times the rate of full fine-tuning, so a method that is chosen brings its own.
LORA_RATE = 2e-4
_NONE = ("none", "null", "off", "~")


@dataclass(frozen=True)
class Draft:
    """What somebody typed that does not fit: it stays in the control, and the recipe keeps the last value that does."""

    shown: str
    error: str


@dataclass
class TextDraft:
    """A text that does not fit: it stays as it was typed."""

    text: str
    problems: list[tuple[int | None, str, str]] = field(default_factory=list)


class RecipeState:
    """The form over the recipe of a session."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.drafts: dict[str, Draft] = {}
        self.texts: dict[str, TextDraft] = {}
        self.notes: list[str] = []
        self.before: dict[str, Any] | None = None
        self._yaml = ""
        self._seen: dict[str, Any] | None = None
        self._lora: dict[str, Any] | None = None
        self._rate_set = False
        self.values: RecipeFields = RecipeFields()
        self.recipe: Recipe | None = None
        self.problems: list[Problem] = []

    def look(self) -> None:
        """Read the session's recipe again if it changed."""
        data = self.session.recipe
        if data == self._seen:
            return
        self._seen = data
        self.values, self.recipe, self.problems = checked(data)
        self._yaml = recipe_text.revised(self._yaml, data) if self._yaml else recipe_text.to_yaml(data)
        # a text that does not fit is kept until another text fits: nothing that was typed is lost
        self.texts = {name: draft for name, draft in self.texts.items() if draft.problems}

    # Fields.

    def value(self, path: str) -> Any:
        """Return the value in force: what was set, else the default."""
        one = by_path()[path]
        found: Any = self.values
        for part in path.split("."):
            found = found.validation_datasets.get("validation") if part == VALIDATION else getattr(found, part, None)
            if found is None:
                return None if self.given(path) else one.default
        return found

    def shown(self, path: str) -> str:
        """Return what the control shows; nothing for a section that acts only when it is there and is not."""
        draft = self.drafts.get(path)
        if draft is not None:
            return draft.shown
        if self.absent(path):
            return ""
        value, raw = self.value(path), self.session.get(path)
        if value is None and isinstance(raw, str) and raw.lower() in _NONE and by_path()[path].default is not None:
            return "none"
        return by_path()[path].text(value)

    def given(self, path: str) -> bool:
        """Say whether the recipe holds the field."""
        return self.session.get(path) is not None

    def absent(self, path: str) -> bool:
        """Say whether a field is of a section that acts only when it is given, and is not given."""
        section = by_path()[path].section
        return section in optional_sections() and self.session.get(section) is None

    def changed(self, path: str) -> bool:
        """Say whether the field differs from its default."""
        if not self.given(path):
            return False
        one = by_path()[path]
        return one.section in optional_sections() or one.text(self.value(path)) != one.text(one.default)

    def count_changed(self, group: str, *, simple: bool) -> int:
        """Return how many fields of a group differ from their default."""
        return sum(self.changed(one.path) for one in fields() if one.group == group and one.simple == simple)

    def error(self, path: str) -> str:
        """Return what is wrong with a field, or nothing."""
        draft = self.drafts.get(path)
        if draft is not None:
            return draft.error
        return " ".join(_sentence(problem) for problem in self.problems if file_path(problem.path) == path)

    def why_not(self, path: str) -> str | None:
        """Return why a field cannot apply now, or None; what is wrong already can always be mended."""
        return None if path in self.drafts else applies.why_not(path, self.values)

    def set(self, path: str, shown: Any) -> None:
        """Take what was typed into a field, or keep it as a draft with the reason why it does not fit."""
        one = by_path()[path]
        self.drafts.pop(path, None)
        try:
            value = "none" if _is_off(one, shown) else one.value(shown)
        except RecipeError as error:
            self.drafts[path] = Draft(str(shown), error.what)
            return
        if value is None:
            self.reset(path)
            return
        trial = Session(self.session.recipe)
        trial.set(path, value)
        _, _, problems = checked(trial.recipe)
        wrong = [problem for problem in problems if file_path(problem.path) == path]
        if wrong and wrong[0] not in combinations_of(trial.recipe):
            self.drafts[path] = Draft(str(shown), _does_not_fit(one, shown))
            return
        if not self.given(path) and not self.absent(path) and one.text(value) == one.text(one.default):
            self.look()
            return
        self._change(path, value)

    def reset(self, path: str) -> None:
        """Give a field its default again."""
        self.drafts.pop(path, None)
        if path == "optimizer.lr":
            self._rate_set = False
        section = path.partition(".")[0]
        kept = self.session.get(section)
        if section == "peft" and isinstance(kept, dict) and set(kept) <= {path.partition(".")[2]}:
            # an empty section would be taken out, and with it the method
            self._change("peft.dim", by_path()["peft.dim"].default)
            return
        self._change(path, None)

    def reset_all(self) -> None:
        """Give every field its default; `undo` brings them back."""
        self.replace({})

    def replace(self, data: Mapping[str, Any]) -> None:
        """Put another recipe in the place of this one; `undo` brings it back."""
        self.before = self.session.recipe
        self.drafts, self.texts, self._yaml, self._rate_set = {}, {}, "", False
        self.session.recipe = data
        self.look()

    def undo(self) -> None:
        """Bring back the recipe from before it was replaced."""
        if self.before is not None:
            before, self.before = self.before, None
            self.drafts, self.texts, self._yaml = {}, {}, ""
            self.session.recipe = before
            self.look()

    def _change(self, path: str, value: Any) -> None:
        self.before = None
        self.session.set(path, value)
        self.look()

    # The method, the size of a batch, what is missing.

    @property
    def method(self) -> str:
        """Return the method: full, lora or qlora."""
        return applies.method_of(self.values)

    def choose_method(self, method: str) -> None:
        """Train all weights, or adapters; a learning rate that nobody set goes with the method."""
        if applies.method_why_not(method) or method == self.method or method not in applies.METHODS:
            return
        data = self.session.recipe
        self.notes = []
        if method == "full":
            self._lora = data.pop("peft", None)
            data.pop("quantization", None)
            if self._rate_set:
                data.get("optimizer", {}).pop("lr", None)
                self._rate_set = False
        else:
            data.setdefault("peft", self._lora or {"dim": 8})
            data.pop("quantization", None)
            if method == "qlora":
                data["quantization"] = {"load_in_4bit": True}
            if data.get("optimizer", {}).get("lr") is None:
                data.setdefault("optimizer", {})["lr"] = LORA_RATE
                self._rate_set = True
                self.notes = ["The learning rate is now 2e-4, as is usual for adapters."]
        if not data.get("optimizer", True):
            del data["optimizer"]
        self.drafts = {path: draft for path, draft in self.drafts.items() if not path.startswith("peft.")}
        self.before = None
        self.session.recipe = data
        self.look()

    def batch(self) -> tuple[int, int, float, int]:
        """Return the effective batch, its local part, accumulation and processes; an accumulation that is no whole number cannot be dealt out."""
        steps, processes = self.values.step_scheduler, self.processes
        return steps.global_batch_size, steps.local_batch_size, steps.global_batch_size / (steps.local_batch_size * processes), processes

    @property
    def processes(self) -> int:
        """Return the number of processes that the launcher is set to."""
        found = self.session.facts.get("processes")
        return found if isinstance(found, int) and found > 0 else 1

    @property
    def missing(self) -> list[str]:
        """Return what a job would still need, one sentence each."""
        return [f"{problem.what} {_hint(problem)}".strip() for problem in completeness(self.values)]

    @property
    def elsewhere(self) -> list[str]:
        """Return problems that belong to no field of the form."""
        return [_sentence(problem) for problem in self.problems if file_path(problem.path) not in by_path()]

    def counts(self) -> dict[str, int]:
        """Return how many fields of each group differ from their defaults."""
        return {group: self.count_changed(group, simple=True) + self.count_changed(group, simple=False) for group in GROUPS}

    # As text.

    def text(self, language: str) -> str:
        """Return the recipe in a language, or the text that somebody typed and that does not fit yet."""
        draft = self.texts.get(language)
        if draft is not None:
            return draft.text
        if language == "yaml":
            return self._yaml
        if self.recipe is None or not self._seen:
            return ""
        return self.recipe.to_command() if language == "command" else self.recipe.to_python()

    def take_text(self, language: str, text: str) -> None:
        """Fill the form from a text; one that does not fit stays as typed, with its problems by line."""
        if text == self.text(language):
            return
        self.notes = []
        try:
            read = READERS[language](text)
        except RecipeError as error:
            self.texts[language] = TextDraft(recipe_text.hidden(text), problems_of(error))
            return
        self.texts.pop(language, None)
        self.drafts, self.notes, self.before = {}, read.notes, self.session.recipe
        # The comments of a text are the user's own; a text that holds what the form does not is written anew.
        keeps = language == "yaml" and not any("secret" in note for note in read.notes)
        self._yaml = text if keeps else self._yaml
        self.session.recipe = read.data
        self.look()

    def drop_text(self, language: str) -> None:
        """Show the recipe again in place of a text that does not fit."""
        self.texts.pop(language, None)


def presets() -> dict[str, str]:
    """Return the recipes to start from: name -> words."""
    found = [name for name in list_presets() if name not in NO_PRESET]
    ordered = [name for name in PRESETS if name in found] + [name for name in found if name not in PRESETS]
    return {name: PRESETS.get(name, name.replace("_", " ").capitalize()) for name in ordered}


def preset(name: str) -> dict[str, Any]:
    """Return the sections of a preset, with what the package ships named by its place on this machine."""
    return recipe_text.sections(list_presets()[name])


def first_recipe(recipe: Any) -> dict[str, Any]:
    """Return the sections to begin with: those of a recipe in whatever form it is handed over, or the embedded demo where none is given."""
    return preset(DEMO) if recipe is None else recipe_text.sections(recipe)


def checked(data: Mapping[str, Any]) -> tuple[RecipeFields, Recipe | None, list[Problem]]:
    """Return the values of a recipe, the recipe if it is whole, and what is wrong with it."""
    try:
        reading = read_tree(Tree(dict(data), "recipe"))
    except RecipeProblems as error:
        return RecipeFields(), None, list(error.problems)
    try:
        recipe = Recipe(**reading.data)
        problems = list(reading.problems)
        return recipe, None if problems else recipe, problems
    except RecipeProblems as error:
        problems = [*reading.problems, *placed(error.problems, reading.ctx).problems]
    return _typed(reading), None, problems


def combinations_of(data: Mapping[str, Any]) -> list[Problem]:
    """Return what does not fit together in a recipe whose values fit one by one."""
    values, _, problems = checked(data)
    known = {(problem.path, problem.what) for problem in combinations(values)}
    return [problem for problem in problems if (problem.path, problem.what) in known]


def _typed(reading: Reading) -> RecipeFields:
    try:
        return RecipeFields(**fill_in(reading.data))
    except ValueError:  # pydantic's own: a value that does not fit its field
        return RecipeFields()


def file_path(path: tuple[str | int, ...]) -> str:
    """Return a path of the normal form as a file has it."""
    parts = [str(part) for part in path]
    if parts[:1] == ["validation_datasets"]:
        parts = [VALIDATION if parts[1:2] in (["validation"], []) else f"{VALIDATION}_{parts[1]}", *parts[2:]]
    return ".".join(parts)


def problems_of(error: RecipeError) -> list[tuple[int | None, str, str]]:
    """Return (line, what, fix) of each problem of a text."""
    found = list(error.problems) if isinstance(error, RecipeProblems) else []
    if not found:
        line, what = _line(error.what)
        return [(line, _with_found(what, error.found), error.fix)]
    return [(_line(f"{problem.where}: ")[0], _with_found(problem.what, problem.found), _fix(problem)) for problem in found]


def _line(what: str) -> tuple[int | None, str]:
    match = re.match(rf"{recipe_text.SOURCE}:(\d+): ", what)
    return (int(match[1]), what[match.end() :].capitalize()) if match else (None, what)


def _fix(problem: Problem) -> str:
    return problem.fix if problem.what.startswith("Unknown key") or not problem.expected else f"It takes {problem.expected}."


def _with_found(what: str, found: str) -> str:
    return f"{what.rstrip('.')}. Found: {found}" if found and found not in what else what


def _sentence(problem: Problem) -> str:
    words = [problem.what, f"Found {problem.found}." if problem.found else ""]
    return " ".join(word for word in [*words, f"Try {problem.fix}." if problem.fix else ""] if word)


def _hint(problem: Problem) -> str:
    return {"model": "Choose one in the group Model.", "dataset": "Choose them in the group Data."}.get(str(problem.path[0]), f"Try {problem.fix}.")


def _does_not_fit(one: Field, shown: Any) -> str:
    usual = f" ({one.range.partition('usually ')[1]}{one.range.partition('usually ')[2]})" if "usually" in one.range else ""
    return f"{str(shown).strip()!r} does not fit. It takes: {one.takes}{usual}. The recipe keeps the last value that fits."


def _is_off(one: Field, shown: Any) -> bool:
    return one.path == "clip_grad_norm.max_norm" and str(shown).strip().lower() in _NONE
