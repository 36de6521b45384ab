"""Files and splits: every layout that is read, and what bad ones say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from automodel.data import build_dataset, check_dataset
from automodel.data.splits import parse_split
from automodel.errors import DataError, NotBuiltError
from tests.data.conftest import ROWS, section

XQUAD = Path(__file__).parents[3] / "shared/data/xquad/xquad.en.json"
NESTED = {
    "version": "v2.0",
    "data": [
        {
            "title": "Harrow",
            "paragraphs": [
                {
                    "context": ROWS[0]["context"],
                    "qas": [
                        {"id": "1", "question": "Who built it?", "answers": [{"text": "Anna Vell", "answer_start": 38}]},
                        {"id": "2", "question": "Who owns it?", "answers": [], "is_impossible": True},
                    ],
                }
            ],
        }
    ],
}


def same(first, second) -> bool:
    return len(first) == len(second) and all(first.input_ids(i).tolist() == second.input_ids(i).tolist() for i in range(len(first)))


@pytest.mark.both_ends
def test_all_layouts_give_the_same_rows(plain, jsonl, tmp_path):
    import pyarrow
    import pyarrow.parquet

    wanted = build_dataset(section(jsonl()), plain)
    (tmp_path / "list.json").write_text(json.dumps(ROWS, indent=1))
    (tmp_path / "data.json").write_text(json.dumps({"data": ROWS}))
    (tmp_path / "bom.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(ROWS).encode())
    jsonl(name="lines.json")
    flat = [{**row, "answers": row["answers"]["text"]} for row in ROWS]
    (tmp_path / "flat.json").write_text(json.dumps(flat))
    (tmp_path / "word.json").write_text(json.dumps([{**row, "answers": row["answers"][0]} for row in flat]))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "rows.parquet")
    for name in ("list.json", "data.json", "bom.json", "lines.json", "flat.json", "word.json", "rows.parquet"):
        assert same(build_dataset(section(tmp_path / name), plain), wanted), name
    mapped = section(tmp_path / "word.json", name="column_mapped", column_mapping={"context": "context", "question": "question", "answer": "answers"})
    assert same(build_dataset(mapped, plain), wanted)


def test_nested_squad_counts_impossible_questions(plain, tmp_path):
    (tmp_path / "squad.json").write_text(json.dumps(NESTED))
    data = build_dataset(section(tmp_path / "squad.json"), plain, keep_text=True)
    assert (data.report.rows_read, data.report.rows_kept, data.report.dropped_no_answer) == (2, 1, 1)
    assert data.example(0)[1] == "Anna Vell"


def test_folders_splits_and_lists(plain, jsonl, tmp_path):
    for folder in ("one", "bare"):
        (tmp_path / folder).mkdir()
    jsonl(ROWS[:2], "one/train.jsonl")
    jsonl(ROWS[2:], "one/dev.jsonl")
    jsonl(ROWS[:1], "bare/a.jsonl")
    jsonl(ROWS[1:], "bare/b.jsonl")
    whole = build_dataset(section(jsonl()), plain)
    assert len(build_dataset(section(tmp_path / "one"), plain)) == 2
    assert len(build_dataset(section(tmp_path / "one", split="validation"), plain)) == 1
    assert same(build_dataset(section(tmp_path / "one", split="train+validation"), plain), whole)
    assert same(build_dataset(section(tmp_path / "bare"), plain), whole)
    several = section(None).model_copy(update={"path_or_dataset": [str(tmp_path / "bare/a.jsonl"), str(tmp_path / "bare/b.jsonl")]})
    assert same(build_dataset(several, plain), whole)
    with pytest.raises(DataError, match="has no split 'test'") as caught:
        build_dataset(section(tmp_path / "one", split="test"), plain)
    assert "dev.jsonl" in caught.value.found


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("train", range(10)),
        ("train[:3]", range(3)),
        ("train[-4:]", range(6, 10)),
        ("train[90%:]", range(9, 10)),
        ("train[:90%]", range(9)),
        ("train[-20%:]", range(8, 10)),
        ("train[2:5]", range(2, 5)),
        ("train[ : 100]", range(10)),
        ("train[:-8]", range(2)),
    ],
)
def test_slices(text, rows):
    assert list(parse_split(text)[0].rows(10)) == list(rows)


@pytest.mark.parametrize("text", ["train[5]", "train[:5", "train[a:]", "", "train[::2]", "train[:200%]", "train[:5][1:]"])
def test_bad_splits_are_refused(text):
    with pytest.raises(DataError, match="split is not written") as caught:
        parse_split(text)
    assert text in caught.value.found


@pytest.mark.parametrize("count", [1, 7, 10, 999])
@pytest.mark.parametrize("cut", [1, 33, 50, 90])
def test_halves_of_a_split_share_and_miss_nothing(count, cut):
    low, high = parse_split(f"a[:{cut}%]")[0], parse_split(f"a[{cut}%:]")[0]
    assert [*low.rows(count), *high.rows(count)] == list(range(count))


def test_slice_limit_and_shuffle(plain, jsonl):
    rows = [{"context": "c", "question": f"q{n}", "answers": [f"a{n}"]} for n in range(20)]
    path = jsonl(rows)

    def answers(**fields):
        data = build_dataset(section(path, **fields), plain, keep_text=True)
        return [data.example(i)[1] for i in range(len(data))]

    assert answers(split="train[5:15]", limit_dataset_samples=3) == ["a5", "a6", "a7"]
    mixed = answers(shuffle_seed=3)
    assert mixed != answers()
    assert sorted(mixed) == sorted(answers())
    assert answers(shuffle_seed=3, split="train[:5]") == mixed[:5]
    assert answers(shuffle_seed=3, limit_dataset_samples=4) == mixed[:4]
    with pytest.raises(DataError, match="slice of the split holds no rows"):
        answers(split="train[20:]")


def test_malformed_rows_name_file_and_line(plain, jsonl, tmp_path):
    path = jsonl([ROWS[0], "", '{"context": "x", "question": ', ROWS[1]])
    with pytest.raises(DataError, match=r"not valid JSON \(.*rows.jsonl, line 3\)") as caught:
        build_dataset(section(path), plain)
    assert '{"context": "x"' in caught.value.found
    (tmp_path / "list.json").write_text('[\n{"a": 1},\n{"a": }\n]')
    with pytest.raises(DataError, match=r"list.json, line 3"):
        build_dataset(section(tmp_path / "list.json"), plain)
    with pytest.raises(DataError, match=r"not a JSON object \(.*rows.jsonl, line 2\)"):
        build_dataset(section(jsonl([ROWS[0], "[1, 2]"])), plain)
    (tmp_path / "bytes.jsonl").write_bytes(b'{"context": "\xff"}\n')
    with pytest.raises(DataError, match=r"bytes.jsonl, line 1"):
        build_dataset(section(tmp_path / "bytes.jsonl"), plain)
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match=r"deep.json, line 1"):
        build_dataset(section(tmp_path / "deep.json"), plain)
    (tmp_path / "nested.json").write_text(json.dumps({"data": [{"paragraphs": [{"qas": []}]}]}))
    with pytest.raises(DataError, match=r"nested.json, data\[0\].paragraphs\[0\]") as caught:
        build_dataset(section(tmp_path / "nested.json"), plain)
    assert "no 'context'" in caught.value.found


@pytest.mark.both_ends
def test_missing_columns_name_what_was_found(plain, jsonl):
    with pytest.raises(DataError, match=r"no column 'answers' \(.*line 1\)") as caught:
        build_dataset(section(jsonl([{"context": "c", "question": "q", "anser": "a"}])), plain)
    assert caught.value.found == "columns context, question, anser; nearest: anser"
    with pytest.raises(DataError, match="no column 'question'"):
        build_dataset(section(jsonl([{"context": "c", "answers": ["a"]}])), plain)
    mapping = {"question": "instruction", "answer": "output"}
    with pytest.raises(DataError, match="no column 'output'") as caught:
        build_dataset(section(jsonl([{"instruction": "i", "outputs": "o"}]), name="column_mapped", column_mapping=mapping), plain)
    assert "nearest: outputs" in caught.value.found
    with pytest.raises(DataError, match="answer is not a text"):
        build_dataset(section(jsonl([{"context": "c", "question": "q", "answers": [{"x": 1}]}])), plain)
    for wrong in (None, {"answer": "a"}, {"question": "q"}, {"question": "q", "answer": "a", "system": "s"}):
        with pytest.raises(DataError, match="column_mapping"):
            build_dataset(section(jsonl(), name="column_mapped", column_mapping=wrong), plain)


def test_missing_unreadable_and_empty_sources(plain, jsonl, tmp_path):
    jsonl(name="train_rows.jsonl")
    with pytest.raises(DataError, match="does not exist") as caught:
        build_dataset(section(tmp_path / "train_row.jsonl"), plain)
    assert "train_rows.jsonl" in caught.value.found
    with pytest.raises(DataError, match="does not exist"):
        build_dataset(section("no/such/folder/data.json"), plain)
    for name, content in (("empty.jsonl", ""), ("blank.json", " \n"), ("list.json", "[]"), ("nested.json", '{"data": []}')):
        (tmp_path / name).write_text(content)
        with pytest.raises(DataError, match="data set is empty"):
            build_dataset(section(tmp_path / name), plain)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match=r"cannot be read: .*bad.parquet"):
        build_dataset(section(tmp_path / "bad.parquet"), plain)
    (tmp_path / "rows.csv").write_text("a,b\n")
    with pytest.raises(DataError, match="kind of the data file is not known"):
        build_dataset(section(tmp_path / "rows.csv"), plain)
    (tmp_path / "void").mkdir()
    with pytest.raises(DataError, match="holds no data files"):
        build_dataset(section(tmp_path / "void"), plain)
    (tmp_path / "object.json").write_text('{"a": 1}')
    with pytest.raises(DataError, match="holds no rows"):
        build_dataset(section(tmp_path / "object.json"), plain)
    with pytest.raises(DataError, match="only the split 'train'"):
        build_dataset(section(jsonl(), split="validation"), plain)
    with pytest.raises(DataError, match="does not say where the data are"):
        build_dataset(section(None), plain)


def test_kinds_of_later_are_refused(plain):
    with pytest.raises(NotBuiltError, match="'hellaswag' are not built yet"):
        build_dataset(section("x", name="hellaswag"), plain)


def test_hub_errors_teach(plain, monkeypatch):
    from datasets.exceptions import DatasetNotFoundError

    from automodel.data import hub

    cases = [
        (DatasetNotFoundError("Dataset 'a/b' is a gated dataset on the Hub."), "without permission"),
        (DatasetNotFoundError("Dataset 'a/b' doesn't exist on the Hub or cannot be accessed."), "There is no data set 'a/b'"),
        (ConnectionError("Couldn't reach 'a/b' on the Hub (OfflineModeIsEnabled)"), "not in the local cache"),
        (ConnectionError("Couldn't reach 'a/b' on the Hub (ConnectTimeout)"), "cannot be reached"),
        (ValueError("Unknown split \"train\". Should be one of ['x']."), "has no split 'train'"),
        (ValueError("Config name is missing.\nPlease pick one among the available configs: ['x', 'y']"), "several subsets"),
        (RuntimeError("Dataset scripts are no longer supported"), "cannot be loaded"),
    ]
    for error, words in cases:

        def fail(*args, error=error):
            raise error

        monkeypatch.setattr(hub, "_load", fail)
        with pytest.raises(DataError, match=words) as caught:
            build_dataset(section("a/b"), plain)
        assert caught.value.fix


def test_hub_rows_are_read_like_local_ones(plain, jsonl, monkeypatch):
    import datasets

    asked = []

    def answer(path, **fields):
        asked.append((path, fields))
        return datasets.Dataset.from_list([*ROWS, ROWS[0]]).select([0, 1, 2])

    monkeypatch.setattr(datasets, "load_dataset", answer)
    assert same(build_dataset(section("a/b", split="train[:2]", subset="s", revision="r"), plain), build_dataset(section(jsonl(ROWS[:2])), plain))
    assert asked == [("a/b", {"name": "s", "split": "train", "revision": "r"})]


def test_short_hub_names_fall_back_to_their_owner(plain, monkeypatch):
    import pyarrow
    from datasets.exceptions import DatasetNotFoundError

    from automodel.data import hub

    def answer(datasets, name, split, subset, revision):
        if name != "rajpurkar/squad":
            raise DatasetNotFoundError(f"Dataset '{name}' doesn't exist")
        return pyarrow.Table.from_pylist(ROWS)

    monkeypatch.setattr(hub, "_load", answer)
    assert len(build_dataset(section("squad", split="train[:2]"), plain)) == 2


def test_check_reads_without_tokenizer(jsonl):
    assert check_dataset(section(jsonl())) == 3
    with pytest.raises(DataError, match="line 2"):
        check_dataset(section(jsonl([ROWS[0], "{"])))
    with pytest.raises(DataError, match="all 1 rows were dropped"):
        check_dataset(section(jsonl([{**ROWS[0], "answers": []}])))


def test_local_files_load_neither_torch_nor_datasets(jsonl):
    code = (
        "import sys; from automodel.data import check_dataset; from automodel.recipe.schema import DatasetSection as D;"
        f"assert check_dataset(D(path_or_dataset={str(jsonl())!r})) == 3;"
        "sys.exit(', '.join(m for m in ('torch', 'datasets', 'transformers', 'pandas') if m in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not XQUAD.exists(), reason="XQuAD is not here")
def test_xquad_is_read_fast(plain):
    import time

    began = time.perf_counter()
    assert check_dataset(section(XQUAD)) == 1190
    reading = time.perf_counter() - began
    data = build_dataset(section(XQUAD, seq_length=512), plain)
    assert data.report.rows_kept == 1190
    assert data.lengths.max() <= 512
    assert reading < 0.5
