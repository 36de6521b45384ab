"""Formatting: from a question row to one text, with the places where the answer begins and ends."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automodel.data.rows import Row
from automodel.errors import DataError
from automodel.recipe.schema import DatasetSection

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_FIELD = re.compile(r"\{(\w+)\}")
# Stands in a text where an answer would, so that the template's own part can be seen.
MARKER = "answer-goes-here"


@dataclass(frozen=True, slots=True)
class Rendered:
    """The whole text of one example; all places count characters of `text`."""

    text: str
    prompt_end: int
    answer_end: int
    context: tuple[int, int]


Formatter = Callable[[Row], Rendered]


def make_formatter(section: DatasetSection, tokenizer: PreTrainedTokenizerBase) -> tuple[Formatter, bool]:
    """Return the function that renders rows, and whether it uses a chat template."""
    own = read_chat_template(section.chat_template)
    has_template = bool(own or tokenizer.chat_template)
    if section.use_hf_chat_template and not has_template:
        raise DataError(
            "use_hf_chat_template is set, and the tokenizer has no chat template.",
            found="no chat_template in the tokenizer or in the dataset section",
            expected="a tokenizer of a chat model, or an own template",
            fix="remove `use_hf_chat_template` (a plain prompt is used then), or set `dataset.chat_template` to a Jinja text or file",
        )
    user = _template_text(section)
    if has_template and section.use_hf_chat_template is not False:
        return _ChatFormatter(tokenizer, own, user, section.system_prompt), True
    return _PlainFormatter(user, section.system_prompt), False


def read_chat_template(value: str | None) -> str | None:
    """Return the text of a chat template that is given as text, or as the name of a file: Jinja, or JSON with `chat_template`."""
    if value is None or "{" in value or "\n" in value:
        return value
    path = Path(value).expanduser()
    try:
        text = path.read_text(encoding="utf-8")
        return str(json.loads(text)["chat_template"]) if path.suffix == ".json" else text
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"The chat template cannot be read: {value}.",
            found=f"{type(error).__name__}: {error}",
            expected="a Jinja text, or a file that holds one",
            fix="correct `chat_template`",
        ) from error


def user_text(section: DatasetSection) -> Callable[[Row], str]:
    """Return what writes a row as a message of the user: by `prompt_template`, else context and question.

    Raises:
        DataError: the template does not name the columns.
    """
    return _template_text(section) or _chat_prompt


def _template_text(section: DatasetSection) -> Callable[[Row], str] | None:
    template = section.prompt_template
    if template is None:
        return None
    names = set(_FIELD.findall(template))
    if not names & {"context", "question"} or names - {"context", "question"}:
        raise DataError(
            "The prompt_template does not name the right columns.",
            found=f"{{{'}, {'.join(sorted(names))}}}" if names else "no {question} and no {context}",
            expected="a text with {question}, {context} or both",
            fix='for instance `prompt_template: "{context}\\n\\nQuestion: {question}\\nAnswer:"`',
        )
    # One pass, and no str.format: braces in the data must stay as they are.
    return lambda row: _FIELD.sub(lambda match: row.context if match[1] == "context" else row.question, template)


def span_of(text: str, part: str) -> tuple[int, int]:
    """Return where a part stands in a text, or an empty span at its beginning."""
    start = text.find(part) if part else -1
    return (start, start + len(part)) if start >= 0 else (0, 0)


class _PlainFormatter:
    """Prompt and answer as plain text, for tokenizers without a chat template."""

    def __init__(self, user: Callable[[Row], str] | None, system: str | None) -> None:
        self._user = user or _plain_prompt
        self._head = f"{system}\n\n" if system else ""

    def __call__(self, row: Row) -> Rendered:
        prompt = self._head + self._user(row)
        joint = "" if prompt[-1:].isspace() else " "
        text = prompt + joint + row.answers[0].strip()
        return Rendered(text, len(prompt), len(text), span_of(prompt, row.context))


def _plain_prompt(row: Row) -> str:
    context = f"{row.context}\n\n" if row.context else ""
    return f"{context}Question: {row.question}\nAnswer:" if row.question else f"{context}Answer:"


def _chat_prompt(row: Row) -> str:
    return "\n\n".join(part for part in (row.context, row.question) if part)


class _ChatFormatter:
    """A conversation of one turn, rendered by a chat template."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: str | None, user: Callable[[Row], str] | None, system: str | None) -> None:
        self._tokenizer, self._template, self._user = tokenizer, template, user or _chat_prompt
        self._trail: str | None = None
        self._head = [{"role": "system", "content": system}] if system else []

    def __call__(self, row: Row) -> Rendered:
        answer = row.answers[0].strip()
        messages = [*self._head, {"role": "user", "content": self._user(row)}]
        prompt, text = self._render(messages, None), self._render(messages, answer)
        if not text.startswith(prompt):
            raise DataError(
                "The chat template writes the prompt differently once the answer is there, so the answer cannot be told from the prompt.",
                found=f"prompt ends with {prompt[-60:]!r}, the whole text with {text[-60 - len(answer) :]!r}",
                expected="a template whose text with add_generation_prompt is the beginning of the text with the answer",
                fix="set `use_hf_chat_template: false` for a plain prompt, or give another template as `chat_template: FILE`",
            )
        if self._trail is None:
            # Where a short answer ends cannot be searched for (it may stand in a tag, too): a marker shows what the template appends.
            self._trail = self._render(messages, MARKER).rpartition(MARKER)[2]
        end = len(text) - len(self._trail)
        if not text.endswith(self._trail) or not text[len(prompt) : end].endswith(answer):
            raise DataError(
                f"The chat template changes or leaves out the answer ({row.where}).",
                found=repr(text[len(prompt) :][:120]),
                expected=f"a text that holds {answer[:60]!r}",
                fix="set `use_hf_chat_template: false`, or give another template as `chat_template: FILE`",
            )
        return Rendered(text, len(prompt), end, span_of(prompt, row.context))

    def _render(self, messages: list[dict[str, str]], answer: str | None) -> str:
        """Render the conversation with its answer, or without one and ready for it."""
        if answer is not None:
            messages = [*messages, {"role": "assistant", "content": answer}]
        fix = "remove `system_prompt` if the model knows no system role, or set `use_hf_chat_template: false`"
        return write_chat(self._tokenizer, messages, template=self._template, ready=answer is None, fix=fix)


def write_chat(
    source: Any,
    messages: Sequence[dict[str, Any]],
    *,
    template: str | None,
    tools: list[dict[str, Any]] | None = None,
    ready: bool = False,
    where: str = "",
    fix: str = "",
) -> str:
    """Return messages as a chat template writes them.

    Args:
        source: a tokenizer or a processor.
        messages: the conversation, in the form of OpenAI.
        template: a template in place of the source's own.
        tools: the functions that the assistant may call.
        ready: write the header of the answer to come, too.
        where: place of the row, for messages.
        fix: what to do when the template refuses.

    Raises:
        DataError: the template refuses the conversation.
    """
    from jinja2 import TemplateError

    try:
        text = source.apply_chat_template(list(messages), tools=tools or None, chat_template=template, tokenize=False, add_generation_prompt=ready)
    except (TemplateError, TypeError) as error:
        raise DataError(
            "The chat template refuses the conversation" + (f" ({where})." if where else "."),
            found=f"{error}; roles {', '.join(message['role'] for message in messages)}",
            expected="a template that takes system (if set), user and assistant messages",
            fix=fix,
        ) from error
    return str(text)
