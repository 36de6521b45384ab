"""Asking a trained model: the text that it puts behind a prompt."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automodel.errors import RequestError
from automodel.tables import facts_html

if TYPE_CHECKING:
    from automodel.run import Run


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model wrote; prints as its text.

    Attributes:
        prompt: what was asked; `rendered` is the exact text that the model read.
        text: what it wrote, `tokens` long, `seconds` in the making.
        model: folder of the weights (or of the adapter); `base` is the base model of an adapter.
        finished: it ended by itself, not by max_new_tokens.
    """

    prompt: str
    rendered: str
    text: str
    tokens: int
    seconds: float
    model: str
    base: str | None
    finished: bool

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values, for `--json`."""
        return asdict(self)

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        model = self.model + (f" on {self.base}" if self.base else "")
        speed = f"{self.tokens} tokens in {self.seconds:.1f} s" + ("" if self.finished else ", cut off by max_new_tokens")
        return facts_html("Answer", [("prompt", self.prompt), ("answer", self.text), ("model", model), ("", speed)])


def generate(
    source: Run | str | Path,
    prompt: str,
    *,
    max_new_tokens: int = 128,
    base: bool = False,
    chat: bool | None = None,
    sample: bool = False,
    temperature: float = 1.0,
    seed: int = 0,
    on_text: Callable[[str], None] | None = None,
    runs_root: Path | str | None = None,
) -> Answer:
    """Let a model continue a prompt, greedily unless `sample` is set.

    Args:
        source: a run (its best, else its latest checkpoint), a checkpoint or model folder, or an adapter folder.
        prompt: the text; with a chat template it is the user's message.
        max_new_tokens: longest answer.
        base: ask the base model of the adapter, or the model that the run started from, instead.
        chat: use the tokenizer's chat template; absent: if it has one.
        sample: draw tokens by their probability at `temperature`, with `seed`.
        temperature: above 1 more varied, below 1 less.
        seed: seed of the drawing.
        on_text: called with each piece of text as it is made.
        runs_root: where runs named by id lie.

    Raises:
        RequestError: there is no such model, or no base model is known.
    """
    if max_new_tokens < 1:
        raise RequestError("An answer needs at least one token.", found=f"max_new_tokens {max_new_tokens}", expected="1 or more")
    folder, origin = find_model(source, base=base, runs_root=runs_root)
    model, tokenizer = _load(folder, origin)
    rendered, ids = _prompt_ids(tokenizer, prompt, chat)
    began = time.perf_counter()
    new = _continue(model, tokenizer, ids, on_text, max_new_tokens=max_new_tokens, sample=sample, temperature=temperature, seed=seed)
    return Answer(
        prompt=prompt,
        rendered=rendered,
        text=str(tokenizer.decode(new, skip_special_tokens=True)),
        tokens=len(new),
        seconds=time.perf_counter() - began,
        model=str(folder),
        base=origin,
        finished=len(new) < max_new_tokens or new[-1] in _ends(model),
    )


def find_model(source: Run | str | Path, *, base: bool = False, runs_root: Path | str | None = None) -> tuple[str, str | None]:
    """Return the folder (or id) of the weights and, for an adapter, its base model.

    Raises:
        RequestError: there is no such run or folder, or no base model is known.
    """
    from automodel.checkpoint import base_of, model_folder
    from automodel.run import Run, attach

    path = source.path if isinstance(source, Run) else Path(source).expanduser()
    if not path.is_dir():
        path = attach(str(source), runs_root).path
    folder = model_folder(path)
    origin = base_of(folder) if (folder / "adapter_config.json").is_file() else None
    if not base:
        return str(folder), origin
    start = origin or _start_of_run(folder)
    if start is None:
        fix = "name the base model's folder in place of this one"
        raise RequestError("The base model is not known.", found=str(folder), expected="a run, or an adapter folder", fix=fix)
    return start, None


def _start_of_run(folder: Path) -> str | None:
    """Return the model that the run around a checkpoint started from."""
    from automodel.recipe import Recipe
    from automodel.run import RunFolder

    for place in folder.parents:
        if (place / "recipe.yaml").is_file() and (place / "run.json").is_file():
            allowed = RunFolder(place).record().get("launch", {}).get("allow_targets", ())
            recipe = Recipe.from_yaml(place / "recipe.yaml", allow_targets=allowed)
            return recipe.model.pretrained_model_name_or_path
    return None


def _load(folder: str, origin: str | None) -> tuple[Any, Any]:
    import torch

    from automodel.auto import NeMoAutoTokenizer, class_that_writes
    from automodel.checkpoint.save import quiet_bars
    from automodel.peft import load_adapter

    device = "cuda" if torch.cuda.is_available() else "cpu"
    # A CPU computes float32 exactly and, without bfloat16 instructions, faster as well.
    dtype = "auto" if device == "cuda" else torch.float32
    with quiet_bars():
        model: Any = class_that_writes(origin or folder).from_pretrained(origin or folder, dtype=dtype, device=device)
    if origin is not None:
        model = load_adapter(model, Path(folder), trainable=False)
    own = Path(folder) / "tokenizer_config.json"
    tokenizer = NeMoAutoTokenizer.from_pretrained(origin if origin is not None and not own.is_file() else folder)
    return model.eval(), tokenizer


def _prompt_ids(tokenizer: Any, prompt: str, chat: bool | None) -> tuple[str, list[int]]:
    use = bool(tokenizer.chat_template) if chat is None else chat
    if use and not tokenizer.chat_template:
        raise RequestError("The tokenizer has no chat template.", found="chat=True", expected="a tokenizer of a chat model", fix="leave chat out")
    if not use:
        return prompt, list(tokenizer(prompt)["input_ids"])
    text = str(tokenizer.apply_chat_template([{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True))
    return text, list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _continue(
    model: Any,
    tokenizer: Any,
    ids: list[int],
    on_text: Callable[[str], None] | None,
    *,
    max_new_tokens: int,
    sample: bool,
    temperature: float,
    seed: int,
) -> list[int]:
    import torch
    from transformers import TextStreamer

    class _Pieces(TextStreamer):  # type: ignore[misc, no-untyped-call, unused-ignore]  # untyped in transformers
        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            if on_text is not None and text:
                on_text(text)

    torch.manual_seed(seed)
    tensor = torch.tensor([ids], device=model.device)
    drawing: dict[str, Any] = {"do_sample": True, "temperature": temperature} if sample else {"do_sample": False}
    if not sample:
        # a greedy answer has no use for these settings of the model's own file, and transformers would warn of each
        drawing |= {"temperature": None, "top_p": None, "top_k": None}
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    with torch.inference_mode():
        out = model.generate(
            input_ids=tensor,
            attention_mask=torch.ones_like(tensor),
            max_new_tokens=max_new_tokens,
            pad_token_id=pad,
            streamer=_Pieces(tokenizer, skip_prompt=True, skip_special_tokens=True),  # type: ignore[no-untyped-call, unused-ignore]  # untyped
            **drawing,
        )
    found: list[int] = out[0, len(ids) :].tolist()
    return found


def _ends(model: Any) -> set[int]:
    ends = model.generation_config.eos_token_id
    return set() if ends is None else {ends} if isinstance(ends, int) else set(ends)
