"""Local files: nested SQuAD JSON, JSON lists, JSONL, parquet, plain text, and folders of them.

Nothing here imports `datasets`: a local file is read in milliseconds, and training starts sooner.
"""

from __future__ import annotations

import json
import re
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from automodel.data.splits import ALIASES
from automodel.data.tables import ArrowTable, JoinedTable, LineTable, Record, RecordTable, Table, malformed
from automodel.errors import DataError

SUFFIXES = (".json", ".jsonl", ".ndjson", ".parquet", ".txt")
_LAYOUT = "train.jsonl and validation.jsonl (also .json, .parquet, .txt, or parts such as train-00000-of-00002.parquet)"


def is_local(source: str) -> bool:
    """Tell a local path from a hub id: it exists, or is written like a path."""
    path = Path(source).expanduser()
    return path.exists() or path.suffix.lower() in SUFFIXES or path.is_absolute() or source.startswith((".", "~")) or source.count("/") > 1


def read_local(source: str, split: str) -> Table:
    """Read one split of a file or folder; raises DataError for what cannot be read."""
    path = Path(source).expanduser()
    if path.is_dir():
        return JoinedTable([read_file(file) for file in _split_files(path, split)])
    if not path.exists():
        raise _missing(path)
    if ALIASES.get(split, split) != "train":
        raise DataError(
            f"A single file has only the split 'train', and '{split}' was asked for.",
            found=str(path),
            expected="split: train, or a slice of it such as train[90%:]",
            fix=f"write `split: train`, or put the file into a folder as {split}{path.suffix} and give the folder",
        )
    return read_file(path)


def read_file(path: Path) -> Table:
    """Read one data file by its suffix."""
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _read_parquet(path)
    if suffix not in SUFFIXES:
        raise DataError(
            f"The kind of the data file is not known: {path.name}.",
            found=f"suffix {suffix or '(none)'}",
            expected=", ".join(SUFFIXES),
            fix="convert the file, or rename it if it holds one of these",
        )
    try:
        data = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise _unreadable(path, error) from error
    if suffix == ".txt":
        return _read_text(path, data)
    if suffix == ".json":
        return _read_json(path, data)
    return LineTable(str(path), data)


def _read_text(path: Path, data: bytes) -> Table:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _unreadable(path, error) from error
    blocks = re.split(r"\n[ \t]*\n+", text.replace("\r\n", "\n"))
    return RecordTable(str(path), [{"text": block.strip("\n")} for block in blocks if block.strip()], unit="document")


def _read_json(path: Path, data: bytes) -> Table:
    if not data.strip():
        return RecordTable(str(path), [])
    try:
        content = json.loads(data)
    except json.JSONDecodeError as error:
        lines = data.split(b"\n")
        # Many JSONL files are called .json: then the first line is a whole object and the parser stops behind it.
        if error.msg == "Extra data" and _parses(next(line for line in lines if line.strip())):
            return LineTable(str(path), data)
        raise malformed(f"{path}, line {error.lineno}", data, error) from error
    except (ValueError, RecursionError) as error:
        raise malformed(f"{path}, line 1", data, error) from error
    if isinstance(content, dict) and isinstance(content.get("data"), list):
        content = content["data"]
        if any(isinstance(article, dict) and "paragraphs" in article for article in content):
            return RecordTable(str(path), _flatten(path, content), unit="question")
    if isinstance(content, dict) and "question" in content:
        content = [content]
    if not isinstance(content, list):
        raise DataError(
            f"The JSON file holds no rows: {path}.",
            found=f"an object with {', '.join(map(str, list(content)[:8]))}" if isinstance(content, dict) else type(content).__name__,
            expected='a list of objects, one object a line, or nested SQuAD {"data": [{"paragraphs": [...]}]}',
            fix="write the rows as JSONL: one object a line",
        )
    return RecordTable(str(path), content)


def _parses(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _flatten(path: Path, articles: list[Any]) -> list[Record]:
    rows: list[Record] = []
    for number, article in enumerate(articles):
        place = f"data[{number}]"
        try:
            for at, paragraph in enumerate(article["paragraphs"]):
                place = f"data[{number}].paragraphs[{at}]"
                context, questions = paragraph["context"], paragraph["qas"]
                for qa in questions:
                    answers = [] if qa.get("is_impossible") else qa["answers"]
                    rows.append({"context": context, "question": qa["question"], "answers": answers})
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"The nested SQuAD file has an entry that cannot be read ({path}, {place}).",
                found=f"no {error}" if isinstance(error, KeyError) else str(error),
                expected='{"paragraphs": [{"context": ..., "qas": [{"question": ..., "answers": [{"text": ...}]}]}]}',
                fix="correct or delete that entry",
            ) from error
    return rows


def _read_parquet(path: Path) -> Table:
    import pyarrow
    import pyarrow.parquet

    try:
        return ArrowTable(str(path), pyarrow.parquet.read_table(path))
    except (OSError, pyarrow.ArrowException) as error:
        raise _unreadable(path, error) from error


def _split_files(folder: Path, split: str) -> list[Path]:
    files = sorted(file for home in (folder, folder / "data") if home.is_dir() for file in home.iterdir() if file.suffix.lower() in SUFFIXES)
    if not files:
        raise DataError(
            f"The folder holds no data files: {folder}.",
            found=", ".join(sorted(entry.name for entry in folder.iterdir())[:8]) or "an empty folder",
            expected=_LAYOUT,
            fix="give the folder of the files, or the file itself",
        )
    named: dict[str, list[Path]] = {}
    for file in files:
        word = re.split(r"[-_.]", file.name, maxsplit=1)[0].lower()
        named.setdefault(ALIASES.get(word, word), []).append(file)
    wanted = ALIASES.get(split, split)
    if wanted in named:
        return named[wanted]
    if wanted == "train" and not {"validation", "test"} & named.keys():
        return files
    raise DataError(
        f"The folder has no split '{split}': {folder}.",
        found=", ".join(file.name for file in files[:8]),
        expected=_LAYOUT,
        fix=f"name a split that is there, or add {split}.jsonl",
    )


def _missing(path: Path) -> DataError:
    parent = path.parent
    while not parent.exists():
        parent = parent.parent
    near = get_close_matches(path.name, [entry.name for entry in parent.iterdir()], n=3, cutoff=0.5) if parent == path.parent else []
    return DataError(
        f"The data file does not exist: {path}.",
        found=f"near it: {', '.join(near)}" if near else f"the nearest folder that exists is {parent.resolve()}",
        expected="a JSON, JSONL or parquet file, a folder of them, or a hub id such as rajpurkar/squad",
        fix="correct `path_or_dataset`; a relative path starts at the folder you run the command in",
    )


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(
        f"The data file cannot be read: {path}.",
        found=f"{type(error).__name__}: {str(error).splitlines()[0][:200]}",
        expected="a readable, undamaged file; text in UTF-8",
        fix="check its rights (ls -l), and fetch or write it again if it is damaged",
    )
