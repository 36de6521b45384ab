"""The four acts of `automodel demo`: what there is, answers before, training, answers after."""

from __future__ import annotations

import json
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from automodel.demo.files import HELD_OUT, MODEL, TRAIN
from automodel.demo.score import Score, answer_questions, score

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from automodel.data import TokenizedDataset
    from automodel.run import Run

Method = Literal["sft", "lora"]
_UNIT = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came out: scores before and after, and what the training took (seconds, bytes)."""

    method: Method
    before: Score
    after: Score
    parameters: int
    trained_parameters: int
    train_seconds: float
    peak_memory_bytes: int
    checkpoint: Path

    def as_event(self) -> dict[str, Any]:
        """Return the fields of the event `demo_result`."""
        return {
            "method": self.method,
            "em_before": self.before.exact_match,
            "em_after": self.after.exact_match,
            "f1_before": self.before.f1,
            "f1_after": self.after.f1,
            "questions": self.after.questions,
            "parameters": self.parameters,
            "trained_parameters": self.trained_parameters,
            "train_seconds": self.train_seconds,
            "peak_memory_bytes": self.peak_memory_bytes,
            "checkpoint": str(self.checkpoint),
        }


class Examination:
    """The held-out questions, asked in the same words and the same way each time.

    Args:
        path: a file in SQuAD's nested form.
        max_questions: ask only so many, spread evenly over the articles; absent: all.
    """

    def __init__(self, path: Path, *, max_questions: int | None = None) -> None:
        from automodel.auto import NeMoAutoTokenizer
        from automodel.data import build_dataset
        from automodel.recipe.schema import DatasetSection

        self.tokenizer = NeMoAutoTokenizer.from_pretrained(MODEL)
        self.data: TokenizedDataset = build_dataset(DatasetSection(path_or_dataset=str(path)), self.tokenizer, role="held-out", keep_text=True)
        count = min(max_questions or len(self.data), len(self.data))
        self.rows = [number * len(self.data) // count for number in range(count)]

    def ask(self, model: PreTrainedModel) -> tuple[list[str], Score]:
        """Return the model's answers, and their score."""
        prompts = [self.data.prompt_ids(row).tolist() for row in self.rows]
        answers = answer_questions(model, self.tokenizer, prompts, stop_token_ids=self.data.stop_token_ids)
        return answers, score(answers, [self.data.answers(row) for row in self.rows])

    def question(self, number: int) -> str:
        """Return the text of a question, without its article."""
        return self.data.example(self.rows[number])[0].rpartition("Question: ")[2].partition("\n")[0]

    def expected(self, number: int) -> str:
        """Return the answer that stands in the article."""
        return self.data.answers(self.rows[number])[0]


def run_demo(method: Method = "sft", *, runs_root: Path | str | None = None, max_questions: int | None = None) -> int:
    """Fine-tune the shipped model on the shipped questions, show its answers before and after, and return the exit code.

    Args:
        method: train all weights (`sft`) or adapters only (`lora`).
        runs_root: root of the run folders.
        max_questions: ask only so many of the held-out questions.

    Raises:
        AutomodelError: the training failed; its run folder says why.
    """
    from automodel.demo.show import Stage
    from automodel.tasks.run import quiet_libraries

    quiet_libraries()
    stage = Stage(method)
    stage.opening()
    examination = Examination(HELD_OUT, max_questions=max_questions)
    answers, before = examination.ask(load_model(MODEL))
    stage.before(examination, answers, before)
    stage.training()
    began = time.perf_counter()
    run = _train(method, runs_root)
    seconds = time.perf_counter() - began
    if run.status.state != "finished":
        stage.stopped(run)
        return 3
    checkpoint = run.checkpoints[-1].model
    tuned, after = examination.ask(load_model(checkpoint))
    record = run.folder.record()
    result = Result(
        method=method,
        before=before,
        after=after,
        parameters=int(record["parameters"]),
        trained_parameters=int(record["trained_parameters"]),
        train_seconds=seconds,
        peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT,
        checkpoint=checkpoint,
    )
    run.folder.event("demo_result", **result.as_event())
    stage.after(examination, answers, tuned)
    stage.closing(run, result)
    return 0


def load_model(folder: Path) -> PreTrainedModel:
    """Load a model folder in 32 bits, or an adapter folder on top of the base model that it names."""
    from automodel.auto import NeMoAutoModelForCausalLM

    adapter = folder / "adapter_config.json"
    base = Path(json.loads(adapter.read_text(encoding="utf-8"))["base_model_name_or_path"]) if adapter.is_file() else folder
    model: Any = NeMoAutoModelForCausalLM.from_pretrained(base, torch_dtype="float32")
    if adapter.is_file():
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, folder)
    loaded: PreTrainedModel = model
    return loaded


def _train(method: Method, runs_root: Path | str | None) -> Run:
    from automodel.launch import finetune
    from automodel.recipe import preset_path

    paths = {"model.pretrained_model_name_or_path": MODEL, "dataset.path_or_dataset": TRAIN, "validation_dataset.path_or_dataset": HELD_OUT}
    return finetune(preset_path(f"demo_{method}"), overrides=[f"{key}={path}" for key, path in paths.items()], run_folder=runs_root)
