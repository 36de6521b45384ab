"""What runs in a process of its own (see `child`): whatever loads weights or talks to the Hub. Only the front door of the library is used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Any

from automodel_widgets.state.child import Send, error_message


def speak(send: Send, sides: Sequence[tuple[str, str, bool]], prompts: Sequence[str], settings: dict[str, Any]) -> None:
    """Let each side answer each prompt; `sides` are name, model folder, and whether the base model behind it is asked.

    Every piece of text is sent as it is made. A side that cannot be asked says why, and the others go on.
    """
    import automodel
    from automodel.errors import AutomodelError

    for side, source, base in sides:
        send({"kind": "loading", "side": side})
        try:
            with automodel.load_generator(source, base=base) as ask:
                for index, prompt in enumerate(prompts):
                    send({"kind": "begin", "side": side, "index": index})
                    facts = ask(prompt, on_text=_piece(send, side, index), **settings).as_dict()
                    told = {name: facts[name] for name in ("text", "tokens", "seconds", "rendered", "finished")}
                    send({"kind": "answer", "side": side, "index": index, **told})
        except AutomodelError as error:
            send({**error_message(error), "kind": "refused", "side": side})


def _piece(send: Send, side: str, index: int) -> Any:
    return lambda text: send({"kind": "piece", "side": side, "index": index, "text": text})


def rows(send: Send, recipe: str, folder: str | None, count: int) -> None:
    """Send the prompts of some rows of a recipe's data as they are trained: of the first validation set, else of the training set."""
    import os

    import automodel
    from automodel.errors import DataError

    if folder and os.path.isdir(folder):
        os.chdir(folder)
    shown = automodel.preview(recipe, n=count)
    if shown.others:
        shown = shown.at(range(count), of=next(iter(shown.others)))
    if shown.report.template == "chat":
        fix = "copy a question from the Data tab"
        what = "The rows are conversations, and a prompt here is one message of a user."
        raise DataError(what, found="rows written by a chat template", expected="rows with a plain prompt", fix=fix)
    prompts = ["".join(text for text, _ in _untrained(row.tokens)) for row in shown.rows]
    send({"kind": "rows", "prompts": [prompt.strip() for prompt in prompts if prompt.strip()]})


def _untrained(tokens: Sequence[tuple[str, bool]]) -> Iterator[tuple[str, bool]]:
    return takewhile(lambda token: not token[1], tokens)


def export(send: Send, source: str, target: str, adapter: bool, prompts: Sequence[str], max_new_tokens: int) -> None:
    """Write the model as a plain folder (an adapter merged into its base model), then let both answer the same prompts."""
    import automodel

    send({"kind": "phase", "text": "Merging the adapter into its base model" if adapter else "Copying the model"})
    written = automodel.merge_adapter(source, target) if adapter else automodel.export(source, target)
    send({"kind": "written", "path": str(written)})
    answers = []
    for name, place in (("trained", source), ("exported", str(written))):
        send({"kind": "phase", "text": f"Asking the {name} model"})
        with automodel.load_generator(place) as ask:
            answers.append([ask(prompt, max_new_tokens=max_new_tokens).text for prompt in prompts])
    for prompt, trained, made in zip(prompts, *answers, strict=True):
        send({"kind": "checked", "prompt": prompt, "trained": trained, "exported": made, "same": trained == made})


def card(send: Send, source: str, options: dict[str, Any]) -> None:
    """Make the text of the model card; nothing is written."""
    import automodel

    made = automodel.model_card(source, write=False, **options)
    send({"kind": "card", "text": made.text, "missing": list(made.missing)})


def account(send: Send) -> None:
    """Say whether a login is stored on this machine; the token itself stays here."""
    from huggingface_hub import get_token

    send({"kind": "account", "stored": bool(get_token())})


def push(send: Send, source: str, repo_id: str, options: dict[str, Any], token: str | None) -> None:
    """Push a model or adapter; the token goes to the library and nowhere else."""
    import automodel

    send({"kind": "phase", "text": "Checking the model and sending it"})
    done = automodel.push_to_hub(source, repo_id, token=token, **options)
    facts = done.as_dict()
    send({"kind": "pushed", **{name: facts[name] for name in ("repo_id", "url", "commit", "private", "files", "notes", "pull_request")}})
