"""The tokenizer gives the ids of tokenizer.json, fills short rows with a known token, and survives copies and saves."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from automodel.auto import NeMoAutoTokenizer
from automodel.errors import ModelError

pytestmark = pytest.mark.both_ends
TEXT = "Who built the bridge in 1821? It's   made\n\nof stone. 12345"


def literal(folder: Path, text: str = TEXT) -> list[int]:
    ids: list[int] = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids
    return ids


@pytest.mark.parametrize("kind", ["qwen2", "llama", "gpt_neox", "gemma", "gpt2", None])
def test_ids_are_those_of_the_file(tiny_tokenizer_dir: Path, tmp_path: Path, kind: str | None) -> None:
    folder = Path(shutil.copytree(tiny_tokenizer_dir, tmp_path / "t"))
    if kind:
        (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    tokenizer = NeMoAutoTokenizer.from_pretrained(folder)
    assert tokenizer(TEXT)["input_ids"] == literal(folder)
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == ("<s>", "</s>", "<pad>")
    assert set(tokenizer("a")) == {"input_ids", "attention_mask"}


def test_class_that_splits_otherwise_is_not_used(tiny_tokenizer_dir: Path, tmp_path: Path) -> None:
    """GPTNeoX builds its own pre-tokenizer in both releases."""
    folder = Path(shutil.copytree(tiny_tokenizer_dir, tmp_path / "t"))
    data = json.loads((folder / "tokenizer.json").read_text())
    data["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, data["pre_tokenizer"]]}
    data["normalizer"] = {"type": "Lowercase"}
    (folder / "tokenizer.json").write_text(json.dumps(data))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "tokenizer_class": "GPTNeoXTokenizer"}))
    tokenizer = NeMoAutoTokenizer.from_pretrained(folder)
    assert tokenizer(TEXT, add_special_tokens=False)["input_ids"] == literal(folder)


def test_missing_pad_token_is_filled_and_said(tiny_tokenizer_dir: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_tokenizer_dir, tmp_path / "t"))
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (folder / name).exists():
            data = json.loads((folder / name).read_text())
            data.pop("pad_token", None)
            (folder / name).write_text(json.dumps(data))
    tokenizer = NeMoAutoTokenizer.from_pretrained(folder)
    assert tokenizer.pad_token == "</s>"
    assert any("EOS" in event for event in tokenizer.resolution.events)
    assert tokenizer(["a", "a b c"], padding=True)["input_ids"][0][-1] == tokenizer.eos_token_id


@pytest.mark.parametrize("bos", [None, True, False])
@pytest.mark.parametrize("eos", [None, True, False])
def test_bos_and_eos_survive_saving(tiny_tokenizer_dir: Path, tmp_path: Path, bos: bool | None, eos: bool | None) -> None:
    tokenizer = NeMoAutoTokenizer.from_pretrained(tiny_tokenizer_dir, add_bos_token=bos, add_eos_token=eos)
    expected = [1] * bool(bos) + literal(tiny_tokenizer_dir) + [2] * bool(eos)
    tokenizer.save_pretrained(tmp_path)
    again = NeMoAutoTokenizer.from_pretrained(tmp_path)
    for each in (tokenizer, again, pickle.loads(pickle.dumps(tokenizer)), copy.deepcopy(tokenizer)):
        assert each(TEXT)["input_ids"] == expected
        assert each(TEXT, add_special_tokens=False)["input_ids"] == literal(tiny_tokenizer_dir)
    removed = NeMoAutoTokenizer.from_pretrained(tmp_path, add_bos_token=False, add_eos_token=False)
    assert removed(TEXT)["input_ids"] == literal(tiny_tokenizer_dir)


def test_copies_keep_their_record(tiny_tokenizer_dir: Path, tmp_path: Path) -> None:
    tokenizer = NeMoAutoTokenizer.from_pretrained(tiny_tokenizer_dir)
    again = pickle.loads(pickle.dumps(tokenizer))
    assert type(again) is type(tokenizer)
    assert again.resolution.reasons == tokenizer.resolution.reasons
    again.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["tokenizer_class"] == "PreTrainedTokenizerFast"


def test_registered_tokenizers(tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NeMoAutoTokenizer, "_registered", {})
    NeMoAutoTokenizer.register("llama", lambda place, **kwargs: (place, kwargs))
    assert NeMoAutoTokenizer.from_pretrained(tiny_model_dir, revision="main") == (str(tiny_model_dir), {"revision": "main"})
    assert NeMoAutoTokenizer.from_pretrained(tiny_model_dir, force_default=True).eos_token == "</s>"
    assert not hasattr(NeMoAutoTokenizer.from_pretrained(tiny_model_dir, force_hf=True), "resolution")
    NeMoAutoTokenizer.register("llama", "no_such:Thing")
    with pytest.raises(ModelError, match="registered for llama"):
        NeMoAutoTokenizer.from_pretrained(tiny_model_dir)
    with pytest.raises(TypeError):
        NeMoAutoTokenizer()
