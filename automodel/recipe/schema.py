"""The recipe: one typed description of a job, shared by YAML, the command line, Python and the forms.

The sections are in `recipe.sections`; `Recipe` puts them together, checks what must fit, and is read from and written to
YAML, Python and the command line.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ModelWrapValidatorHandler, ValidationError, model_validator
from typing_extensions import Self

from automodel.errors import RecipeError
from automodel.recipe import dump
from automodel.recipe.checks import combinations
from automodel.recipe.inherit import fill_in, inherited
from automodel.recipe.problems import from_pydantic, problems_error
from automodel.recipe.read import build, read_file, read_tree
from automodel.recipe.sections import (
    COMMANDS,
    RECIPES,
    AutocastSection,
    CheckpointSection,
    ClipSection,
    CompileSection,
    DataloaderSection,
    DatasetSection,
    DistEnvSection,
    DistributedSection,
    Dtype,
    EarlyStoppingSection,
    GuardsSection,
    LossSection,
    LrSchedulerSection,
    ModelSection,
    NeftuneSection,
    OpenSection,
    OptimizerSection,
    PackedSequenceSection,
    PeftSection,
    ProcessorSection,
    RecipeFields,
    RngSection,
    RunSection,
    SamplesSection,
    Section,
    SlurmSection,
    StepSchedulerSection,
    TargetSection,
    TokenizerSection,
)
from automodel.recipe.tree import Tree

__all__ = [
    "RECIPES",
    "AutocastSection",
    "CheckpointSection",
    "ClipSection",
    "CompileSection",
    "DataloaderSection",
    "DatasetSection",
    "DistEnvSection",
    "DistributedSection",
    "Dtype",
    "EarlyStoppingSection",
    "GuardsSection",
    "LossSection",
    "LrSchedulerSection",
    "ModelSection",
    "NeftuneSection",
    "OpenSection",
    "OptimizerSection",
    "PackedSequenceSection",
    "PeftSection",
    "ProcessorSection",
    "Recipe",
    "RngSection",
    "RunSection",
    "SamplesSection",
    "Section",
    "SlurmSection",
    "StepSchedulerSection",
    "TargetSection",
    "TokenizerSection",
]


class Recipe(RecipeFields):
    """Everything a job needs to know.

    Sections are given as maps or as section objects: `Recipe(model={"pretrained_model_name_or_path": "..."}, ...)`.

    Raises:
        RecipeError: a value that does not fit, an unknown key, or settings that contradict each other.
    """

    def __init__(self, **sections: Any) -> None:
        try:
            super().__init__(**sections)
        except ValidationError as error:
            raise problems_error(from_pydantic(error, type(self)), source="recipe") from error

    @model_validator(mode="wrap")
    @classmethod
    def _fill_in(cls, data: Any, build_it: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(data, dict):
            return build_it(data)
        filled = fill_in(data)
        made = build_it(filled)
        for name, fields in inherited(data, filled).items():
            made.validation_datasets[name].model_fields_set.difference_update(fields)
        return made

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if problems := combinations(self):
            raise problems_error(problems, source="recipe")
        return self

    @classmethod
    def from_yaml(cls, path: str | Path, *, overrides: Sequence[str] = (), allow_targets: Sequence[str] = ()) -> Self:
        """Read a recipe file of any dialect; `load_recipe` also tells the warnings.

        Raises:
            RecipeError: shows every problem with its line.
        """
        return build(cls, read_tree(read_file(path), overrides=overrides, allow_targets=allow_targets))

    @classmethod
    def from_command(cls, command: str, *, allow_targets: Sequence[str] = ()) -> Self:
        """Read the recipe that a command of `to_command` describes, from its overrides alone.

        Raises:
            RecipeError: the command is not one of ours, or its overrides do not fit.
        """
        words = shlex.split(command)
        start = next((number for number, word in enumerate(words) if word.startswith("--")), len(words))
        if words[:1] != ["automodel"]:
            raise RecipeError(
                "This is not an automodel command.",
                found=command[:80],
                expected="automodel finetune llm ... --section.key value",
                fix="copy the whole line",
            )
        meant = COMMANDS.get((words[1], words[2])) if start > 2 else None
        overrides = words[start:]
        return build(cls, read_tree(Tree({}, "command"), overrides=overrides, allow_targets=allow_targets, default_recipe=meant))

    def to_yaml(self, path: str | Path | None = None, *, only_set: bool = True) -> str:
        """Return the recipe as YAML in the newest dialect, and write it if a path is given; secrets are stars.

        Args:
            path: file to write.
            only_set: leave out defaults.
        """
        text = dump.to_yaml(self, only_set=only_set)
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    def to_python(self, *, run: bool = True) -> str:
        """Return Python code that makes this recipe, and runs it unless `run` is false."""
        return dump.to_python(self, run=run)

    def to_command(self, *, config: str | None = "recipe.yaml") -> str:
        """Return the shell command that runs this recipe: a file, and every value that was set as an override."""
        return dump.to_command(self, config=config)
