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
    from automodel.run import Run, RunFolder


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


class Generator:
    """A model that stays loaded between prompts: call it with each; its memory is free again when the `with` block ends.

    Attributes:
        model: folder (or id) of the weights or of the adapter.
        base: base model of an adapter.
    """

    def __init__(self, found: Found) -> None:
        self.model, self.base = found.folder, found.base
        self._parts: tuple[Any, Any] | None = _load(found)

    def __call__(
        self,
        prompt: str,
        *,
        max_new_tokens: int = 128,
        chat: bool | None = None,
        sample: bool = False,
        temperature: float = 1.0,
        seed: int = 0,
        on_text: Callable[[str], None] | None = None,
    ) -> Answer:
        """Let the model continue a prompt, as `generate` does: an answer does not depend on what was asked before.

        Raises:
            RequestError: the generator is closed, or the tokenizer has no chat template and `chat` asks for it.
        """
        _check_length(max_new_tokens)
        if self._parts is None:
            raise RequestError("The generator is closed.", found="a call after `with`", expected="a call inside it", fix="load it again")
        model, tokenizer = self._parts
        rendered, ids = _prompt_ids(tokenizer, prompt, chat)
        began = time.perf_counter()
        new = _continue(model, tokenizer, ids, on_text, max_new_tokens=max_new_tokens, sample=sample, temperature=temperature, seed=seed)
        return Answer(
            prompt=prompt,
            rendered=rendered,
            text=str(tokenizer.decode(new, skip_special_tokens=True)),
            tokens=len(new),
            seconds=time.perf_counter() - began,
            model=self.model,
            base=self.base,
            finished=len(new) < max_new_tokens or new[-1] in _ends(model),
        )

    def __enter__(self) -> Generator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the model and give its memory back."""
        import torch

        self._parts = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def __repr__(self) -> str:
        return f"Generator({self.model!r}{f', base={self.base!r}' if self.base else ''}{'' if self._parts else ', closed'})"


def load_generator(source: Run | str | Path, *, base: bool = False, runs_root: Path | str | None = None) -> Generator:
    """Load a model to ask it several prompts: `with load_generator(run) as ask: ask("Who?")`.

    Args:
        source: a run (its best, else its latest checkpoint), a checkpoint or model folder, or an adapter folder.
        base: ask the base model of the adapter, or the model that the run started from, instead.
        runs_root: where runs named by id lie.

    Raises:
        RequestError: there is no such model, or no base model is known.
    """
    return Generator(find_model(source, base=base, runs_root=runs_root))


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
    """Let a model continue a prompt, greedily unless `sample` is set; `load_generator` keeps the model for the next prompt.

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
    _check_length(max_new_tokens)  # before a model is loaded for nothing
    with load_generator(source, base=base, runs_root=runs_root) as ask:
        return ask(prompt, max_new_tokens=max_new_tokens, chat=chat, sample=sample, temperature=temperature, seed=seed, on_text=on_text)


def _check_length(max_new_tokens: int) -> None:
    if max_new_tokens < 1:
        raise RequestError("An answer needs at least one token.", found=f"max_new_tokens {max_new_tokens}", expected="1 or more")


@dataclass(frozen=True)
class Found:
    """A model to ask: `folder` (or id) of the weights or the adapter, `base` of an adapter, and the run that it comes from."""

    folder: str
    base: str | None
    run: RunFolder | None


def find_model(source: Run | str | Path, *, base: bool = False, runs_root: Path | str | None = None) -> Found:
    """Return where the weights lie and, for an adapter, its base model.

    Raises:
        RequestError: there is no such run or folder, or no base model is known, or it is not where it was.
    """
    from automodel.checkpoint import base_of, model_folder
    from automodel.run import Run, attach, run_around

    path = source.path if isinstance(source, Run) else Path(source).expanduser()
    if not path.is_dir():
        path = attach(str(source), runs_root).path
    folder = model_folder(path)
    origin = base_of(folder) if (folder / "adapter_config.json").is_file() else None
    run = run_around(path) or run_around(folder)
    if not base:
        return Found(str(folder), origin, run)
    start = origin or _start_of(run)
    if start is None:
        fix = "name the base model's folder in place of this one"
        raise RequestError("The base model is not known.", found=str(folder), expected="a run, or an adapter folder", fix=fix)
    return Found(start, None, run)


def _start_of(run: RunFolder | None) -> str | None:
    """Return the model that a run started from; None after random weights."""
    from automodel.recipe import Recipe
    from automodel.run import find_base

    if run is None or not run.recipe_path.is_file():
        return None
    allowed = run.record().get("launch", {}).get("allow_targets", ())
    named = Recipe.from_yaml(run.recipe_path, allow_targets=allowed).model.pretrained_model_name_or_path
    return None if named is None else find_base(named, run)


def _load(found: Found) -> tuple[Any, Any]:
    import torch

    from automodel.auto import NeMoAutoTokenizer
    from automodel.checkpoint import load_model
    from automodel.checkpoint.save import quiet_bars

    device = "cuda" if torch.cuda.is_available() else "cpu"
    # A CPU computes float32 exactly and, without bfloat16 instructions, faster as well.
    dtype = "auto" if device == "cuda" else torch.float32
    with quiet_bars():
        model = load_model(found.folder, base=found.base, run=found.run, dtype=dtype, device=device)
    own = Path(found.folder) / "tokenizer_config.json"
    tokenizer = NeMoAutoTokenizer.from_pretrained(found.base if found.base is not None and not own.is_file() else found.folder)
    return model, tokenizer


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
