"""The other side of `sft_cpu.py`: transformers' Trainer, bf16 or float32, batches of like length in a given order, rows already tokenised."""

import json
import resource
import sys
import time

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForSeq2Seq, Trainer, TrainerCallback, TrainingArguments

folder, rows_path, steps, batch, rate, out, kind = sys.argv[1:8]
with open(rows_path) as source:
    body = json.load(source)
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


class Rows(torch.utils.data.Dataset):
    def __init__(self, rows: list[dict[str, list[int]]]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        return self.rows[index]


seconds: list[float] = []
ended: list[float] = []
losses: list[float] = []
tokens: list[int] = []


class Watch(TrainerCallback):
    def on_step_begin(self, *_args: object, **_kwargs: object) -> None:
        self.began = time.perf_counter()

    def on_step_end(self, *_args: object, **_kwargs: object) -> None:
        seconds.append(time.perf_counter() - self.began)
        ended.append(time.time())

    def on_log(self, _args: object, _state: object, _control: object, logs: dict[str, float] | None = None, **_kwargs: object) -> None:
        if logs and "loss" in logs:
            losses.append(float(logs["loss"]))


pad = DataCollatorForSeq2Seq(tokenizer, padding=True)


def collate(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    made = pad([{"input_ids": row["input_ids"], "labels": row["labels"], "attention_mask": [1] * len(row["input_ids"])} for row in rows])
    tokens.append(int(made["attention_mask"].sum()))
    return made


class InOrder(Trainer):
    def _get_train_sampler(self, *_args: object) -> list[int]:
        return body["order"]


arguments = TrainingArguments(
    output_dir=out + ".d",
    per_device_train_batch_size=int(batch),
    max_steps=int(steps),
    learning_rate=float(rate),
    lr_scheduler_type="constant",
    weight_decay=0.0,
    max_grad_norm=1.0,
    logging_steps=1,
    save_strategy="no",
    report_to=[],
    bf16=kind == "bf16",
    use_cpu=True,
    disable_tqdm=True,
    seed=42,
)
InOrder(model=model, args=arguments, train_dataset=Rows(body["rows"]), data_collator=collate, callbacks=[Watch()]).train()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
with open(out, "w") as file:
    json.dump({"step_seconds": seconds, "first_step_at": ended[0], "tokens": tokens[: len(seconds)], "peak_bytes": peak, "losses": losses}, file)
