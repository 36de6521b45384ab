"""Conversations: from the shapes that data sets have to one, the messages of OpenAI.

Read are `messages` (role and content), ShareGPT's `conversations` (from and value), and `prompt` with `completion`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from automodel.data.tables import Record
from automodel.errors import DataError

Message = dict[str, Any]
COLUMNS = ("messages", "conversations", "conversation")
# Every word for a speaker that data sets use, and the role it is.
ROLES = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
}
INSTRUCTIONS = ("system", "developer")
_SHAPE = '{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}'


@dataclass(frozen=True, slots=True)
class Chat:
    """One conversation in the form of OpenAI; contents are a text or a list of parts such as {"type": "text", "text": ...}."""

    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...]
    where: str

    @property
    def turns(self) -> tuple[int, ...]:
        """Places of the messages in which the assistant says or calls something."""
        return tuple(at for at, message in enumerate(self.messages) if message["role"] == "assistant" and _says(message))


def read_chat(where: str, record: Record, *, system: str | None = None) -> Chat:
    """Read the conversation of a row; `system` is put first where it has no system message.

    Raises:
        DataError: the row holds no conversation, or a message of it cannot be read; the row and the message are named.
    """
    column = next((name for name in COLUMNS if record.get(name) is not None), None)
    if column is not None:
        messages = _messages(where, column, record[column])
    elif record.get("prompt") is not None and record.get("completion") is not None:
        messages = [*_side(where, "prompt", record["prompt"], "user"), *_side(where, "completion", record["completion"], "assistant")]
    else:
        raise _no_conversation(where, record)
    own = record.get("system")
    head = own if isinstance(own, str) and own.strip() else system
    if head and not any(message["role"] in INSTRUCTIONS for message in messages):
        messages = [{"role": "system", "content": head}, *messages]
    return Chat(tuple(messages), _tools(where, record.get("tools")), where)


def text_only(chat: Chat) -> Chat:
    """Return the conversation with each content as one text.

    Raises:
        DataError: a content has a part that is no text; a model that reads text alone cannot take it.
    """
    messages = []
    for at, message in enumerate(chat.messages):
        other = next((part["type"] for part in parts(message["content"]) if part["type"] != "text"), None)
        if other is not None:
            raise DataError(
                f"A message holds more than text ({chat.where}, message {at + 1}).",
                found=f"a part of the type {other}",
                expected="text alone: this recipe trains a model that reads only text",
                fix="train a model for images and text (recipe: FinetuneRecipeForVLM), or leave out rows with such parts",
            )
        messages.append({**message, "content": text_of(message)})
    return replace(chat, messages=tuple(messages))


def parts(content: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a content as a list of parts."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def text_of(message: Message) -> str:
    """Return the text of a message, without its other parts."""
    return "".join(part["text"] for part in parts(message["content"]) if part["type"] == "text")


def _says(message: Message) -> bool:
    return bool(message.get("tool_calls")) or bool(text_of(message).strip())


def _side(where: str, column: str, value: object, role: str) -> list[Message]:
    """Read a prompt or a completion: a text of its speaker, or messages."""
    return [{"role": role, "content": value}] if isinstance(value, str) else _messages(where, column, value)


def _messages(where: str, column: str, value: object) -> list[Message]:
    if not isinstance(value, list | tuple):
        raise DataError(
            f"The column '{column}' holds no list of messages ({where}).",
            found=f"{type(value).__name__}: {str(value)[:80]}",
            expected=_SHAPE,
            fix="write the conversation as a list, one object for each message",
        )
    return [_message(f"{where}, {column}[{at}]", item) for at, item in enumerate(value)]


def _message(where: str, item: object) -> Message:
    # Tables fill absent keys with nulls, and templates ask whether a key is there.
    message = {str(key): value for key, value in item.items() if value is not None} if isinstance(item, Mapping) else {}
    speaker = message.pop("role", None) or message.pop("from", None)
    if not isinstance(speaker, str):
        raise DataError(
            f"A message does not say who speaks ({where}).",
            found=f"keys {', '.join(message)}" if message else f"{type(item).__name__}: {str(item)[:80]}",
            expected='{"role": ..., "content": ...}, or {"from": ..., "value": ...}',
            fix="give the message a role: system, user, assistant or tool",
        )
    role = ROLES.get(speaker.lower())
    if role is None:
        near = get_close_matches(speaker.lower(), ROLES, n=1)
        raise DataError(
            f"A message has an unknown speaker: {speaker} ({where}).",
            found=speaker + (f"; nearest: {near[0]}" if near else ""),
            expected=", ".join(ROLES),
            fix="rename the role, or leave out the message",
        )
    content = message.pop("content", message.pop("value", None))
    calls = message.get("tool_calls")
    if calls is not None and not (isinstance(calls, list | tuple) and all(isinstance(call, Mapping) for call in calls)):
        raise DataError(
            f"The tool calls of a message cannot be read ({where}).",
            found=f"{type(calls).__name__}: {str(calls)[:80]}",
            expected='[{"type": "function", "function": {"name": ..., "arguments": {...}}}]',
            fix="write the calls as a list of objects",
        )
    # Who only calls a tool says nothing; templates join texts, so nothing is the empty text.
    return {"role": role, "content": _content(where, "" if content is None and role == "assistant" else content), **message}


def _content(where: str, content: object) -> str | list[dict[str, Any]]:
    if isinstance(content, str):
        return content
    found = []
    for part in content if isinstance(content, list | tuple) else [content]:
        kept = {str(key): value for key, value in part.items() if value is not None} if isinstance(part, Mapping) else {}
        kind = kept.get("type")
        if not isinstance(kind, str) or (kind == "text" and not isinstance(kept.get("text"), str)):
            raise DataError(
                f"The content of a message cannot be read ({where}).",
                found=f"{type(part).__name__}: {str(part)[:80]}",
                expected='a text, or a list of parts such as {"type": "text", "text": "..."}',
                fix="write the content as a text",
            )
        found.append(kept)
    return found


def _tools(where: str, tools: object) -> tuple[dict[str, Any], ...]:
    """Read the tools of a row: a list of objects, or the same as JSON text, which tables keep better."""
    given = tools
    if isinstance(tools, str):
        try:
            tools = json.loads(tools) if tools.strip() else None
        except ValueError as error:
            raise _no_tools(where, f"{error}: {str(given)[:80]}") from error
    if tools is None:
        return ()
    if not isinstance(tools, list | tuple) or not all(isinstance(tool, Mapping) for tool in tools):
        raise _no_tools(where, f"{type(given).__name__}: {str(given)[:80]}")
    return tuple(dict(tool) for tool in tools)


def _no_tools(where: str, found: str) -> DataError:
    return DataError(
        f"The tools of a conversation cannot be read ({where}).",
        found=found,
        expected='[{"type": "function", "function": {"name": ..., "description": ..., "parameters": {...}}}]',
        fix="write them as a list of objects, or as the JSON text of one; or leave out the column 'tools'",
    )


def _no_conversation(where: str, record: Record) -> DataError:
    columns = [str(column) for column in record]
    wanted = (*COLUMNS, "prompt", "completion")
    near = next((column for column in columns if get_close_matches(column.lower(), wanted, n=1)), None)
    empty = [name for name in wanted if name in record and record[name] is None]
    return DataError(
        f"A row holds no conversation ({where}).",
        found=f"columns {', '.join(columns) or '(none)'}" + (f"; {empty[0]} is empty" if empty else f"; nearest: {near}" if near else ""),
        expected=f"{_SHAPE}, ShareGPT's conversations, or prompt and completion",
        fix="correct or leave out the row" if empty else "rename the column; questions and answers in two columns are read by `name: column_mapped`",
    )
