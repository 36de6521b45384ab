"""Scores are SQuAD's, and answers are cut where the model stops."""

from __future__ import annotations

import pytest
import torch

from automodel.demo.score import answer_questions, exact_match, f1_score, normalise, score


@pytest.mark.parametrize(
    ("text", "expected"),
    [("The  Velmar Bridge.", "velmar bridge"), ("a white heron", "white heron"), ("12,400 crowns", "12400 crowns"), ("Anthem", "anthem"), ("", "")],
)
def test_normalise(text: str, expected: str) -> None:
    assert normalise(text) == expected


@pytest.mark.parametrize(
    ("prediction", "answers", "exact", "f1"),
    [
        ("the red fox", ["A red fox!"], 1, 1),
        ("red fox den", ["red fox"], 0, 0.8),
        ("412", ["412 metres"], 0, 2 / 3),
        ("wolf", ["fox", "The Wolf"], 1, 1),
        ("", ["fox"], 0, 0),
        ("fox fox", ["fox"], 0, 2 / 3),
        ("the", ["a"], 1, 1),
    ],
)
def test_exact_match_and_f1(prediction: str, answers: list[str], exact: float, f1: float) -> None:
    assert exact_match(prediction, answers) == exact
    assert f1_score(prediction, answers) == pytest.approx(f1)


def test_a_score_is_a_mean_in_percent() -> None:
    result = score(["fox", "red wolf"], [["fox"], ["wolf"]])
    assert (result.exact_match, result.questions) == (50, 2)
    assert result.f1 == pytest.approx(100 * (1 + 2 / 3) / 2)
    with pytest.raises(ValueError, match="1 predictions for 0 questions"):
        score(["fox"], [])


class Echo(torch.nn.Module):
    """Continues a prompt with its last token, the stop token, and noise behind it; refuses prompts that are not filled on the left."""

    device = torch.device("cpu")

    def generate(self, *, input_ids: torch.Tensor, attention_mask: torch.Tensor, **_: object) -> torch.Tensor:
        assert (attention_mask[:, 1:] >= attention_mask[:, :-1]).all()
        last = input_ids[:, -1:]
        return torch.cat([input_ids, last, torch.zeros_like(last), torch.full_like(last, 7)], dim=1)


class Letters:
    """A tokenizer whose text is the list of ids."""

    pad_token_id = 1

    def decode(self, ids: list[int], **_: object) -> str:
        return " ".join(map(str, ids))


def test_answers_come_in_the_order_of_the_prompts_and_end_at_the_stop_token() -> None:
    model = Echo().train()
    prompts = [[5, 6, 9], [4], [2, 3], [5, 5, 5, 8]]
    answers = answer_questions(model, Letters(), prompts, stop_token_ids=[0], batch_size=2)  # type: ignore[arg-type]  # stand-ins
    assert answers == ["9", "4", "3", "8"]
    assert model.training
