"""Many articles at once: the question set in SQuAD's format, and the text that the base model is pre-trained on."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from random import Random
from typing import Any

from automodel.demo.world import names
from automodel.demo.world.articles import Article, open_names, write_article
from automodel.demo.world.kinds import Kind

REPLIES_MIN, REPLIES_MAX = 4, 8
CLOSERS = ("Thank you.", "Good to know.", "I had no idea.", "That is all I wanted to know.", "Then I will go and see it.")
OPENERS = ("May I ask you something?", "You have read it, have you not?", "Tell me about it.", "I have a few questions.", "")
RECAPS = ("In short: ", "To sum up, here is what we know. ", "What to remember: ", "In other words: ")


def write_articles(kinds: Collection[Kind], count: int, *, seed: int, avoid_names: Collection[str] = (), avoid_sentences: Collection[str] = ()) -> list[Article]:
    """Write `count` articles, the kinds in turn; titles differ from each other, and no name of `avoid_names` appears."""
    rng = Random(seed)  # noqa: S311  a reproducible text is wanted, not a secret
    order = list(kinds)
    titles: set[str] = set()
    articles: list[Article] = []
    while len(articles) < count:
        kind = order[len(articles) % len(order)]
        article = write_article(kind, rng, avoid=avoid_sentences)
        if article.title in titles or not open_names(article, kind).isdisjoint(avoid_names):
            continue
        titles.add(article.title)
        articles.append(article)
    return articles


def squad_json(articles: Collection[Article], *, version: str = "1.1") -> dict[str, Any]:
    """Put articles into the nested form of SQuAD v1.1."""
    data = []
    for article in articles:
        slug = article.title.lower().replace(" ", "-")
        qas = [
            {"id": f"{article.kind}-{slug}-{question.fact}", "question": question.ask, "answers": [{"text": question.answer, "answer_start": question.start}]}
            for question in article.questions
        ]
        data.append({"title": article.title, "paragraphs": [{"context": article.text, "qas": qas}]})
    return {"version": version, "data": data}


def build_corpus(kinds: Collection[Kind], count: int, *, seed: int, avoid_names: Collection[str] = ()) -> Iterator[str]:
    """Yield `count` texts: an article, then a talk about it or its content in other words."""
    rng = Random(seed + 1)  # noqa: S311  a reproducible text is wanted, not a secret
    by_name = {kind.kind: kind for kind in kinds}
    for article in write_articles(kinds, count, seed=seed, avoid_names=avoid_names):
        yield f"{article.text}\n\n{_talk(article, by_name[article.kind], rng) if rng.random() < 0.7 else _recap(article, rng)}"


def _talk(article: Article, kind: Kind, rng: Random) -> str:
    """Let two people talk about an article: one asks, the other replies in full sentences."""
    first, second = rng.sample((names.MEN + " " + names.WOMEN).split(), 2)
    asked = {question.fact: question.ask for question in article.questions}
    facts = rng.sample(list(asked), min(len(asked), rng.randint(REPLIES_MIN, REPLIES_MAX)))
    lines = [f"{first}: {opener}" for opener in [rng.choice(OPENERS)] if opener]
    for fact in facts:
        lines += [f"{first}: {asked[fact]}", f"{second}: {article.tells[fact]}"]
    if rng.random() < 0.3:
        lines.append(f"{first}: {rng.choice(CLOSERS)}")
    return "\n".join(lines)


def _recap(article: Article, rng: Random) -> str:
    """Say an article's facts again in another order and other words."""
    facts = rng.sample(list(article.tells), len(article.tells))
    return rng.choice(RECAPS) + " ".join(article.tells[fact] for fact in facts)
