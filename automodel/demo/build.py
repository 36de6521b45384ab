"""Make everything the demo ships: the question set, the tokenizer, the text to pre-train on, and the base model.

`python -m automodel.demo.build` rebuilds all of it (minutes to tens of minutes on a laptop CPU); `--only data` and `--only text` stop earlier.
The text is not shipped: it is written to `--work`, where the recipe reads it.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automodel.demo.files import FOLDER, HELD_OUT, MODEL, TRAIN
from automodel.demo.start import write_start
from automodel.demo.world import build_corpus, load_kinds, squad_json
from automodel.demo.world.articles import Article
from automodel.demo.world.corpus import write_articles
from automodel.demo.world.names import STOCK

if TYPE_CHECKING:
    from automodel.demo.world.kinds import Kind

TRAIN_ARTICLES = 400
HELD_OUT_ARTICLES = 64
CORPUS_ARTICLES = 24_000
TOKENIZER_ARTICLES = 6_000
VOCABULARY = 3072
SEEDS = {"train": 1, "held_out": 2, "corpus": 100}
PIECES = r" ?[0-9]{1,2}| ?\p{L}+| ?[^\s\p{L}0-9]+|\s+"
OFTEN = 300
END, PAD = "<|end|>", "<|pad|>"
WORK = Path("build") / "demo"
CORPUS = "corpus.jsonl"
START = "start"


def question_sets(kinds: Sequence[Kind]) -> tuple[list[Article], list[Article]]:
    """Return the articles to train on and the held-out ones, which share no title, no question and no sentence with them."""
    train = write_articles(kinds, TRAIN_ARTICLES, seed=SEEDS["train"])
    titles = {article.title for article in train}
    sentences = {sentence for article in train for sentence in article.sentences}
    held_out = write_articles(kinds, HELD_OUT_ARTICLES, seed=SEEDS["held_out"], avoid_titles=titles, avoid_sentences=sentences)
    return train, held_out


def write_data(folder: Path) -> None:
    """Write both question files in SQuAD's nested form."""
    folder.mkdir(parents=True, exist_ok=True)
    for path, articles in zip((TRAIN, HELD_OUT), question_sets(load_kinds()), strict=True):
        (folder / path.name).write_text(json.dumps(squad_json(articles), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def write_corpus(path: Path, *, count: int = CORPUS_ARTICLES) -> None:
    """Write the text to pre-train on, one document a line; nothing in it is about the articles of the question sets."""
    kinds = load_kinds()
    train, held_out = question_sets(kinds)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for document in build_corpus(kinds, count, seed=SEEDS["corpus"], avoid_titles={article.title for article in (*train, *held_out)}):
            file.write(json.dumps(document, ensure_ascii=False) + "\n")


def write_tokenizer(folder: Path, texts: Iterable[str]) -> None:
    """Train a byte-level BPE tokenizer, numbers in pairs of digits, and write it in the form that transformers 4 and 5 both read."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.BPE())
    splits: list[Any] = [pre_tokenizers.Split(Regex(PIECES), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(splits)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer: Any = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=[END, PAD], initial_alphabet=alphabet, show_progress=False)
    # The names are few and short; seen often, each becomes one token, which a model of this size copies far more easily than pieces.
    tokenizer.train_from_iterator(chain(texts, (f" {name}" * OFTEN for name in STOCK)), trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END,
        "pad_token": PAD,
        "model_max_length": 1024,
        "clean_up_tokenization_spaces": False,
        "padding_side": "left",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def pretrain(work: Path) -> Path:
    """Run `examples/demo_pretrain.yaml` in this process and return the folder of the model it made."""
    from automodel.launch import finetune
    from automodel.recipe import preset_path

    write_start(work / START, vocabulary=VOCABULARY)
    changes = {
        "model.pretrained_model_name_or_path": work / START,
        "dataset.path_or_dataset": work / CORPUS,
        "tokenizer.pretrained_model_name_or_path": MODEL,
    }
    run = finetune(str(preset_path("demo_pretrain")), overrides=[f"{key}={value}" for key, value in changes.items()], run_folder=work / "runs")
    return run.checkpoints[-1].model


def install(source: Path, target: Path) -> None:
    """Put a model into the package with 16-bit weights, which halves its size; training takes them up in 32 bits again."""
    from automodel.auto import NeMoAutoModelForCausalLM, save_hf

    model = NeMoAutoModelForCausalLM.from_pretrained(source, torch_dtype="bfloat16")
    spare = target.with_name("model.new")
    shutil.rmtree(spare, ignore_errors=True)
    save_hf(model, spare)
    for path in spare.iterdir():
        path.chmod(0o644)
        path.replace(target / path.name)
    spare.rmdir()


def main(arguments: Sequence[str] | None = None) -> int:
    """Rebuild what the demo ships, or a part of it."""
    parser = argparse.ArgumentParser(prog="python -m automodel.demo.build", description=main.__doc__)
    parser.add_argument("--work", type=Path, default=WORK, help="folder of the pre-training text and of the run (default: build/demo)")
    parser.add_argument("--only", choices=("data", "text", "model"), help="data: the questions; text: tokenizer and text; model: pre-train")
    parser.add_argument("--from", dest="source", type=Path, help="put this model folder into the package in place of training one")
    options = parser.parse_args(arguments)
    if options.only in (None, "data") and not options.source:
        write_data(FOLDER / "data")
    if options.only in (None, "text") and not options.source:
        write_corpus(options.work / CORPUS)
        with (options.work / CORPUS).open(encoding="utf-8") as file:
            write_tokenizer(MODEL, ("\n\n".join(json.loads(line).values()) for line, _ in zip(file, range(TOKENIZER_ARTICLES), strict=False)))
    if options.source or options.only in (None, "model"):
        install(options.source or pretrain(options.work), MODEL)
    print(f"The files of the demo lie in {FOLDER}.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
