"""The model panel's view-model: verdict, matrix, differences, treemap, what lies in the cache."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from automodel.auto import inspect
from automodel_widgets.state import model as m


@pytest.fixture(scope="module")
def demo() -> dict[str, Any]:
    return inspect(m.DEMO_MODEL).as_dict()


def test_the_demo_model(demo: dict[str, Any]) -> None:
    kind, word, said = m.verdict(demo)
    assert (kind, word) == ("good", "works")
    assert said.startswith("a decoder")
    assert "LoRA" in said
    assert m.can_use(demo)
    assert m.numbers(demo)["Layers"] == "4"
    assert m.numbers(demo)["Parameters"] == "1.15 M"
    rows = {name: cells for name, _, cells in m.matrix(demo)}
    assert list(rows) == ["Single", "DDP", "FSDP2", "TP", "PP", "CP", "EP"]
    assert rows["Single"][0] == ("good", "works")
    assert rows["EP"][0] == ("", "no experts")


def test_layers_and_kernels_come_with_the_answer(demo: dict[str, Any]) -> None:
    (kinds,) = m.stacks(demo).values()
    assert [(kind["mixer"], kind["feed"], list(kind["numbers"])) for kind in kinds] == [("attention", "mlp", [0, 1, 2, 3])]
    assert demo["kernels"][0]["op"] == "attention"
    assert demo["kernels"][0]["chosen"] == "sdpa"
    assert demo["config"]["model_type"] == "llama"


def test_layers_of_two_kinds_are_told_apart() -> None:
    config = {
        "model_type": "gemma3_text",
        "architectures": ["Gemma3ForCausalLM"],
        "vocab_size": 64,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 6,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
    }
    found = inspect(config).as_dict()
    kinds = {kind["mixer"]: m.ranges(kind["numbers"]) for kind in found["layers"]}
    assert kinds == {"sliding attention": "0–4", "full attention": "5"}


def test_a_refused_model() -> None:
    found = inspect({"model_type": "nothing-of-the-kind"}).as_dict()
    assert m.verdict(found)[:2] == ("bad", "cannot be used")
    assert not m.can_use(found)


def test_the_cache_is_listed_without_the_network(tmp_path: Path) -> None:
    for name, file in (
        ("models--org--a", "config.json"),
        ("models--b", "config.json"),
        ("models--org--c", "README.md"),
        ("datasets--d", "config.json"),
    ):
        folder = tmp_path / name / "snapshots" / "abc"
        folder.mkdir(parents=True)
        (folder / file).write_text("{}")
    assert m.cached_models(tmp_path) == ["b", "org/a"]
    assert m.cached_models(tmp_path / "nowhere") == []
    assert list(m.known_models(tmp_path)) == [str(m.DEMO_MODEL), "b", "org/a"]


def test_search_marks_names_and_values() -> None:
    made = m.tree({"hidden_size": 128, "text_config": {"head_dim": 32}, "sizes": [1, 2]}, "head")
    assert [(leaf.name, leaf.found) for leaf in made.children] == [("hidden_size", False), ("text_config", True), ("sizes", False)]
    assert m.hits(made, "head") == 1
    assert m.hits(made, "128") == 1
    assert m.hits(made, "") == 0


def test_differences() -> None:
    rows = m.differences({"a": 1, "n": {"x": 1, "y": 2}, "same": True}, {"a": 1.5, "n": {"x": 1, "y": 3}, "same": True, "new": None})
    assert rows == [("a", "1", "1.5"), ("n.y", "2", "3"), ("new", "absent", "null")]


@pytest.mark.parametrize("parts", [{"a": 1}, {"a": 5, "b": 3, "c": 2}, {"a": 1000, "b": 1, "c": 1, "d": 0}])
def test_the_treemap_covers_everything_once(parts: dict[str, int]) -> None:
    boxes = m.treemap(parts)
    whole = sum(parts.values())
    for box in boxes:
        assert box.width * box.height == pytest.approx(1e4 * parts[box.name] / whole)
        assert box.x >= -1e-9
        assert box.x + box.width <= 100.001
        assert box.y >= -1e-9
        assert box.y + box.height <= 100.001
    assert sum(box.width * box.height for box in boxes) == pytest.approx(1e4)
    assert m.treemap({}) == []


def test_small_words() -> None:
    assert m.ranges([0, 1, 2, 5, 7, 8]) == "0–2, 5, 7–8"
    assert m.ranges(list(range(0, 20, 2)), most=2) == "0, 2, …"
    assert [m.short(count) for count in (12, 393216, 1148032, 7_240_000_000)] == ["12", "393 k", "1.15 M", "7.24 B"]
    assert m.plain([1] * 9).endswith("(9 entries)]")
    assert m.plain("x") == '"x"'
    assert m.label_of("/a/b/config.json") == "b"
    assert m.label_of("org/name") == "org/name"
    assert m.label_of(str(m.DEMO_MODEL)) == "The demo model"


def test_targets(tmp_path: Path) -> None:
    assert m.from_address("https://huggingface.co/Qwen/Qwen3-0.6B/tree/main") == "Qwen/Qwen3-0.6B"
    assert m.from_address(" org/name ") == "org/name"
    assert m.target_error("")
    assert m.target_error("/no/such/folder")
    assert m.target_error("two words")
    assert m.target_error(str(tmp_path)) is None
    assert m.target_error("org/name") is None


def test_state_needs_no_torch() -> None:
    import subprocess

    script = "import sys, automodel_widgets.panels.model, automodel_widgets.panels.data; print('torch' in sys.modules, 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}; {script}"], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
