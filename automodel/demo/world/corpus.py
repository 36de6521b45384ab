"""Many articles at once: the question set in SQuAD's format, and the text that the base model is pre-trained on."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from random import Random
from typing import Any

from automodel.demo.world.articles import Article, write_article
from automodel.demo.world.kinds import Kind


def write_articles(
    kinds: Collection[Kind], count: int, *, seed: int, avoid_titles: Collection[str] = (), avoid_sentences: Collection[str] = ()
) -> list[Article]:
    """Write `count` articles with titles of their own, the kinds in turn; no title of `avoid_titles` and no sentence of `avoid_sentences` is used."""
    rng = Random(seed)  # noqa: S311  a reproducible text is wanted, not a secret
    order = list(kinds)
    titles = set(avoid_titles)
    articles: list[Article] = []
    while len(articles) < count:
        article = write_article(order[len(articles) % len(order)], rng, avoid=avoid_sentences)
        if article.title not in titles:
            titles.add(article.title)
            articles.append(article)
    return articles


def squad_json(articles: Collection[Article], *, version: str = "1.1") -> dict[str, Any]:
    """Put articles into the nested form of SQuAD v1.1."""
    data = []
    for article in articles:
        slug = article.title.lower().replace(" ", "-")
        qas = [
            {
                "id": f"{article.kind}-{slug}-{question.fact}",
                "question": question.ask,
                "answers": [{"text": question.answer, "answer_start": question.start}],
            }
            for question in article.questions
        ]
        data.append({"title": article.title, "paragraphs": [{"context": article.text, "qas": qas}]})
    return {"version": version, "data": data}


def build_corpus(kinds: Collection[Kind], count: int, *, seed: int, avoid_titles: Collection[str] = ()) -> Iterator[dict[str, str]]:
    """Yield `count` documents: an `article`, and a `talk`, a sheet of questions with a few words behind each.

    Titles come again with other facts, so that a reader has to look into the text and not into its memory.
    """
    rng = Random(seed)  # noqa: S311  a reproducible text is wanted, not a secret
    order = list(kinds)
    written = 0
    while written < count:
        article = write_article(rng.choice(order), rng)
        if article.title not in avoid_titles:
            written += 1
            yield {"article": article.text, "talk": "\n".join(f"{question.ask} - {question.answer}" for question in article.questions)}
