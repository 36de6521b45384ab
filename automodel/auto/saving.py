"""Model folders: written so that transformers 4 and 5 both load them, and verified afterwards by what lies on disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automodel.auto import compat
from automodel.auto.processor import save_processor
from automodel.auto.thin import write_tokenizer_config
from automodel.errors import ModelError
from automodel.weights import TensorInfo, inspect_folder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ADAPTER = "adapter_model.safetensors"


@dataclass(frozen=True, kw_only=True)
class HfFolderReport:
    """What a model folder holds: weight files, tensors by name, total bytes, and everything that is wrong."""

    directory: Path
    kind: str
    files: tuple[str, ...]
    tensors: dict[str, TensorInfo]
    bytes: int
    problems: tuple[ModelError, ...]

    @property
    def ok(self) -> bool:
        """Say whether nothing is wrong."""
        return not self.problems

    @property
    def parameters(self) -> int:
        """Number of elements over all tensors on disk; tied weights are stored once."""
        return sum(info.size for info in self.tensors.values())

    def check(self) -> HfFolderReport:
        """Return this report, or raise the first problem."""
        if self.problems:
            raise self.problems[0]
        return self

    def __str__(self) -> str:
        head = f"{self.directory}: {self.kind}, {len(self.tensors)} tensors, {self.parameters:,} numbers, {self.bytes / 1e6:,.1f} MB"
        return "\n".join([head, *(str(problem) for problem in self.problems)]) if self.problems else f"{head}, verified"


def save_hf(
    model: Any,
    directory: str | Path,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    processor: Any = None,
    state_dict: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> None:
    """Write a model folder that loads in transformers 4.57 and 5, or an adapter folder for a PeftModel.

    Args:
        model: a PreTrainedModel or a PeftModel; not changed.
        directory: made when it is not there. Writing aside and renaming is left to the caller.
        tokenizer: saved beside the model when given.
        processor: of an image-text model; saved beside it, too.
        state_dict: the weights to write in place of the model's own (gathered from ranks, merged, ...), under its own names.
        kwargs: further arguments of transformers' save_pretrained, such as max_shard_size.
    """
    directory = Path(directory)
    weights = dict(state_dict) if state_dict is not None else None
    if hasattr(model, "peft_config") and hasattr(model, "base_model"):
        model.save_pretrained(str(directory), **kwargs, **({} if weights is None else {"state_dict": weights}))
    else:
        compat.save_in_common_form(model, directory, state_dict=weights, **kwargs)
    if processor is not None:
        save_processor(processor, directory)
    if tokenizer is not None:
        tokenizer.save_pretrained(str(directory))
        write_tokenizer_config(tokenizer, directory)


def verify_hf(
    directory: str | Path, expected: Iterable[str] | Mapping[str, Any] | None = None, *, parameters: int | None = None, check: bool = True
) -> HfFolderReport:
    """Look at a saved folder: every header, the index, the names and the config; raise the first problem, or return what was found.

    Args:
        directory: a model folder, or an adapter folder.
        expected: the names that must be on disk, no more and no fewer (after tying and renaming, as the files hold them).
        parameters: the number of elements that must be on disk; it does not change when weights are renamed or stacked.
        check: False returns the report with all problems instead of raising.

    Raises:
        ModelError: something is wrong and `check` is True.
    """
    directory = Path(directory)
    adapter = (directory / "adapter_config.json").is_file() and not (directory / "config.json").is_file()
    weights = inspect_folder(directory, single=ADAPTER, index=ADAPTER + ".index.json") if adapter else inspect_folder(directory)
    problems = list(weights.problems)
    if not weights.files:
        problems.append(
            ModelError(f"{directory} holds no weights", found=_listing(directory), expected="model.safetensors, or an index", fix="save again")
        )
    problems += _config_problems(directory, adapter=adapter)
    problems += _name_problems(directory, set(weights.tensors), expected)
    if parameters is not None and not problems and weights.parameters != parameters:
        problems.append(
            ModelError(
                f"{directory} holds another number of parameters than the model",
                found=f"{weights.parameters:,}",
                expected=f"{parameters:,}",
                fix="save again",
            )
        )
    kind = "adapter" if adapter else "model"
    report = HfFolderReport(
        directory=directory, kind=kind, files=weights.files, tensors=weights.tensors, bytes=weights.bytes, problems=tuple(problems)
    )
    return report.check() if check else report


def _config_problems(directory: Path, *, adapter: bool) -> list[ModelError]:
    if adapter:
        return []
    from automodel.auto.configs import load_config

    try:
        # Saved code of the repository is not run for a check; such a config was built from its own class anyway.
        load_config(directory, trust_remote_code=False)
    except ModelError as problem:
        return [] if "needs code from its own repository" in problem.what else [problem]
    return []


def _name_problems(directory: Path, found: set[str], expected: Iterable[str] | None) -> list[ModelError]:
    if expected is None:
        return []
    wanted = set(expected)
    problems = []
    for names, what in ((sorted(wanted - found), "lacks"), (sorted(found - wanted), "holds, without being asked,")):
        if names:
            text = f"{directory} {what} {names[0]}"
            problems.append(ModelError(text, found=f"{len(names)} such tensors", expected=f"{len(wanted)} tensors in all", fix="save again"))
    return problems


def _listing(directory: Path) -> str:
    return ", ".join(sorted(p.name for p in directory.iterdir())[:8]) if directory.is_dir() else "no such folder"
