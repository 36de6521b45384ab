"""The demo: a small model of our own, questions about an invented world, and what fine-tuning does to the answers."""

from automodel.demo.run import Method, run_demo
from automodel.demo.score import Score, answer_questions, score

__all__ = ["Method", "Score", "answer_questions", "run_demo", "score"]
