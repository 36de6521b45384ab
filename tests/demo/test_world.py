"""The invented world is the same each time, its kind files fit together, and its answers stand where they are said to stand."""

from __future__ import annotations

import re
from random import Random

import pytest

from automodel.demo.world import build_corpus, load_kinds, squad_json, write_article
from automodel.demo.world.corpus import write_articles
from automodel.demo.world.kinds import Kind, parse_kind
from automodel.demo.world.names import amount, draw

KINDS = load_kinds()
SLOTS = re.compile(r"\{(?:[aA]_)?(\w+)\}")
TITLE = {"name", "the", "The", "he", "He", "his", "His", "him"}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_a_kind_asks_and_tells_of_every_fact_that_it_mentions(kind: Kind) -> None:
    said = set(SLOTS.findall(" ".join([*kind.intro, *(text for options in kind.say for text in options)]))) - TITLE
    assert said == set(kind.facts) == set(kind.ask) == set(kind.tell)
    for fact, options in kind.tell.items():
        assert all(fact in SLOTS.findall(text) for text in options), fact
    for fact, options in kind.ask.items():
        assert all(set(SLOTS.findall(text)) <= TITLE and text.endswith("?") for text in options), fact


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_articles_are_well_formed(kind: Kind) -> None:
    rng = Random(5)
    for _ in range(30):
        article = write_article(kind, rng)
        assert "{" not in article.text
        assert "  " not in article.text
        assert all(sentence[0].isupper() and sentence[-1] in '."' for sentence in article.sentences), article.text
        assert len(article.questions) >= 3
        for question in article.questions:
            assert article.text[question.start : question.start + len(question.answer)] == question.answer
            assert article.title in question.ask


def test_the_same_seed_gives_the_same_text() -> None:
    first, again, other = (list(build_corpus(KINDS, 20, seed=seed)) for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_titles_and_sentences_can_be_avoided() -> None:
    first = write_articles(KINDS, 64, seed=1)
    titles = {article.title for article in first}
    sentences = {sentence for article in first for sentence in article.sentences}
    second = write_articles(KINDS, 64, seed=1, avoid_titles=titles, avoid_sentences=sentences)
    assert len({article.title for article in second} | titles) == 128
    assert all(sentences.isdisjoint(article.sentences) for article in second)
    starts = tuple(f"{title} " for title in titles)
    assert not any(row["article"].startswith(starts) for row in build_corpus(KINDS, 200, seed=1, avoid_titles=titles))


def test_a_document_asks_what_the_article_says() -> None:
    for row in build_corpus(KINDS, 40, seed=8):
        lines = row["talk"].strip().splitlines()
        assert len(lines) >= 3
        assert all(line.rpartition(" - ")[2] in row["article"] for line in lines)
        # The prompt of fine-tuning must be new to the base model.
        assert "Question:" not in row["talk"]
        assert "Answer:" not in row["talk"]


def test_amounts_stay_in_their_bounds() -> None:
    rng = Random(2)
    values = {int(amount(rng, 20_000, 900_000).replace(",", "")) for _ in range(300)}
    assert min(values) >= 20_000
    assert max(values) <= 900_000
    assert draw("int 3 3 arches", rng) == "3 arches"
    assert draw("one of tea | wool", rng) in ("tea", "wool")
    assert draw("year 1850 1850", rng) == "1850"


def test_squad_form() -> None:
    article = write_article(KINDS[0], Random(1))
    data = squad_json([article])["data"][0]
    assert data["title"] == article.title
    assert data["paragraphs"][0]["context"] == article.text
    assert len(data["paragraphs"][0]["qas"]) == len(article.questions)


def test_a_broken_kind_file_is_named() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        parse_kind("kind: x\nnonsense\n")
