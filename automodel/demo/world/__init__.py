"""The invented world behind the demo: articles with facts, questions on them, and a larger text to pre-train on."""

from automodel.demo.world.articles import Article, Question, write_article
from automodel.demo.world.corpus import build_corpus, squad_json
from automodel.demo.world.kinds import Kind, load_kinds

__all__ = ["Article", "Kind", "Question", "build_corpus", "load_kinds", "squad_json", "write_article"]
