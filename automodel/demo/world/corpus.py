"""Many articles at once: the question set in SQuAD's format, and the text that the base model is pre-trained on."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from random import Random
from typing import Any

from automodel.demo.world import names
from automodel.demo.world.articles import Article, write_article
from automodel.demo.world.kinds import Kind

QUIZZES, TALKS = 0.5, 0.4
CLOSERS = ("Thank you.", "Good to know.", "I had no idea.", "That is all I wanted to know.", "Then I will go and see it.")
OPENERS = ("May I ask you something?", "You have read it, have you not?", "Tell me about it.", "I have a few questions.")
RECAPS = ("In short: ", "To sum up, here is what we know. ", "What to remember: ", "In other words: ")


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


def build_corpus(kinds: Collection[Kind], count: int, *, seed: int, avoid_titles: Collection[str] = ()) -> Iterator[str]:
    """Yield `count` texts: an article, short or long, then a quiz or a talk about it, or its content in other words.

    Titles come again with other facts, so that a reader has to look into the text and not into its memory.
    """
    rng = Random(seed)  # noqa: S311  a reproducible text is wanted, not a secret
    order = list(kinds)
    written = 0
    while written < count:
        kind = rng.choice(order)
        article = write_article(kind, rng, least=1)
        if article.title not in avoid_titles:
            written += 1
            yield f"{article.text}\n\n{_followup(article, rng)}"


def _followup(article: Article, rng: Random) -> str:
    chance = rng.random()
    return _quiz(article) if chance < QUIZZES else _talk(article, rng) if chance < QUIZZES + TALKS else _recap(article, rng)


def _talk(article: Article, rng: Random) -> str:
    """Let two people talk about an article: one asks, the other replies in full sentences."""
    first, second = rng.sample(names.MEN + names.WOMEN, 2)
    lines = [f"{first}: {rng.choice(OPENERS)}"] if rng.random() < 0.3 else []
    for question in article.questions:
        lines += [f"{first}: {question.ask}", f"{second}: {article.tells[question.fact]}"]
    if rng.random() < 0.3:
        lines.append(f"{first}: {rng.choice(CLOSERS)}")
    return "\n".join(lines)


def _quiz(article: Article) -> str:
    """Write a sheet of questions with a few words behind each."""
    return "\n".join(f"{question.ask} - {question.answer}" for question in article.questions)


def _recap(article: Article, rng: Random) -> str:
    """Say an article's facts again in another order and other words."""
    facts = rng.sample(list(article.tells), len(article.tells))
    return rng.choice(RECAPS) + " ".join(article.tells[fact] for fact in facts)
