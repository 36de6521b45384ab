"""What the panels of one workbench share: the recipe being built, the run being looked at, and where runs lie."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from automodel.run import Run, runs_root

Listener = Callable[[str], None]
RECIPE, RUN, FACTS = "recipe", "run", "facts"


class Session:
    """The recipe as the user has it (only what was set), the chosen run, the root of runs; listeners hear what changed."""

    def __init__(self, recipe: Mapping[str, Any] | None = None, *, root: Path | str | None = None) -> None:
        self.root = runs_root(root)
        self._recipe: dict[str, Any] = copy.deepcopy(dict(recipe or {}))
        self._run: Run | None = None
        self.facts: dict[str, Any] = {}
        self._listeners: list[Listener] = []

    @property
    def recipe(self) -> dict[str, Any]:
        """Return a copy of the recipe, sections as nested dicts."""
        return copy.deepcopy(self._recipe)

    @recipe.setter
    def recipe(self, value: Mapping[str, Any]) -> None:
        self._recipe = copy.deepcopy(dict(value))
        self._tell(RECIPE)

    @property
    def run(self) -> Run | None:
        """Return the run being looked at."""
        return self._run

    @run.setter
    def run(self, value: Run | None) -> None:
        self._run = value
        self._tell(RUN)

    def get(self, path: str, default: Any = None) -> Any:
        """Return the setting at a dotted path, or the default when the user has not set it."""
        here: Any = self._recipe
        for part in path.split("."):
            if not isinstance(here, Mapping) or part not in here:
                return default
            here = here[part]
        return copy.deepcopy(here)

    def set(self, path: str, value: Any) -> None:
        """Set a setting at a dotted path; None takes it out again, and sections that become empty with it."""
        *parents, last = path.split(".")
        chain = [self._recipe]
        for part in parents:
            found = chain[-1].get(part)
            if not isinstance(found, dict):
                if value is None:
                    return
                found = chain[-1][part] = {}
            chain.append(found)
        if value is None:
            chain[-1].pop(last, None)
            for section, part in zip(reversed(chain[:-1]), reversed(parents), strict=True):
                if not section[part]:
                    del section[part]
        else:
            chain[-1][last] = copy.deepcopy(value)
        self._tell(RECIPE)

    def learn(self, name: str, fact: Any) -> None:
        """Keep what a panel found out for the others, such as `facts["data"]`; None forgets it."""
        if self.facts.get(name) == fact:
            return
        if fact is None:
            self.facts.pop(name, None)
        else:
            self.facts[name] = fact
        self._tell(FACTS)

    def listen(self, listener: Listener) -> None:
        """Have `listener("recipe", "run" or "facts")` called after each change."""
        self._listeners.append(listener)

    def _tell(self, what: str) -> None:
        for listener in tuple(self._listeners):
            listener(what)
