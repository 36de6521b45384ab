"""Families without a tokenizer class in transformers: ids are those of SentencePiece and tiktoken, tokens and prefixes those of the family."""

from __future__ import annotations

import base64
import copy
import json
import pickle
import random
import struct
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from automodel.auto import NeMoAutoTokenizer
from automodel.auto.tokenizers import FAMILIES, VOCABULARIES
from automodel.auto.tokenizers.bytelevel import byte_letters, from_pairs, from_ranks, read_ranks
from automodel.auto.tokenizers.proto import Kind, Piece, read_sentencepiece
from automodel.auto.tokenizers.spm import from_sentencepiece
from automodel.errors import ModelError

pytestmark = pytest.mark.both_ends
TEXT = "Who built the bridge in 1821?"
CHAT = [{"role": "user", "content": "Who built it?"}, {"role": "assistant", "content": "Anna Vell."}, {"role": "user", "content": "When?"}]
CASES = ("bpe", "no_bytes", "spaces_removed", "charsmap", "own_symbols", "no_prefix", "unigram")


@cache
def goldens() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(__file__).with_name("tokenizer_goldens.json").read_text(encoding="utf-8"))
    return found


def vocabulary(name: str) -> bytes:
    return base64.b64decode(goldens()[name]["file"])


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def piece_bytes(text: str, score: float, kind: Kind) -> bytes:
    body = b"\x0a" + varint(len(text.encode())) + text.encode() + b"\x15" + struct.pack("<f", score) + b"\x18" + varint(kind)
    return b"\x0a" + varint(len(body)) + body


def grown(size: int, named: dict[int, str], *, kind: Kind = Kind.normal) -> bytes:
    """Return the tiny SentencePiece file with more entries: `named` by id, unused ones between them; a file is a list, so bytes are appended."""
    data = vocabulary("bpe")
    start = len(read_sentencepiece(data).pieces)
    rows = (piece_bytes(named[i], 0.0, kind) if i in named else piece_bytes(f"[UNUSED_{i}]", 0.0, Kind.unused) for i in range(start, size))
    return data + b"".join(rows)


def folder_of(
    place: Path, kind: str | None, data: bytes, *, name: str = "tokenizer.model", config: Any = None, files: Iterable[tuple[str, Any]] = ()
) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    (place / name).write_bytes(data)
    if kind is not None:
        (place / "config.json").write_text(json.dumps({"model_type": kind, **dict(files).pop("config", {})}))
    if config is not None:
        (place / "tokenizer_config.json").write_text(json.dumps(config))
    for file, content in files:
        if file != "config":
            (place / file).write_text(content if isinstance(content, str) else json.dumps(content))
    return place


def plain(text: str) -> list[int]:
    """Ids of the tiny SentencePiece file, without anything before or after."""
    core = from_sentencepiece(read_sentencepiece(vocabulary("bpe")), renamed={})
    ids: list[int] = core.encode(text, add_special_tokens=False).ids
    return ids


@pytest.mark.parametrize("case", CASES)
def test_ids_and_texts_are_those_of_the_sentencepiece_library(case: str) -> None:
    core = from_sentencepiece(read_sentencepiece(vocabulary(case)), renamed={})
    for text, ids, back in goldens()[case]["rows"]:
        if case == "unigram" and "<0x0A>" in text:
            continue  # the fast library takes the name of a byte entry for the entry itself in this kind of model
        assert core.encode(text).ids == ids, text
        # The library shows its unknown token as " ⁇ ".
        assert core.decode(ids, skip_special_tokens=False).replace("<unk>", " ⁇ ") == back, text


def test_ids_and_texts_are_those_of_tiktoken() -> None:
    core = from_ranks(read_ranks(vocabulary("ranks")), special={})
    for text, ids, back in goldens()["ranks"]["rows"]:
        assert core.encode(text).ids == ids, text
        assert core.decode(ids) == back


@pytest.mark.parametrize("case", ["bpe", "own_symbols", "unigram"])
def test_ids_of_random_texts_are_those_of_the_installed_library(case: str) -> None:
    library = pytest.importorskip("sentencepiece").SentencePieceProcessor(model_proto=vocabulary(case))
    core = from_sentencepiece(read_sentencepiece(vocabulary(case)), renamed={})
    dice = random.Random(0)
    letters = [*"abdehinorstuvl TB.\n", "  ", "SYM", "<|user|>", "橋", "石", "😀", "й", "é", "▁"]
    for _ in range(300):
        text = "".join(dice.choices(letters, k=dice.randint(0, 40)))
        assert core.encode(text).ids == library.encode(text), text


def test_the_letters_of_bytes_are_those_of_the_fast_library() -> None:
    from tokenizers.pre_tokenizers import ByteLevel

    assert sorted(byte_letters()) == sorted(ByteLevel.alphabet())
    assert (byte_letters()[ord("a")], byte_letters()[ord(" ")], byte_letters()[ord("\n")]) == ("a", "Ġ", "Ċ")


# model_type -> (token before a text, where rows are filled, pad token)
SENTENCEPIECE = {
    "baichuan": ([], "right", "<unk>"),
    "internlm": (["<s>"], "right", "</s>"),
    "internlm2": (["<s>"], "left", "</s>"),
    "internlm3": (["<s>"], "right", "</s>"),
    "orion": ([], "right", "<unk>"),
    "minicpm": (["<s>"], "right", "</s>"),
    "minicpm3": (["<s>"], "right", "</s>"),
    "solar": (["<s>"], "right", "</s>"),
    "chatglm": (["[gMASK]", "sop"], "left", "<unk>"),
}


@pytest.mark.parametrize("kind", SENTENCEPIECE)
def test_a_sentencepiece_family_from_its_files(kind: str, tmp_path: Path) -> None:
    before, side, pad = SENTENCEPIECE[kind]
    code = {"auto_map": {"AutoTokenizer": ["tokenization_x.XTokenizer", None]}, "tokenizer_class": "XTokenizer"}
    folder = folder_of(tmp_path / "m", kind, vocabulary("bpe"), config=code)
    tokenizer = NeMoAutoTokenizer.from_pretrained(folder)
    ids = tokenizer(TEXT)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids[: len(before)]) == before
    assert ids[len(before) :] == plain(TEXT)
    assert (tokenizer.padding_side, tokenizer.pad_token, tokenizer.eos_token, tokenizer.eos_token_id) == (side, pad, "</s>", 2)
    assert set(tokenizer("a")) == {"input_ids", "attention_mask"}
    assert tokenizer.decode(ids, skip_special_tokens=True) == TEXT
    assert tokenizer.resolution.implementation == "native"
    assert any("not verified against the real file" in reason for reason in tokenizer.resolution.reasons)
    rows = tokenizer(["a", TEXT], padding=True)["input_ids"]
    assert rows[0][0 if side == "left" else -1] == tokenizer.pad_token_id
    tokenizer.save_pretrained(tmp_path / "saved")
    from transformers import PreTrainedTokenizerFast

    again = [NeMoAutoTokenizer.from_pretrained(tmp_path / "saved"), PreTrainedTokenizerFast.from_pretrained(tmp_path / "saved")]
    for each in (*again, copy.deepcopy(tokenizer), pickle.loads(pickle.dumps(tokenizer))):
        assert each(TEXT)["input_ids"] == ids
        assert (each.padding_side, each.pad_token) == (side, pad)
        assert each.chat_template == tokenizer.chat_template


def test_every_family_has_a_test() -> None:
    tested = {*SENTENCEPIECE, "phi3small", "aquila", "exaone", "jais", "stablelm_alpha", "mistral"}
    assert {family.model_type for family in FAMILIES} == tested
    assert {family.backend for family in FAMILIES} == {"sentencepiece", "ranks", "pairs"}


def test_chatglm3_chats_as_its_own_code_does(tmp_path: Path) -> None:
    """That code joins the role's token, the ids of the line break, and the ids of the message."""
    tokenizer = NeMoAutoTokenizer.from_pretrained(folder_of(tmp_path / "glm3", "chatglm", vocabulary("bpe")))
    start = len(read_sentencepiece(vocabulary("bpe")).pieces)
    names = ["[MASK]", "[gMASK]", "[sMASK]", "sop", "eop", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"]
    assert tokenizer.convert_tokens_to_ids(names) == list(range(start, start + len(names)))
    expected = [start + 1, start + 3]
    for message in CHAT:
        expected += [start + names.index(f"<|{message['role']}|>"), *plain("\n"), *plain(message["content"])]
    expected.append(start + names.index("<|assistant|>"))
    text = tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True)
    assert tokenizer(text, add_special_tokens=False)["input_ids"] == expected
    assert tokenizer("sophisticated shop sopeop", add_special_tokens=False)["input_ids"] == plain("sophisticated shop sopeop")
    pair = tokenizer("a", "b")["input_ids"]
    assert pair == [start + 1, start + 3, *plain("a"), *plain("b"), 2]


def test_chatglm2_counts_rounds_and_has_no_roles(tmp_path: Path) -> None:
    name = [("config", {"_name_or_path": "THUDM/chatglm2-6b"})]
    tokenizer = NeMoAutoTokenizer.from_pretrained(folder_of(tmp_path / "m", "chatglm", vocabulary("bpe"), files=name))
    text = tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True)
    assert text == "[gMASK]sop[Round 1]\n\n问：Who built it?\n\n答：Anna Vell.\n\n[Round 2]\n\n问：When?\n\n答："
    assert len(tokenizer) == len(read_sentencepiece(vocabulary("bpe")).pieces) + 5


def test_baichuan_roles_are_the_entries_195_and_196(tmp_path: Path) -> None:
    pieces = read_sentencepiece(vocabulary("bpe")).pieces
    blank = [Piece(f"<reserved_{i}>", 0.0, Kind.user_defined) for i in range(200)]
    order = [*pieces[:3], *blank, *pieces[3:]]
    settings = vocabulary("bpe")[_settings_at(vocabulary("bpe")) :]
    data = b"".join(piece_bytes(piece.text, piece.score, piece.kind) for piece in order) + settings
    tokenizer = NeMoAutoTokenizer.from_pretrained(folder_of(tmp_path / "m", "baichuan", data))
    text = tokenizer.apply_chat_template([{"role": "system", "content": "Be brief."}, *CHAT], tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    shifted = [index + 200 if index > 2 else index for index in plain("Be brief.")]
    assert ids[: len(shifted)] == shifted
    assert [index for index in ids if index in (195, 196)] == [195, 196, 195, 196]
    assert ids[-1] == 196


def _settings_at(data: bytes) -> int:
    at = 0
    while data[at] == 0x0A:
        at += 2 + data[at + 1]  # a piece of this tiny file is shorter than 128 bytes
    return at


def test_internlm2_gives_the_unused_entries_their_names(tmp_path: Path) -> None:
    named = {92538 + i: f"[UNUSED_TOKEN_{141 + i}]" for i in range(6)}
    tokenizer = NeMoAutoTokenizer.from_pretrained(folder_of(tmp_path / "m", "internlm2", grown(92544, named)))
    names = ["<|plugin|>", "<|interpreter|>", "<|action_end|>", "<|action_start|>", "<|im_end|>", "<|im_start|>"]
    assert tokenizer.convert_tokens_to_ids(names) == list(range(92538, 92544))
    assert len(tokenizer) == 92544
    text = tokenizer.apply_chat_template(CHAT[:1], tokenize=False, add_generation_prompt=True)
    assert text == "<s><|im_start|>user\nWho built it?<|im_end|>\n<|im_start|>assistant\n"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert ids == [1, 92543, *plain("user\nWho built it?"), 92542, *plain("\n"), 92543, *plain("assistant\n")]


def test_what_the_folder_says_goes_before_the_family(tmp_path: Path) -> None:
    own = {
        "add_bos_token": False,
        "add_eos_token": True,
        "padding_side": "left",
        "pad_token": {"content": "<unk>", "lstrip": False},
        "chat_template": "{{ messages[0]['content'] }}",
        "model_max_length": 77,
        "added_tokens_decoder": {"5": {"content": "<|five|>", "special": True}, "6": {"content": "<|six|>", "special": False}},
    }
    folder = folder_of(tmp_path / "m", "internlm", vocabulary("bpe"), config=own)
    tokenizer = NeMoAutoTokenizer.from_pretrained(folder)
    assert tokenizer("<|five|><|six|>")["input_ids"] == [5, 6, 2]
    assert (tokenizer.padding_side, tokenizer.pad_token, tokenizer.model_max_length) == ("left", "<unk>", 77)
    assert tokenizer.chat_template == own["chat_template"]
    assert tokenizer.decode([5, 6], skip_special_tokens=True).strip() == "<|six|>"
    given = NeMoAutoTokenizer.from_pretrained(folder, padding_side="right", pad_token="</s>", add_bos_token=True, add_eos_token=False)
    assert given("<|five|>")["input_ids"] == [1, 5]
    assert (given.padding_side, given.pad_token) == ("right", "</s>")
    (folder / "chat_template.jinja").write_text("other")
    assert NeMoAutoTokenizer.from_pretrained(folder).chat_template == "other"


@pytest.mark.parametrize(("legacy", "expected"), [(None, ["▁", "a", "</s>", "▁", "b"]), (False, ["▁", "a", "</s>", "b"])])
def test_a_space_after_a_special_token(tmp_path: Path, legacy: bool | None, expected: list[str]) -> None:
    config = {"add_bos_token": False, **({} if legacy is None else {"legacy": legacy})}
    tokenizer = NeMoAutoTokenizer.from_pretrained(folder_of(tmp_path / "m", "minicpm", vocabulary("no_bytes"), config=config))
    found = tokenizer.convert_ids_to_tokens(tokenizer("a</s>b")["input_ids"])
    assert "|".join(found).replace("▁|", "▁") == "|".join(expected).replace("▁|", "▁")


def test_no_chat_template_where_its_tokens_are_missing(tmp_path: Path) -> None:
    tokenizer = NeMoAutoTokenizer.from_pretrained(folder_of(tmp_path / "m", "solar", vocabulary("bpe")))
    assert tokenizer.chat_template is None
    assert any("lacks <|im_start|>, <|im_end|>" in event for event in tokenizer.resolution.events)


def test_the_class_name_tells_the_family_where_there_is_no_config(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "m", None, vocabulary("bpe"), config={"tokenizer_class": "ChatGLMTokenizer"})
    assert NeMoAutoTokenizer.from_pretrained(folder)("a")["input_ids"][2:] == plain("a")


def test_tokenizer_json_is_used_literally(tiny_tokenizer_dir: Path, tmp_path: Path) -> None:
    text = (tiny_tokenizer_dir / "tokenizer.json").read_text()
    files = [("tokenizer.json", text)]
    folder = folder_of(tmp_path / "m", "internlm2", vocabulary("bpe"), config={"eos_token": "</s>"}, files=files)
    from tokenizers import Tokenizer

    tokenizer = NeMoAutoTokenizer.from_pretrained(folder)
    assert tokenizer(TEXT)["input_ids"] == Tokenizer.from_str(text).encode(TEXT).ids
    assert tokenizer.resolution.implementation == "hf"


def test_gritlm_is_a_mistral_of_that_name(tmp_path: Path) -> None:
    files = [("config", {"auto_map": {"AutoModelForCausalLM": "GritLM/GritLM-7B--modeling_gritlm7b.MistralForCausalLM"}})]
    tokenizer = NeMoAutoTokenizer.from_pretrained(folder_of(tmp_path / "m", "mistral", vocabulary("bpe"), files=files))
    text = tokenizer.apply_chat_template(CHAT[:1], tokenize=False, add_generation_prompt=True)
    assert text == "<s><|user|>\nWho built it?\n<|assistant|>\n"


def rank_file(size: int) -> bytes:
    """Return the tiny tiktoken file with entries up to `size`, which no text has."""
    known = vocabulary("ranks")
    more = ((base64.b64encode(b"\0entry %d\0" % index), index) for index in range(known.count(b"\n"), size))
    return known + b"".join(b"%s %d\n" % row for row in more)


def rank_ids(text: str) -> list[int]:
    ids: list[int] = from_ranks(read_ranks(vocabulary("ranks")), special={}).encode(text).ids
    return ids


def test_glm4_has_a_tiktoken_file_of_the_same_name(tmp_path: Path) -> None:
    tokenizer = NeMoAutoTokenizer.from_pretrained(folder_of(tmp_path / "m", "chatglm", vocabulary("ranks")))
    start = len(read_ranks(vocabulary("ranks")))
    assert tokenizer.convert_tokens_to_ids(["<|endoftext|>", "[gMASK]", "<sop>", "<|user|>"]) == [start, start + 2, start + 4, start + 7]
    assert tokenizer(TEXT)["input_ids"] == [start + 2, start + 4, *rank_ids(TEXT)]
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.padding_side) == ("<|endoftext|>", "<|endoftext|>", "left")
    text = tokenizer.apply_chat_template(CHAT[:1], tokenize=False, add_generation_prompt=True)
    expected = [start + 2, start + 4, start + 7, *rank_ids("\nWho built it?"), start + 8]
    assert tokenizer(text, add_special_tokens=False)["input_ids"] == expected


def test_phi3_small_has_changed_specials(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "m", "phi3small", rank_file(2000), name="cl100k_base.tiktoken")
    tokenizer = NeMoAutoTokenizer.from_pretrained(folder)
    names = {"<|endoftext|>": 100257, "<|user|>": 100262, "<|end|>": 100266, "<|endofprompt|>": 100276, "<|dummy_id_2|>": 100256}
    names |= {"<|dummy_id_0|>": 100264, "<|dummy_id_11|>": 100275, "<|dummy_id_12|>": 100277, "<|dummy_id_86|>": 100351}
    assert {name: tokenizer.convert_tokens_to_ids(name) for name in names} == names
    assert max(tokenizer.get_vocab().values()) == 100351
    assert tokenizer(TEXT)["input_ids"] == rank_ids(TEXT)
    assert tokenizer(TEXT + "<|end|>")["input_ids"] == [*rank_ids(TEXT), 100266]
    text = tokenizer.apply_chat_template(CHAT[:1], tokenize=False, add_generation_prompt=True)
    assert text == "<|endoftext|><|user|>\nWho built it?<|end|>\n<|assistant|>\n"


def pairs_files() -> tuple[dict[str, int], str]:
    letters = byte_letters()
    vocabulary = {letter: index + 5 for index, letter in enumerate(sorted(letters))}
    merges = [("t", "h"), ("Ġ", "th"), ("th", "e"), ("Ġth", "e")]
    for left, right in merges:
        vocabulary[left + right] = len(vocabulary) + 5
    return vocabulary, "#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in merges)


@pytest.mark.parametrize("kind", ["aquila", "exaone", "jais", "stablelm_alpha"])
def test_a_byte_level_family_from_its_files(kind: str, tmp_path: Path) -> None:
    ids, merges = pairs_files()
    ids |= {"<|endoftext|>": 0, "[BOS]": 1, "[|endofturn|]": 2, "[UNK]": 3, "[PAD]": 4}
    added = [("added_tokens.json", {"<|startofpiece|>": 100000, "<|endofpiece|>": 100001})] if kind == "aquila" else []
    folder = folder_of(tmp_path / "m", kind, json.dumps(ids).encode(), name="vocab.json", files=[("merges.txt", merges), *added])
    tokenizer = NeMoAutoTokenizer.from_pretrained(folder)
    assert tokenizer.convert_ids_to_tokens(tokenizer("the the")["input_ids"]) == ["the", "Ġthe"]
    assert tokenizer.decode(tokenizer("naïve 橋 the")["input_ids"]) == "naïve 橋 the"
    if kind == "aquila":
        assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (100006, 100007, 0)
        text = tokenizer.apply_chat_template(CHAT[:2], tokenize=False)
        assert text == "<|startofpiece|>Who built it?<|endofpiece|>Anna Vell.</s>"
    if kind == "exaone":
        assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 4)
        text = tokenizer.apply_chat_template(CHAT[:2], tokenize=False, add_generation_prompt=True)
        assert text == "[|system|][|endofturn|]\n[|user|]Who built it?\n[|assistant|]Anna Vell.[|endofturn|]\n[|assistant|]"


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git-lfs"),
        (b"", "no pieces"),
        (b"\x0a\x7f\x0a", "cut off"),
        (b"\xff\xfe not a model", "SentencePiece"),
        (b"YQ== 0\nYg== x\n", "line 2"),
    ],
)
def test_a_damaged_vocabulary_is_explained(data: bytes, found: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be built") as raised:
        NeMoAutoTokenizer.from_pretrained(folder_of(tmp_path / "m", "chatglm", data))
    assert found in raised.value.found


def test_a_cut_file_is_never_taken_for_a_whole_one() -> None:
    data = vocabulary("bpe")
    settings = _settings_at(data)
    for cut in (settings + 3, len(data) - 1, len(data) - 20):
        with pytest.raises(ValueError, match="cut off"):
            read_sentencepiece(data[:cut])


def test_pairs_that_are_none_are_named() -> None:
    with pytest.raises(ValueError, match="'a b c' is not a pair"):
        from_pairs({"a": 0}, "a b c\n")


def test_other_models_are_left_to_transformers(tiny_model_dir: Path) -> None:
    assert NeMoAutoTokenizer.from_pretrained(tiny_model_dir).resolution.implementation == "hf"
    assert "tokenizer.model" in VOCABULARIES
