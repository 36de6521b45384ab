"""The commands that look: preview, plan, inspect, generate, lab."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from automodel.cli import main
from automodel.cli.looks import _bytes
from automodel.errors import RequestError

RECIPE = """\
recipe: TrainFinetuneRecipeForNextTokenPrediction
model: {pretrained_model_name_or_path: MODEL}
dataset: {path_or_dataset: DATA}
step_scheduler: {global_batch_size: 2, local_batch_size: 1, max_steps: 3}
"""


@pytest.fixture
def recipe(tmp_path: Path, tiny_model_dir: Path) -> str:
    data = tmp_path / "rows.jsonl"
    row = {"context": "The mill has three floors.", "question": "How many floors?", "answers": {"text": ["three"], "answer_start": [13]}}
    data.write_text((json.dumps(row) + "\n") * 4)
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.replace("MODEL", str(tiny_model_dir)).replace("DATA", str(data)))
    return str(path)


def run(capsys: Any, *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(words)
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def test_preview(recipe: str, capsys: Any) -> None:
    code, out, _ = run(capsys, "preview", recipe, "-n", "1", "--dataset.seq_length", "40")
    assert code == 0
    assert "--- row 0" in out
    assert "--- row 1" not in out
    assert "⟦ three</s>⟧" in out
    code, out, _ = run(capsys, "preview", recipe, "--row", "2", "--json")
    assert [row["index"] for row in json.loads(out)["rows"]] == [2]
    assert run(capsys, "preview", recipe, "--set", "nothing")[0] == 2


def test_plan(recipe: str, capsys: Any) -> None:
    code, out, _ = run(capsys, "plan", recipe, "--nproc-per-node", "2", "--device-memory", "1k", "--json", "--peft.dim=4")
    facts = json.loads(out)
    assert (code, facts["steps"], facts["world_size"], facts["fits"], len(facts["lora_modules"])) == (0, 3, 2, False, 14)
    code, out, _ = run(capsys, "plan", recipe)
    assert "an estimate" in out
    for words in (("--peft.target_modules", "nope"), ("--nproc-per-node", "3"), ("--nproc-per-node", "x"), ("--device-memory", "much")):
        code, out, err = run(capsys, "plan", recipe, *words)
        assert (code, out) == (2, "")
        assert "error: " in err


def test_inspect(tiny_model_dir: Path, tmp_path: Path, capsys: Any) -> None:
    code, out, _ = run(capsys, "inspect", str(tiny_model_dir), "--json")
    assert (code, json.loads(out)["parameters"]) == (0, 39_072)
    assert "LlamaForCausalLM" in run(capsys, "inspect", str(tiny_model_dir / "config.json"))[1]
    code, out, err = run(capsys, "inspect", str(tmp_path / "nothing"))
    assert (code, out) == (2, "")
    assert "does not exist" in err


def test_generate_streams_to_stdout(tiny_model_dir: Path, capsys: Any) -> None:
    code, out, err = run(capsys, "generate", str(tiny_model_dir), "--prompt", "Who?", "--max-new-tokens", "4")
    assert code == 0
    assert "4 tokens in" in err
    whole = json.loads(run(capsys, "generate", str(tiny_model_dir), "-p", "Who?", "--max-new-tokens", "4", "--json")[1])
    assert out == whole["text"] + "\n"
    assert run(capsys, "generate", "no-such-run", "-p", "x")[0] == 2


def test_generate_takes_several_prompts(tiny_model_dir: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "prompts.txt").write_text("When?\n\nWhere?\n")
    words = ("generate", str(tiny_model_dir), "-p", "Who?", "--prompts", str(tmp_path / "prompts.txt"), "--max-new-tokens", "2")
    code, out, err = run(capsys, *words)
    assert (code, out.count("\n")) == (0, 3)
    assert [line for line in err.splitlines() if line.startswith(">")] == ["> Who?", "> When?", "> Where?"]
    assert [one["prompt"] for one in json.loads(run(capsys, *words, "--json")[1])] == ["Who?", "When?", "Where?"]
    code, _, err = run(capsys, "generate", str(tiny_model_dir))
    assert code == 2
    assert "--prompts FILE" in err


def test_lab_starts_jupyter_or_says_what_to_install(monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path) -> None:
    import importlib.util
    import os

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    code, _, err = run(capsys, "lab")
    assert code == 2
    assert "pip install 'automodel-workbench[notebook]'" in err
    started: list[list[str]] = []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(os, "execv", lambda path, words: started.append(words))
    monkeypatch.chdir(tmp_path)
    assert run(capsys, "lab", "--no-browser", "--port", "9999")[0] == 0
    opened = ["notebooks/workbench.ipynb", f"--ServerApp.root_dir={tmp_path}"]
    assert started == [[sys.executable, "-m", "jupyter", "lab", *opened, "--no-browser", "--port", "9999"]]
    assert (tmp_path / "notebooks" / "01_start_here.ipynb").is_file()


def test_lab_writes_over_no_notebook_and_opens_what_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from automodel.cli import lessons

    (tmp_path / "notebooks").mkdir()
    own = tmp_path / "notebooks" / "01_start_here.ipynb"
    own.write_text("mine")
    assert lessons.lab_words(["--no-browser"], tmp_path)[0] == "notebooks/workbench.ipynb"
    assert own.read_text() == "mine"
    assert lessons.lab_words(["mine.ipynb"], tmp_path) == ["mine.ipynb"]
    assert lessons.lab_words(["--ServerApp.root_dir=/x"], tmp_path) == ["notebooks/workbench.ipynb", "--ServerApp.root_dir=/x"]
    monkeypatch.setattr(lessons, "lessons_folder", lambda: None)
    assert lessons.lab_words(["--no-browser"], tmp_path) == ["--no-browser"]


@pytest.mark.parametrize(("text", "size"), [("24G", 24 * 10**9), ("1.5 gb", 15 * 10**8), ("500M", 5 * 10**8), ("12", 12), ("1GiB", 2**30)])
def test_sizes(text: str, size: int) -> None:
    assert _bytes(text) == size


def test_a_size_that_is_none_is_refused() -> None:
    with pytest.raises(RequestError, match="cannot be read"):
        _bytes("much")
