"""Errors that teach: what happened, what was found, what was expected, and what to do next."""

from __future__ import annotations


class AutomodelError(Exception):
    """A failure explained in four parts; `exit_code` is what the command line returns for it.

    Args:
        what: one sentence that says what went wrong.
        found: the value, name or state that was met.
        expected: what would have been right.
        fix: the next thing to try, as a command or a change to the recipe.
    """

    exit_code = 1

    def __init__(self, what: str, *, found: str = "", expected: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.found = found
        self.expected = expected
        self.fix = fix

    def __str__(self) -> str:
        rows = [self.what]
        for label, text in (("found", self.found), ("expected", self.expected), ("fix", self.fix)):
            if text:
                rows.append(f"  {label + ':':<9} {text}")
        return "\n".join(rows)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.as_dict())

    def as_dict(self) -> dict[str, str]:
        """Return the four parts, for events, status files and `--json`."""
        return {"what": self.what, "found": self.found, "expected": self.expected, "fix": self.fix}


def _rebuild(cls: type[AutomodelError], parts: dict[str, str]) -> AutomodelError:
    what = parts.pop("what")
    return cls(what, **parts)


class RequestError(AutomodelError, ValueError):
    """The request was wrong: nothing was written, and asking again the same way cannot help."""

    exit_code = 2


class RecipeError(RequestError):
    """A recipe file, an override or a combination of settings is not valid."""


class DataError(RequestError):
    """A dataset cannot be read, or holds nothing that could be trained on."""


class ModelError(RequestError):
    """A model, tokenizer or weight file cannot be used as asked."""


class RunError(RequestError):
    """A run folder is missing, damaged, or not in a state that allows what was asked."""


class NotBuiltError(RequestError):
    """The recipe asks for a feature that validates but is not built yet."""


class JobFailed(AutomodelError):
    """A job started and then failed; the run folder holds the details."""


class Stopped(AutomodelError):
    """A job ended early because somebody asked it to."""

    exit_code = 3
