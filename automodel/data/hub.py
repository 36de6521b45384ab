"""Data sets of the Hugging Face hub, through the `datasets` library, with errors that say what to do.

HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE work as everywhere: the hub libraries read them.
"""

from __future__ import annotations

from automodel.data.tables import ArrowTable, Table
from automodel.errors import DataError

# Short names from before the hub had owners; servers other than huggingface.co do not redirect them.
_OWNERS = {"squad": "rajpurkar/squad", "squad_v2": "rajpurkar/squad_v2"}

# Words in the libraries' errors (they have few error classes), and what we say: what, expected, fix.
_KNOWN = (
    (("unknown split",), "The data set '{name}' has no split '{split}'.", "one of the splits named above", "correct `split`"),
    (
        ("config name is missing", "builderconfig"),
        "The data set '{name}' has several subsets, and `subset` ({subset}) is not one of them.",
        "one of the subsets named above",
        "set `subset` in the dataset section",
    ),
    (
        ("offline",),
        "The data set '{name}' is not in the local cache, and the hub is switched off.",
        "a cached data set, a local file, or a reachable hub",
        "unset HF_HUB_OFFLINE, or give a local file: path_or_dataset: my.jsonl",
    ),
    (
        ("connecterror", "couldn't reach", "connection", "timed out", "timeout", "max retries"),
        "The hub cannot be reached for the data set '{name}'.",
        "a network, or a data set that is local or cached",
        "check the network, HF_ENDPOINT and the proxy, or give a local file: path_or_dataset: my.jsonl",
    ),
)


def read_hub(name: str, split: str, *, subset: str | None, revision: str | None) -> Table:
    """Read one split of a hub data set; raises DataError for a missing, gated or unreachable one, and for an unknown split."""
    import datasets
    from datasets.exceptions import DatasetNotFoundError, DatasetsError

    try:
        try:
            table = _load(datasets, name, split, subset, revision)
        except DatasetNotFoundError:
            if name not in _OWNERS:
                raise
            table = _load(datasets, _OWNERS[name], split, subset, revision)
    except (OSError, ValueError, RuntimeError, ImportError, DatasetsError) as error:
        raise _explain(name, split, subset, error) from error
    return ArrowTable(f"{name} ({split})", table)


def _load(datasets: object, name: str, split: str, subset: str | None, revision: str | None) -> object:
    return datasets.load_dataset(name, name=subset, split=split, revision=revision).with_format("arrow")[:]  # type: ignore[attr-defined]  # module passed lazily


def _chain(error: BaseException | None) -> str:
    """Return class names and messages of an error and of its causes: the reason is often one level down."""
    words = []
    while error is not None:
        words.append(f"{type(error).__name__}: {error}")
        error = error.__cause__ or error.__context__
    return " | ".join(words)


def _page(name: str) -> str:
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/datasets/{name}"


def _explain(name: str, split: str, subset: str | None, error: Exception) -> DataError:
    reason = _chain(error)
    low = reason.lower()
    found = f"{type(error).__name__}: {str(error).splitlines()[0][:240] if str(error) else ''}"
    if "gatedrepoerror" in low or "is a gated dataset" in low or "403" in low:
        return DataError(
            f"The hub does not give out the data set '{name}' without permission (gated).",
            found=found,
            expected="a token whose owner has accepted the terms of the data set",
            fix=f"open {_page(name)}, accept the terms, then run `hf auth login` (or set HF_TOKEN)",
        )
    # The hub answers alike for a repository that does not exist and for a private one.
    if "datasetnotfounderror" in low or "datafilesnotfounderror" in low:
        return DataError(
            f"There is no data set '{name}' on the hub that this account may read, and no local file or folder of that name.",
            found=found,
            expected="a hub id such as rajpurkar/squad, or a path",
            fix="check the spelling (owner/name), run `hf auth login` if it is private; for a file give its path, such as ./data/train.jsonl",
        )
    for words, what, expected, fix in _KNOWN:
        if any(word in low for word in words):
            return DataError(what.format(name=name, split=split, subset=subset), found=found, expected=expected, fix=fix)
    return DataError(
        f"The hub data set '{name}' cannot be loaded.",
        found=found,
        expected="a data set that `datasets.load_dataset` can read",
        fix="download its files and give them as path_or_dataset",
    )
