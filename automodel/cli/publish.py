"""Commands that publish a model: its card, and the push to a Hub.

There is no option for a token: what stands on a command line is kept by the shell. `hf auth login` or the variable HF_TOKEN give it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from automodel.cli.app import app
from automodel.cli.output import put, put_json, say

Source = Annotated[str, typer.Argument(metavar="RUN|FOLDER", help="A run (latest, id, name, path), a checkpoint, or a model folder.")]
Root = Annotated[Path | None, typer.Option("--runs-root", help="Folder of the runs; else $AUTOMODEL_RUNS, else ./runs.")]
Point = Annotated[str | None, typer.Option("--checkpoint", help="best, latest or a name; else the best, else the newest.")]
Base = Annotated[str | None, typer.Option("--base-model", help="Hub id of the base model, where the run knows only a folder.")]
License = Annotated[str | None, typer.Option("--license", help="Licence of the model, such as apache-2.0.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def card(
    source: Source,
    checkpoint: Point = None,
    base_model: Base = None,
    license: License = None,
    show: Annotated[bool, typer.Option("--show", help="Print the card and write nothing.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a card that somebody has edited.")] = False,
    runs_root: Root = None,
    as_json: Json = False,
) -> int:
    """Write the model card of a run or a model folder from what the run recorded."""
    from automodel.hub import model_card

    found = model_card(
        source,
        checkpoint=checkpoint,
        base_model=base_model,
        license=license,
        write=not show,
        overwrite=overwrite,
        runs_root=runs_root,
    )
    if as_json:
        put_json(found.as_dict())
        return 0
    put(found.text.rstrip() if show else str(found.path))
    if found.missing:
        say(f"a person has to add: {', '.join(found.missing)}")
    return 0


@app.command()
def push(
    source: Source,
    repo: Annotated[str, typer.Argument(metavar="REPO", help="Name on the Hub: owner/name, or a name of your own account.")],
    public: Annotated[bool, typer.Option("--public", help="Let everybody see it; else it is private.")] = False,
    update: Annotated[bool, typer.Option("--update", help="Add a commit to a repository that holds a model already.")] = False,
    create_pr: Annotated[bool, typer.Option("--create-pr", help="Open a pull request instead of committing.")] = False,
    revision: Annotated[str | None, typer.Option("--revision", help="Branch; made when it is not there.")] = None,
    message: Annotated[str | None, typer.Option("--message", "-m", help="First line of the commit.")] = None,
    checkpoint: Point = None,
    base_model: Base = None,
    license: License = None,
    no_load: Annotated[bool, typer.Option("--no-load", help="Do not load the model before it is sent.")] = False,
    runs_root: Root = None,
    as_json: Json = False,
) -> int:
    """Check a model or adapter, push it to the Hub with its card, and compare what arrived; the token is that of `hf auth login` or HF_TOKEN."""
    from automodel.hub import push_to_hub

    done = push_to_hub(
        source,
        repo,
        checkpoint=checkpoint,
        private=not public,
        revision=revision,
        commit_message=message,
        create_pr=create_pr,
        update=update,
        base_model=base_model,
        license=license,
        load=not no_load,
        runs_root=runs_root,
    )
    if as_json:
        put_json(done.as_dict())
    else:
        put(str(done))
    return 0
