"""Turns: a conversation as the text that a chat template makes of it, and where in it the assistant speaks.

What is trained on is each answer with its end-of-turn mark: never the header that a template writes in front of an answer (generation gives it),
never what others say. A template with a {% generation %} block says so itself. With others, an answer is what stands between the text that asks
for it and the text up to its end. Both must be the beginning of the whole text: a template that writes earlier turns differently once others
follow (reasoning models drop what was thought) shows an answer in a form that the model never writes, so such turns are read only, and counted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from automodel.data.conversations import Chat, Message, parts
from automodel.data.formatting import MARKER, write_chat
from automodel.errors import DataError

Span = tuple[int, int]
_BLOCK = re.compile(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}")
_MARKS = ("answer-starts-here", "answer-ends-here")


@dataclass(frozen=True, slots=True)
class RenderedChat:
    """The text of a conversation; all places count characters.

    Attributes:
        text: the whole text.
        trained: (start, end) of each stretch that is trained on, in order.
        answer: where the last answer begins.
        rewritten: answers that are not trained on, because the template writes them differently once others follow.
    """

    text: str
    trained: tuple[Span, ...]
    answer: int
    rewritten: int = 0


class ChatRenderer:
    """Writes conversations by a chat template and finds the stretches to train on.

    Args:
        source: a tokenizer or a processor: whatever has `apply_chat_template` and `chat_template`.
        template: a template in place of the source's own.
        everything: train on the whole text.
        mask_history: train on the last answer only.
        mask_reasoning: do not train on the `reasoning_content` of messages.

    Raises:
        DataError: there is no chat template.
    """

    def __init__(
        self, source: Any, *, template: str | None = None, everything: bool = False, mask_history: bool = False, mask_reasoning: bool = False
    ) -> None:
        self._source, self._templates = source, template or source.chat_template
        self._everything, self._mask_history, self._mask_reasoning = everything, mask_history, mask_reasoning
        self._eos = getattr(getattr(source, "tokenizer", source), "eos_token", None)
        if not self._templates:
            raise DataError(
                "Conversations need a chat template, and the tokenizer has none.",
                found="no chat_template in the tokenizer or in the dataset section",
                expected="a tokenizer of a chat model, or an own template",
                fix="set `dataset.chat_template` to a Jinja text or file, or train the chat (instruct) version of the model",
            )

    def render(self, chat: Chat) -> RenderedChat:
        """Return text and trained stretches of a conversation; what follows the last answer is left out, for nothing is learned from it.

        Raises:
            DataError: the template refuses the conversation, or its last answer cannot be told from the rest.
        """
        if self._everything:
            text = self._write(chat, chat.messages)
            head = self._before(chat, chat.turns[-1]) if chat.turns else ""
            return RenderedChat(text, ((0, len(text)),), len(head) if text.startswith(head) else 0)
        messages = chat.messages[: chat.turns[-1] + 1] if chat.turns else chat.messages
        text = self._write(chat, messages)
        if not chat.turns:
            return RenderedChat(text, (), len(text))
        spans, rewritten = self._marked(chat, messages, text) if _BLOCK.search(self._template(chat)) else self._found(chat, text)
        answer = spans[-1][0]
        if self._mask_reasoning:
            for hole in self._thoughts(chat, messages, text):
                spans = _without(spans, hole)
        return RenderedChat(text, tuple(spans), answer, rewritten)

    def _template(self, chat: Chat) -> str:
        if isinstance(self._templates, str):
            return self._templates
        name = "tool_use" if chat.tools and "tool_use" in self._templates else "default"
        if name not in self._templates:
            raise DataError(
                "The tokenizer has several chat templates, and none is the default one.",
                found=", ".join(sorted(self._templates)),
                expected="a template named default",
                fix="set `dataset.chat_template` to the text or file of one",
            )
        return str(self._templates[name])

    def _marked(self, chat: Chat, messages: Sequence[Message], text: str) -> tuple[list[Span], int]:
        """Return what the template itself marks as written by the assistant."""
        spans = self._blocks(chat, messages, text)
        if self._mask_history and chat.turns[-1]:
            history = messages[: chat.turns[-1]]
            spans = spans[len(self._blocks(chat, history, self._write(chat, history))) :]
        if not spans:
            raise DataError(
                f"The chat template marks nothing of the conversation as written by the assistant ({chat.where}).",
                found="an empty {% generation %} block",
                expected="{% generation %} and {% endgeneration %} around what the assistant says",
                fix="correct the template, or give another as `dataset.chat_template`; without such a block, answers are found by themselves",
            )
        return spans, 0

    def _blocks(self, chat: Chat, messages: Sequence[Message], text: str) -> list[Span]:
        # Marks in place of the block's borders; `if` keeps the white space around them as the block would.
        marking = _BLOCK.sub(lambda m: f"{{%{m[1]} if true %}}{_MARKS[bool(m[2])]}{{% endif {m[3]}%}}", self._template(chat))
        spans, plain, start = [], "", 0
        for piece in re.split(f"({'|'.join(_MARKS)})", self._write(chat, messages, template=marking)):
            if piece == _MARKS[0]:
                start = len(plain)
            elif piece == _MARKS[1]:
                spans += [(start, len(plain))] if len(plain) > start else []
            else:
                plain += piece
        if plain != text:
            raise _unclear(chat, "The chat template writes the text differently when its {% generation %} blocks are followed", plain, text)
        return spans

    def _found(self, chat: Chat, text: str) -> tuple[list[Span], int]:
        """Return the answers that can be told from the rest by the beginnings of the text, and how many cannot."""
        spans = []
        last = chat.turns[-1]
        turns = (last,) if self._mask_history else chat.turns
        for turn in turns:
            try:
                spans.append(self._turn(chat, turn, text))
            except DataError:
                # Earlier answers may be written otherwise for a good reason; the last one is what the model is to write.
                if turn == last:
                    raise
        return spans, len(turns) - len(spans)

    def _turn(self, chat: Chat, turn: int, text: str) -> Span:
        before, through = self._before(chat, turn), self._through(chat, turn)
        for part in (before, through):
            if not text.startswith(part):
                raise _unclear(chat, "The chat template writes a conversation differently once an answer is there", part, text)
        message = chat.messages[turn]
        said = through[len(before) :]
        # Models that think write their thoughts into the content, where templates set them anew.
        content = next((part["text"] for part in reversed(parts(message["content"])) if part["type"] == "text"), "").rpartition("</think>")[2].strip()
        if content not in said:
            raise DataError(
                f"The chat template changes or leaves out the answer ({chat.where}).",
                found=repr(said[:120]),
                expected=f"a text that holds {content[:60]!r}",
                fix="give another template as `dataset.chat_template: FILE`",
            )
        # A line break behind the end-of-turn mark is no part of the answer; where there is no such mark, it is the mark.
        unmarked = content and not message.get("tool_calls") and said.rstrip().endswith(content)
        return len(before), len(before) + len(said if unmarked else said.rstrip())

    def _through(self, chat: Chat, turn: int) -> str:
        """Return the text up to the end of a turn."""
        text = self._write(chat, chat.messages[: turn + 1])
        body = text.removesuffix(self._eos) if self._eos else text
        if body != text:
            more = self._write(chat, chat.messages[: turn + 1], ready=True)
            # An EOS that goes when another turn is to come ends the conversation, not the turn.
            if more.startswith(body) and not more.startswith(text):
                return body
        return text

    def _before(self, chat: Chat, turn: int) -> str:
        """Return the text up to what the assistant writes: with the header of its turn."""
        history = chat.messages[:turn]
        if any(message["role"] == "user" for message in history):
            prompt = self._write(chat, history, ready=True)
            if prompt != self._write(chat, history):
                return prompt
        # Nothing asks for this answer, or the template does not know add_generation_prompt: then the header is what stands in front of a content.
        return self._write(chat, (*history, {"role": "assistant", "content": _like(chat.messages[turn], MARKER)})).partition(MARKER)[0]

    def _thoughts(self, chat: Chat, messages: Sequence[Message], text: str) -> list[Span]:
        spans = []
        for turn in chat.turns:
            if not messages[turn].get("reasoning_content"):
                continue
            marked = self._write(chat, [*messages[:turn], {**messages[turn], "reasoning_content": MARKER}, *messages[turn + 1 :]])
            head, found, tail = marked.partition(MARKER)
            if found and not (text.startswith(head) and text.endswith(tail)):
                raise _unclear(chat, "The chat template writes a conversation differently for other reasoning", head, text)
            spans += [(len(head), len(text) - len(tail))] if found else []
        return spans

    def _write(self, chat: Chat, messages: Sequence[Message], *, template: str | None = None, ready: bool = False) -> str:
        def write(form: Any) -> str:
            return write_chat(
                self._source,
                [_with_arguments(message, form) for message in messages],
                template=template or self._template(chat),
                tools=list(chat.tools),
                ready=ready,
                where=chat.where,
                fix="mend the order of the roles; remove `system_prompt` if the model knows no system role; or give another `chat_template`",
            )

        if not messages:
            return ""
        try:
            return write(_as_object)
        except DataError as error:
            # Most templates take the arguments of a tool call as an object; some join them to a text, and say so by this error.
            if not isinstance(error.__cause__, TypeError) or not any(message.get("tool_calls") for message in messages):
                raise
        return write(_as_text)


def _like(message: Message, words: str) -> Any:
    return words if isinstance(message["content"], str) else [{"type": "text", "text": words}]


def _with_arguments(message: Message, form: Any) -> Message:
    """Return a message whose tool calls have their arguments in one form, whatever the data have."""
    if not message.get("tool_calls"):
        return message
    calls = []
    for call in message["tool_calls"]:
        function = call.get("function")
        known = isinstance(function, dict) and "arguments" in function
        calls.append({**call, "function": {**function, "arguments": form(function["arguments"])}} if known else call)
    return {**message, "tool_calls": calls}


def _as_object(arguments: Any) -> Any:
    if not isinstance(arguments, str):
        return arguments
    try:
        value = json.loads(arguments)
    except ValueError:
        return arguments  # no JSON: the words of the data
    return value if isinstance(value, dict) else arguments


def _as_text(arguments: Any) -> Any:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def _without(spans: Sequence[Span], hole: Span) -> list[Span]:
    pieces = [piece for start, end in spans for piece in ((start, min(end, hole[0])), (max(start, hole[1]), end))]
    return [(start, end) for start, end in pieces if start < end]


def _unclear(chat: Chat, what: str, part: str, text: str) -> DataError:
    at = next((at for at, (one, other) in enumerate(zip(part, text, strict=False)) if one != other), min(len(part), len(text)))
    return DataError(
        f"{what}, so the answer cannot be told from the rest ({chat.where}).",
        found=f"{part[max(at - 40, 0) : at + 40]!r} in one, {text[max(at - 40, 0) : at + 40]!r} in the other",
        expected="a template whose text with add_generation_prompt begins the text with the answer, or one with a {% generation %} block",
        fix="give another template as `dataset.chat_template: FILE`",
    )
