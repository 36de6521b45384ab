"""Conversations: which shapes are read, and that the answers with their end-of-turn marks are trained on, and nothing else."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path

import pytest

from automodel.data import build_dataset, check_dataset
from automodel.data.chat import make_renderer
from automodel.data.conversations import read_chat, text_only
from automodel.data.turns import ChatRenderer
from automodel.errors import DataError
from tests.conftest import make_tokenizer
from tests.data.conftest import load, section
from tests.data.templates import CHATML, CLOSING, GENERATION, GENERATION_IN_LINES, INST, LLAMA3, MARKS, NO_PROMPT, THINKING

pytestmark = pytest.mark.both_ends
USER, OTHER = {"role": "user", "content": "Who built it?"}, {"role": "user", "content": "When?"}
FIRST, SECOND = {"role": "assistant", "content": "Anna Vell."}, {"role": "assistant", "content": "In 1821."}
SYSTEM = {"role": "system", "content": "Be brief."}
TALK = [SYSTEM, USER, FIRST, OTHER, SECOND]
CALL = {"type": "function", "function": {"name": "look", "arguments": {"what": "stone"}}}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture(scope="session")
def marked(tmp_path_factory):
    """Return a tokenizer with the marks of turns as special tokens, and no template."""
    tokenizer = load(make_tokenizer(tmp_path_factory.mktemp("marked")))
    tokenizer.add_special_tokens({"additional_special_tokens": list(MARKS)})
    return tokenizer


def built(jsonl, tokenizer, row, template=CHATML, **fields):
    rows = row if isinstance(row, list) and isinstance(row[0], dict) and "role" not in row[0] else [{"messages": row}]
    return build_dataset(section(jsonl(rows), name="chat", chat_template=template, **fields), tokenizer, keep_text=True)


def trained(tokenizer, data, row=0):
    """Return the text of each stretch of trained tokens."""
    pairs = zip(data.input_ids(row).tolist(), data.labels(row).tolist(), strict=True)
    return [tokenizer.decode([token for token, _ in run]) for on, run in groupby(pairs, key=lambda pair: pair[1] != -100) if on]


@pytest.mark.parametrize(
    ("template", "wanted"),
    [
        (CHATML, ["Anna Vell.<|im_end|>", "In 1821.<|im_end|>"]),
        (LLAMA3, ["Anna Vell.<|eot_id|>", "In 1821.<|eot_id|>"]),
        (GENERATION, ["Anna Vell.<|im_end|>", "In 1821.<|im_end|>"]),
        (GENERATION_IN_LINES, ["Anna Vell.<|im_end|>\n", "In 1821.<|im_end|>\n"]),
        (CLOSING, ["Anna Vell.<|im_end|>", "In 1821.<|im_end|>"]),
        (NO_PROMPT, ["Anna Vell.<|im_end|>", "In 1821.<|im_end|>"]),
    ],
)
@pytest.mark.parametrize("fast", [True, False])
def test_each_answer_with_its_mark_is_trained_and_no_header(marked, jsonl, monkeypatch, template, wanted, fast):
    if not fast:
        monkeypatch.setattr(type(marked), "is_fast", property(lambda self: False))
    data = built(jsonl, marked, TALK, template)
    assert trained(marked, data) == wanted
    whole = marked.apply_chat_template(TALK, chat_template=template, tokenize=False)
    assert data.input_ids(0).tolist() == marked(whole, add_special_tokens=False)["input_ids"]
    labels = data.labels(0)
    assert (labels[labels != -100] == data.input_ids(0)[labels != -100]).all()
    assert (data.report.template, data.report.rewritten, data.report.rows_kept) == ("chat", 0, 1)
    assert trained(marked, built(jsonl, marked, TALK, template, mask_history=True)) == wanted[1:]


def test_a_template_without_headers_or_end_tokens(marked, jsonl):
    data = built(jsonl, marked, TALK[1:], INST)
    assert trained(marked, data) == [" Anna Vell.</s>", " In 1821.</s>"]
    assert data.input_ids(0)[0] == marked.bos_token_id
    bare = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
    data = built(jsonl, marked, TALK, bare)
    assert [piece.strip() for piece in trained(marked, data)] == ["Anna Vell.", "In 1821.\n</s>"]
    assert data.input_ids(0).tolist().count(marked.eos_token_id) == 1


@pytest.mark.parametrize("template", [GENERATION, GENERATION_IN_LINES])
def test_the_mask_is_that_of_the_tokenizer(marked, jsonl, template):
    wanted = marked.apply_chat_template(TALK, chat_template=template, return_dict=True, return_assistant_tokens_mask=True)
    data = built(jsonl, marked, TALK, template)
    assert data.input_ids(0).tolist() == wanted["input_ids"]
    assert (data.labels(0) != -100).astype(int).tolist() == wanted["assistant_masks"]
    assert sum(wanted["assistant_masks"]) > 5


def test_a_token_over_the_border_of_an_answer_is_trained(marked, jsonl):
    glued = (
        "{% for m in messages %}{% if m.role == 'assistant' %}An{% generation %}{{ m.content }}{% endgeneration %}ll."
        "{% else %}{{ m.content }}{% endif %}{{ eos_token }}{% endfor %}"
    )
    talk = [USER, {"role": "assistant", "content": "na Ve"}, OTHER, {"role": "assistant", "content": "na Ve"}]
    wanted = marked.apply_chat_template(talk, chat_template=glued, return_dict=True, return_assistant_tokens_mask=True)
    data = built(jsonl, marked, talk, glued)
    assert trained(marked, data) == ["na Vell", "na Vell"]
    assert (data.labels(0) != -100).astype(int).tolist() == wanted["assistant_masks"]


def test_an_empty_generation_block_is_refused(marked, jsonl):
    empty = CHATML + "{% generation %}{% endgeneration %}"
    with pytest.raises(DataError, match=r"marks nothing of the conversation .*line 1"):
        built(jsonl, marked, TALK, empty)


def test_what_generation_starts_from(marked, jsonl):
    data = built(jsonl, marked, TALK)
    prompt = marked.apply_chat_template(TALK[:-1], chat_template=CHATML, tokenize=False, add_generation_prompt=True)
    assert marked.decode(data.prompt_ids(0).tolist()) == prompt
    assert data.example(0) == (prompt, "In 1821.")
    assert data.stop_token_ids == (marked.convert_tokens_to_ids("<|im_end|>"),)


def test_what_follows_the_last_answer_is_left_out(marked, jsonl):
    assert built(jsonl, marked, [*TALK, USER]).input_ids(0).tolist() == built(jsonl, marked, TALK).input_ids(0).tolist()
    blank = [*TALK, USER, {"role": "assistant", "content": " "}]
    assert trained(marked, built(jsonl, marked, blank)) == ["Anna Vell.<|im_end|>", "In 1821.<|im_end|>"]


def test_an_answer_before_any_question_is_trained_without_its_header(marked, jsonl):
    for template in (CHATML, LLAMA3):
        assert len(trained(marked, built(jsonl, marked, [FIRST, OTHER, SECOND], template))) == 2
    assert trained(marked, built(jsonl, marked, [SYSTEM, FIRST, OTHER, SECOND]))[0] == "Anna Vell.<|im_end|>"


def test_everything_is_trained_without_the_answer_mask(marked, jsonl):
    data = built(jsonl, marked, [*TALK, USER], answer_only_loss_mask=False)
    assert (data.labels(0) == data.input_ids(0)).all()
    assert marked.decode(data.input_ids(0).tolist()).endswith("Who built it?<|im_end|>\n")
    short = built(jsonl, marked, [SYSTEM, USER, {"role": "assistant", "content": "Anna Vell. " * 9}], answer_only_loss_mask=False, seq_length=40)
    assert (short.labels(0) == short.input_ids(0)).all()
    assert (len(short.labels(0)), short.report.truncated) == (40, 1)


def test_calls_of_tools_are_trained_and_their_results_are_not(marked, jsonl):
    asks, says = {"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "content": "grey", "tool_call_id": "1"}
    data = built(jsonl, marked, [{"messages": [USER, asks, says, SECOND], "tools": [TOOL]}])
    assert trained(marked, data) == ['<call>look {"what": "stone"}</call><|im_end|>', "In 1821.<|im_end|>"]
    assert '"name": "look"' in data.example(0)[0]
    as_text = {**asks, "content": None, "tool_calls": [{"function": {"name": "look", "arguments": '{"what": "stone"}'}}]}
    again = built(jsonl, marked, [{"messages": [USER, as_text, says, SECOND], "tools": json.dumps([TOOL])}])
    assert again.input_ids(0).tolist() == data.input_ids(0).tolist()
    # A template that joins the arguments to a text gets them as a text.
    joins = CHATML.replace("(call.function.arguments | tojson)", "call.function.arguments")
    assert trained(marked, built(jsonl, marked, [USER, asks, says, SECOND], joins))[0] == '<call>look {"what": "stone"}</call><|im_end|>'


def test_a_tokenizer_with_several_templates(marked, jsonl, monkeypatch):
    monkeypatch.setattr(marked, "chat_template", {"default": LLAMA3, "tool_use": CHATML})
    assert trained(marked, built(jsonl, marked, TALK, None))[0] == "Anna Vell.<|eot_id|>"
    assert trained(marked, built(jsonl, marked, [{"messages": TALK, "tools": [TOOL]}], None))[0] == "Anna Vell.<|im_end|>"
    monkeypatch.setattr(marked, "chat_template", {"rag": LLAMA3})
    with pytest.raises(DataError, match="none is the default"):
        built(jsonl, marked, TALK, None)


def test_rewritten_turns_are_read_only_and_counted(marked, jsonl):
    thought = {**SECOND, "reasoning_content": "I count the years."}
    data = built(jsonl, marked, [{"messages": [USER, {**FIRST, "reasoning_content": "Hm."}, OTHER, thought]}, {"messages": [USER, FIRST]}], THINKING)
    assert trained(marked, data) == ["<think>\nI count the years.\n</think>\n\nIn 1821.<|im_end|>"]
    assert "Hm." not in data.example(0)[0]
    assert data.report.rewritten == 1
    assert "1 trained on the last answers only" in str(data.report)
    masked = built(jsonl, marked, [USER, thought], THINKING, mask_reasoning_content=True)
    assert trained(marked, masked) == ["<think>\n", "\n</think>\n\nIn 1821.<|im_end|>"]
    assert masked.example(0)[0].endswith("<|im_start|>assistant\n")
    # A short thought that stands in the tag, too.
    short = built(jsonl, marked, [USER, {**thought, "reasoning_content": "think"}], THINKING, mask_reasoning_content=True)
    assert trained(marked, short) == ["<think>\n", "\n</think>\n\nIn 1821.<|im_end|>"]


def test_a_last_answer_that_cannot_be_told_apart_is_refused(marked, jsonl):
    opens = CHATML.replace("assistant\\n' }}{% endif %}", "assistant\\n<think>\\n' }}{% endif %}")
    with pytest.raises(DataError, match=r"writes a conversation differently once an answer is there.*line 1") as caught:
        built(jsonl, marked, TALK, opens)
    assert "<think>" in caught.value.found
    with pytest.raises(DataError, match="changes or leaves out the answer"):
        built(jsonl, marked, TALK, CHATML.replace("m.content", "m.content[:3]"))
    with pytest.raises(DataError, match=r"refuses the conversation \(.*line 1"):
        built(jsonl, marked, TALK, "{{ raise_exception('no system') }}")


def test_a_chat_template_is_needed(marked, jsonl, tmp_path: Path):
    with pytest.raises(DataError, match="need a chat template") as caught:
        built(jsonl, marked, TALK, None)
    assert "dataset.chat_template" in caught.value.fix
    with pytest.raises(DataError, match="without a chat template"):
        built(jsonl, marked, TALK, use_hf_chat_template=False)
    file = tmp_path / "template.json"
    file.write_text(json.dumps({"chat_template": CHATML}))
    assert len(trained(marked, built(jsonl, marked, TALK, str(file)))) == 2
    file.write_text("{}")
    with pytest.raises(DataError, match="chat template cannot be read"):
        built(jsonl, marked, TALK, str(file))


# Long conversations.


def long_talk(turns: int) -> list[dict[str, str]]:
    talk = [SYSTEM]
    for number in range(turns):
        talk += [{"role": "user", "content": f"Question {number}?"}, {"role": "assistant", "content": f"Answer {number}."}]
    return talk


@pytest.mark.parametrize("template", [CHATML, LLAMA3, GENERATION])
def test_the_oldest_turns_go_first(marked, jsonl, template):
    whole = built(jsonl, marked, long_talk(6), template)
    for kept in (5, 3, 1):
        limit = int(built(jsonl, marked, [SYSTEM, *long_talk(6)[-2 * kept :]], template).lengths[0])
        for room in (limit, limit + 3):
            data = built(jsonl, marked, long_talk(6), template, seq_length=room)
            text = marked.decode(data.input_ids(0).tolist())
            assert "Be brief." in text
            assert [f"Question {number}?" in text for number in range(6)] == [number >= 6 - kept for number in range(6)]
            assert trained(marked, data) == trained(marked, whole)[-kept:]
            assert (data.report.truncated, data.report.rows_kept) == (1, 1)


@pytest.mark.parametrize("limit", [3, 5, 9, 12, 20, 31])
def test_a_turn_that_is_too_long_itself_is_cut(marked, jsonl, limit):
    talk = [USER, FIRST, {"role": "user", "content": "one two three four five six seven eight nine ten " * 3}, SECOND]
    for template in (CHATML, LLAMA3):
        data = built(jsonl, marked, talk, template, seq_length=limit)
        assert 1 <= data.supervised[0] < data.lengths[0] <= limit
        assert data.report.truncated == 1
        assert (data.labels(0)[: data.prompt_lengths[0]] == -100).all()
        whole = "".join(trained(marked, built(jsonl, marked, talk, template))[1:])
        assert whole.startswith(trained(marked, data)[0])
        if limit >= 31:
            assert trained(marked, data) == [whole]
            assert marked.decode(data.input_ids(0).tolist()[:8]).startswith(("<|im_start|>user", "<s><|start_header_id|>user"))


def test_rows_that_lose_everything_are_counted(marked, jsonl):
    with pytest.raises(DataError, match="no token to train on: all 1 rows") as caught:
        built(jsonl, marked, TALK, seq_length=1)
    assert "1 with all labels masked" in caught.value.found
    with pytest.raises(DataError, match="no token to train on") as caught:
        built(jsonl, marked, TALK, seq_length=20, truncation=False)
    assert "1 longer than seq_length" in caught.value.found


# Shapes of rows.


@pytest.mark.parametrize(
    "row",
    [
        {"messages": TALK},
        {"messages": [{**message, "tool_calls": None, "name": None} for message in TALK], "tools": None},
        {"messages": [{"role": m["role"], "content": [{"type": "text", "text": m["content"], "image": None}]} for m in TALK]},
        {"conversations": TALK},
        {
            "conversations": [
                {"from": "system", "value": SYSTEM["content"]},
                {"from": "human", "value": USER["content"]},
                {"from": "gpt", "value": FIRST["content"]},
                {"from": "user", "value": OTHER["content"]},
                {"from": "Assistant", "value": SECOND["content"]},
            ]
        },
        {"system": SYSTEM["content"], "conversations": TALK[1:]},
        {"prompt": TALK[:-1], "completion": TALK[-1:]},
        {"prompt": TALK[:-1], "completion": SECOND["content"]},
    ],
)
def test_shapes(row):
    chat = text_only(read_chat("rows, line 1", row))
    assert [dict(message) for message in chat.messages] == TALK
    assert chat.turns == (2, 4)
    assert chat.tools == ()


def test_texts_of_prompt_and_completion_and_the_system_prompt(marked, jsonl):
    chat = read_chat("w", {"prompt": "Who built it?", "completion": "Anna Vell."}, system="Be brief.")
    assert list(chat.messages) == [SYSTEM, USER, FIRST]
    other = {"role": "system", "content": "Be long."}
    assert read_chat("w", {"messages": [other, USER, FIRST]}, system="Be brief.").messages[0] == other
    data = built(jsonl, marked, [USER, FIRST], system_prompt="Be brief.")
    assert data.example(0)[0].startswith("<|im_start|>system\nBe brief.<|im_end|>\n")


def test_messages_keep_what_templates_ask_for():
    row = {"conversations": [{"from": "human", "value": "?"}, {"from": "observation", "value": "grey", "name": "look", "weight": None}]}
    assert read_chat("w", row).messages[1] == {"role": "tool", "content": "grey", "name": "look"}


@pytest.mark.parametrize(
    ("row", "words", "found"),
    [
        ({"message": [USER, FIRST]}, "holds no conversation", "nearest: message"),
        ({"messages": None}, "holds no conversation", "messages is empty"),
        ({"prompt": "x"}, "holds no conversation", "columns prompt"),
        ({"messages": "hello"}, "no list of messages", "str: hello"),
        ({"messages": ["hello"]}, r"does not say who speaks \(.*line 1, messages\[0\]", "str: hello"),
        ({"messages": [{"content": "x"}]}, "does not say who speaks", "keys content"),
        ({"messages": [{"role": "asistant", "content": "x"}]}, "unknown speaker: asistant", "nearest: assistant"),
        ({"messages": [USER, {"role": "user"}]}, r"content of a message cannot be read \(.*messages\[1\]", "NoneType"),
        ({"messages": [{"role": "user", "content": 3}]}, "content of a message cannot be read", "int: 3"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "content of a message cannot be read", "dict"),
        ({"messages": [USER, {**FIRST, "tool_calls": "look"}]}, "tool calls of a message cannot be read", "str: look"),
        ({"messages": [USER, FIRST], "tools": "look"}, "tools of a conversation cannot be read", "look"),
        ({"messages": [USER, FIRST], "tools": [3]}, "tools of a conversation cannot be read", "list"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "url": "x"}]}, FIRST]}, "holds more than text", "type image"),
    ],
)
def test_other_rows_are_refused_with_their_place(marked, jsonl, row, words, found):
    path = jsonl([row])
    for look in (lambda: check_dataset(section(path, name="chat")), lambda: build_dataset(section(path, name="chat", chat_template=CHATML), marked)):
        with pytest.raises(DataError, match=words) as caught:
            look()
        assert found in caught.value.found
        assert "line 1" in caught.value.what
        assert caught.value.expected
        assert caught.value.fix


def test_rows_that_cannot_be_read_are_left_out_if_asked(marked, jsonl):
    rows = [{"text": "x"}, {"messages": TALK}, {"messages": [USER]}]
    data = built(jsonl, marked, rows, skip_invalid_samples=True)
    report = data.report
    assert (report.rows_read, report.rows_kept, report.dropped_invalid, report.dropped_no_answer) == (3, 1, 1, 1)
    assert "1 that cannot be read left out" in str(report)
    with pytest.raises(DataError, match="no token to train on") as caught:
        built(jsonl, marked, rows[:1], skip_invalid_samples=True)
    assert "1 that cannot be read" in caught.value.found
    assert "holds no conversation" in caught.value.fix


def test_a_set_without_answers_is_refused(marked, jsonl):
    with pytest.raises(DataError, match="no token to train on: all 2 rows") as caught:
        built(jsonl, marked, [{"messages": [USER, OTHER]}, {"messages": []}])
    assert "2 without an answer" in caught.value.found
    with pytest.raises(DataError, match="no token to train on"):
        check_dataset(section(jsonl([{"messages": [USER]}]), name="chat"))
    assert check_dataset(section(jsonl([{"messages": TALK}, {"messages": [USER]}]), name="chat")) == 1


def test_contents_of_parts_for_a_template_that_reads_parts(marked):
    template = (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% for part in m.content %}"
        "{{ part.text if part.type == 'text' else '<image>' }}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    content = [{"type": "image", "url": "x.png"}, {"type": "text", "text": "What is it?"}]
    row = {"messages": [{"role": "user", "content": content}, {"role": "assistant", "content": [{"type": "text", "text": "A bridge."}]}]}
    for wording in (template, template.replace("{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}", "")):
        found = ChatRenderer(marked, template=wording).render(read_chat("w", row))
        assert [found.text[start:end] for start, end in found.trained] == ["A bridge.<|im_end|>"]
        assert "<image>What is it?" in found.text
    assert make_renderer(section(None, name="chat", chat_template=template), marked)
