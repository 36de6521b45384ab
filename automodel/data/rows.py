"""Question rows: from the columns of a source to context, question and answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice

from automodel.data.files import is_local, read_local
from automodel.data.hub import read_hub
from automodel.data.order import permutation
from automodel.data.splits import SplitPart, parse_split
from automodel.data.tables import JoinedTable, Record, Table
from automodel.errors import DataError
from automodel.recipe.schema import DatasetSection

ROLES = ("context", "question", "answer")


@dataclass(frozen=True, slots=True)
class Row:
    """One question with its context (empty where there is none) and its answers; the first answer is the one trained on."""

    context: str
    question: str
    answers: tuple[str, ...]
    where: str


def read_records(section: DatasetSection) -> Iterator[tuple[str, Record]]:
    """Yield place and columns of the rows that a section asks for: shuffled once if wanted, then sliced, then limited."""
    if not section.path_or_dataset:
        raise DataError(
            "The dataset section does not say where the data are.",
            found="path_or_dataset is absent",
            expected="a file, a folder or a hub id",
            fix="add `path_or_dataset: rajpurkar/squad`, or a local file",
        )
    sources = [section.path_or_dataset] if isinstance(section.path_or_dataset, str) else section.path_or_dataset
    return islice(_selected(section, sources), section.limit_dataset_samples)


def _selected(section: DatasetSection, sources: list[str]) -> Iterator[tuple[str, Record]]:
    some = False
    for part in parse_split(section.split):
        table = JoinedTable([_read(section, source, part) for source in sources])
        if not len(table):
            raise DataError(
                f"The data set is empty: {', '.join(sources)} ({part.name}).",
                found="0 rows",
                expected="at least one row",
                fix="give another file or split",
            )
        rows = list(part.rows(len(table)))
        if section.shuffle_seed is not None:
            order = permutation(len(table), section.shuffle_seed)
            rows = [int(order[row]) for row in rows]
        some = some or bool(rows)
        # A limit makes only the first rows parsed, so a large file opens fast.
        yield from table.take(rows)
    if not some:
        raise DataError("The slice of the split holds no rows.", found=f"split: {section.split}", expected="at least one row", fix="widen the slice")


def _read(section: DatasetSection, source: str, part: SplitPart) -> Table:
    if is_local(source):
        return read_local(source, part.name)
    return read_hub(source, part.name, subset=section.subset, revision=section.revision)


def squad_row(where: str, record: Record) -> Row:
    """Read a row in SQuAD form: context, question, answers."""
    answers = record.get("answers", record.get("answer"))
    if answers is None and "answers" not in record and "answer" not in record:
        raise missing_column(where, "answers", record)
    for name in ("context", "question"):
        if not isinstance(record.get(name), str):
            raise missing_column(where, name, record)
    return Row(record["context"], record["question"], _texts(where, answers), where)


def _texts(where: str, answers: object) -> tuple[str, ...]:
    """Return the answer texts of {"text": [...]}, [{"text": ...}], [...] or a plain string; blank ones are left out."""
    if isinstance(answers, Mapping):
        answers = answers.get("text")
    if answers is None:
        return ()
    found: list[str] = []
    for answer in answers if isinstance(answers, list | tuple) else [answers]:
        text = answer.get("text") if isinstance(answer, Mapping) else answer
        if isinstance(text, bool) or not isinstance(text, str | int | float):
            raise DataError(
                f"An answer is not a text ({where}).",
                found=f"{type(text).__name__}: {str(text)[:80]}",
                expected='"answers": {"text": ["..."]}, ["..."] or "..."',
                fix="correct or delete that row",
            )
        found.append(str(text))
    return tuple(text for text in found if text.strip())


def column_reader(mapping: Mapping[str, str] | None, *, more: tuple[str, ...] = ()) -> Callable[[str, Record], Row]:
    """Return a reader of rows whose columns are named by `column_mapping`; raises DataError for a wrong mapping.

    `more` are roles that hold no text and that somebody else reads.
    """
    mapping = dict(mapping or {})
    unknown = sorted(set(mapping) - {*ROLES, *more})
    if unknown or "answer" not in mapping or len(mapping) < 2:
        raise DataError(
            "The column_mapping is not complete." if not unknown else f"The column_mapping has an unknown key: {', '.join(unknown)}.",
            found=str(mapping) if mapping else "no column_mapping",
            expected=f"the key answer, and at least one of {' and '.join([*ROLES[:2], *more])}; each with the name of a column",
            fix="for instance `column_mapping: {question: instruction, answer: output}`"
            + ("; images are read by recipe: FinetuneRecipeForVLM" if "image" in unknown else ""),
        )
    mapping = {role: column for role, column in mapping.items() if role not in more}

    def read(where: str, record: Record) -> Row:
        for column in mapping.values():
            if column not in record:
                raise missing_column(where, column, record, role=next(role for role, name in mapping.items() if name == column))
        texts = {role: _plain(where, column, record[column]) for role, column in mapping.items() if role != "answer"}
        return Row(texts.get("context", ""), texts.get("question", ""), _texts(where, record[mapping["answer"]]), where)

    return read


def _plain(where: str, column: str, value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool | list | dict):
        raise DataError(
            f"A column holds no text ({where}).",
            found=f"{column}: {type(value).__name__}",
            expected="a text or a number",
            fix="choose another column in `column_mapping`, or write it as text",
        )
    return str(value)


def missing_column(where: str, name: str, record: Record, *, role: str | None = None) -> DataError:
    """Return the error for a row without a needed column; names the columns found and the nearest one.

    `role` is what a `column_mapping` gives the column for.
    """
    columns = [str(column) for column in record]
    near = get_close_matches(name, columns, n=1, cutoff=0.4)
    pair = f"{role or ('answer' if name == 'answers' else name)}: {near[0] if near else 'YOUR_COLUMN'}"
    fix = f"rename the column, or use `name: column_mapped` with `column_mapping: {{{pair}, ...}}`"
    return DataError(
        f"A row has no text in the column '{name}' ({where})." if name in record else f"A row has no column '{name}' ({where}).",
        found=f"columns {', '.join(columns) or '(none)'}" + (f"; nearest: {near[0]}" if near else ""),
        expected=f"a column '{name}'",
        fix=f"write `{pair}` in column_mapping, or correct the row" if role else fix,
    )
