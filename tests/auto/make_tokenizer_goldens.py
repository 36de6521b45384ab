"""Writes tokenizer_goldens.json: tiny SentencePiece and tiktoken files, and the ids that those two libraries give.

`pip install sentencepiece tiktoken`, then `python -m tests.auto.make_tokenizer_goldens`. The tests themselves need neither.
"""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

GOLDENS = Path(__file__).with_name("tokenizer_goldens.json")
CORPUS = [
    "The bridge of Harrow was built in 1821 by Anna Vell. It is 340 metres long and made of stone.",
    "Who built the bridge? Anna Vell. When was it built? In 1821. What is it made of? Stone.",
    "def build(stone):\n    return stone + 1\n\n\nprint(build(3))",
    "你好，世界。桥是石头造的，长三百四十米。",
    "東京は日本の首都です。橋は石でできています。",
    "Привет, мост построен из камня.",
    "naïve café déjà vu",
    "안녕하세요 다리는 돌로 만들어졌습니다",
] * 6
TEXTS = [
    "",
    " ",
    "   ",
    "a",
    " leading and trailing  ",
    "two  spaces   three",
    "new\nline\n\n  x\r\n",
    "tab\there",
    "你好世界，橋は石です。",
    "😀😀 emoji 👩‍👩‍👧",
    "naïve ﬁ ①②③",
    "1234567 3.14",
    "<0x0A> ▁already▁there",
    "x\u00a0y\u3000z",
    "<|user|>hello<|user|><|user|> bridge SYM",
    "SYM    SYMSYM  x",
    "ababababab aaaaaaaaaaaaaa",
    "don't DON'T we're 12345 times, x_y=3.14!\n\n\tEnd",
    "The bridge of Harrow was built in 1821.",
    "\x00\x01\x7f",
    *CORPUS[:8],
]
PLAIN = {"model_type": "bpe", "byte_fallback": True, "normalization_rule_name": "identity", "remove_extra_whitespaces": False}
OWN = ["<|user|>", "SYM", "▁▁", "▁▁▁▁"]
CASES = {
    "bpe": {**PLAIN, "split_digits": True},
    "no_bytes": {**PLAIN, "byte_fallback": False, "character_coverage": 0.98, "vocab_size": 250},
    "spaces_removed": {**PLAIN, "remove_extra_whitespaces": True},
    "charsmap": {**PLAIN, "normalization_rule_name": "", "normalization_rule_tsv": "RULES"},
    "own_symbols": {**PLAIN, "user_defined_symbols": OWN, "control_symbols": ["<ctl>"], "vocab_size": 480},
    "no_prefix": {**PLAIN, "add_dummy_prefix": False},
    "unigram": {**PLAIN, "model_type": "unigram"},
}
CL100K = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def train(settings: dict[str, object], folder: Path) -> bytes:
    import sentencepiece

    if settings.get("normalization_rule_tsv"):
        rules = folder / "rules.tsv"
        rules.write_text(
            "".join(f"{ord(char):X}\t{' '.join(f'{ord(c):X}' for c in text)}\n" for char, text in {"ﬁ": "fi", "①": "1", "\t": " "}.items())
        )
        settings = {**settings, "normalization_rule_tsv": str(rules)}
    out = io.BytesIO()
    kept = {"vocab_size": 470, "minloglevel": 2, "hard_vocab_limit": False, **settings}
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(CORPUS), model_writer=out, **kept)
    return out.getvalue()


def ranks() -> dict[bytes, int]:
    from tiktoken._educational import bpe_train

    return bpe_train("\n".join(CORPUS), 420, CL100K)


def main() -> None:
    import tempfile

    import sentencepiece
    import tiktoken

    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, settings in CASES.items():
            data = train(dict(settings), Path(folder))
            library = sentencepiece.SentencePieceProcessor(model_proto=data)
            rows = [[text, library.encode(text), library.decode(library.encode(text))] for text in TEXTS]
            found[name] = {"file": base64.b64encode(data).decode(), "rows": rows}
    table = ranks()
    library = tiktoken.Encoding("tiny", pat_str=CL100K, mergeable_ranks=table, special_tokens={})
    lines = "".join(f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in table.items())
    rows = [[text, library.encode(text), library.decode(library.encode(text))] for text in TEXTS]
    found["ranks"] = {"file": base64.b64encode(lines.encode()).decode(), "rows": rows}
    GOLDENS.write_text(json.dumps(found, ensure_ascii=False, indent=None, separators=(",", ":")).replace('],["', '],\n["') + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
