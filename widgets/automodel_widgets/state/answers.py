"""What runs in the helper process: questions to the library, answered as plain data."""

from __future__ import annotations

from typing import Any

QUESTIONS = ("inspect", "plan", "preview", "tokenizer", "environment")


def answer(question: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Answer one question; what comes back holds only dicts, lists, text and numbers."""
    import automodel

    if question == "environment":
        from automodel.run import environment

        return environment()
    if question in ("preview", "tokenizer"):
        from automodel_widgets.state import looks

        return getattr(looks, question)(*args, **kwargs)
    if question not in QUESTIONS:
        raise ValueError(f"no question {question!r}; there are {', '.join(QUESTIONS)}")
    found = getattr(automodel, question)(*args, **kwargs)
    return found.as_dict() if hasattr(found, "as_dict") else found.to_dict()
