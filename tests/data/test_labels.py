"""Labels: the answer and one end-of-turn token, whatever the tokenizer."""

from __future__ import annotations

import numpy as np
import pytest

from automodel.data import build_dataset
from automodel.errors import DataError
from tests.data.conftest import ROWS, section

pytestmark = pytest.mark.both_ends
TURNS = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + eos_token + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
CASES = [(chat, same) for chat in (False, True) for same in (False, True)]


@pytest.mark.parametrize(("chat", "pad_is_eos"), CASES)
def test_labels_cover_the_answer_and_one_eos(tokenizers, jsonl, chat, pad_is_eos):
    tokenizer = tokenizers(chat, pad_is_eos)
    data = build_dataset(section(jsonl()), tokenizer, keep_text=True)
    assert data.report.template == ("chat" if chat else "plain")
    for index, row in enumerate(ROWS):
        ids, labels = data.input_ids(index), data.labels(index)
        trained = labels != -100
        answer = row["answers"]["text"][0]
        assert tokenizer.decode(ids[trained].tolist()).strip() == answer + "</s>"
        assert (labels[trained] == ids[trained]).all()
        assert (ids[trained] == tokenizer.eos_token_id).sum() == 1
        assert labels[-1] == tokenizer.eos_token_id
        assert data.supervised[index] == trained[1:].sum()
        assert not trained[: data.prompt_lengths[index]].any()
        assert data.example(index)[1] == answer
    assert data.stop_token_ids == (tokenizer.eos_token_id,)
    assert data.answers(1) == ("at noon", "noon")


@pytest.mark.parametrize(("chat", "pad_is_eos"), CASES)
def test_tokens_are_those_of_the_whole_text(tokenizers, jsonl, chat, pad_is_eos):
    tokenizer = tokenizers(chat, pad_is_eos)
    data = build_dataset(section(jsonl()), tokenizer)
    row = ROWS[0]
    if chat:
        messages = [
            {"role": "user", "content": f"{row['context']}\n\n{row['question']}"},
            {"role": "assistant", "content": "Anna Vell"},
        ]
        wanted = tokenizer(tokenizer.apply_chat_template(messages, tokenize=False), add_special_tokens=False)["input_ids"]
        prompt = tokenizer.apply_chat_template(messages[:1], tokenize=False, add_generation_prompt=True)
        assert tokenizer.decode(data.prompt_ids(0).tolist()) == prompt
    else:
        text = f"{row['context']}\n\nQuestion: {row['question']}\nAnswer: Anna Vell"
        wanted = [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    assert data.input_ids(0).tolist() == wanted
    assert data.input_ids(0).dtype == np.int32


def test_bos_is_added_once_where_the_tokenizer_adds_it(tokenizers, jsonl, tmp_path):
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    core = tokenizers()
    core.save_pretrained(tmp_path / "t")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tmp_path / "t")
    # This one also adds EOS, which must not come twice.
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    data = build_dataset(section(jsonl()), tokenizer)
    ids = data.input_ids(0).tolist()
    assert ids[0] == 1
    assert ids.count(1) == 1
    assert ids[-1] == 2
    assert ids.count(2) == 1
    short = build_dataset(section(jsonl(), seq_length=24), tokenizer)
    assert short.report.truncated == 3
    assert {short.input_ids(row)[0] for row in range(3)} == {1}
    assert (short.labels(0) != -100).sum() == (data.labels(0) != -100).sum()


def test_text_behind_the_end_of_turn_is_not_trained(tokenizers, jsonl):
    tokenizer = tokenizers(True)
    data = build_dataset(section(jsonl(), chat_template=TURNS), tokenizer)
    ids, labels = data.input_ids(0), data.labels(0)
    assert tokenizer.decode(ids[-1:].tolist()) == "\n"
    assert labels[-1] == -100
    assert labels[-2] == tokenizer.eos_token_id
    assert tokenizer.decode(ids[labels != -100].tolist()) == "Anna Vell</s>"


@pytest.mark.parametrize("answer", ["think", "k", "s", "assistant", "</s"])
def test_answers_that_stand_in_a_tag_are_trained_whole(tokenizers, jsonl, answer):
    template = TURNS.replace("m['content']", "('<think></think>' if m['role'] == 'assistant' else '') + m['content']")
    tokenizer = tokenizers(True)
    data = build_dataset(section(jsonl([{**ROWS[0], "answers": [answer]}]), chat_template=template), tokenizer)
    trained = data.labels(0)[data.labels(0) != -100]
    assert tokenizer.decode(trained.tolist()) == f"<think></think>{answer}</s>"


def test_a_template_that_leaves_out_the_answer_is_refused(tokenizers, jsonl):
    with pytest.raises(DataError, match=r"changes or leaves out the answer \(.*line 1\)"):
        build_dataset(section(jsonl(), chat_template="{{ messages[0]['content'] }}{{ eos_token }}"), tokenizers(True))


def test_a_template_without_end_token_gets_eos(tokenizers, jsonl):
    template = (
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    tokenizer = tokenizers(True)
    data = build_dataset(section(jsonl(), chat_template=template), tokenizer)
    labels = data.labels(0)
    assert labels[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(labels[labels != -100].tolist()).strip() == "Anna Vell\n</s>"


def test_a_template_that_rewrites_the_prompt_is_refused(tokenizers, jsonl):
    template = "{% for m in messages %}{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}{{ '<think>' }}{% endif %}"
    with pytest.raises(DataError, match="writes the prompt differently") as caught:
        build_dataset(section(jsonl(), chat_template=template), tokenizers(True))
    assert "use_hf_chat_template: false" in caught.value.fix


def test_a_template_that_refuses_a_role_says_so(tokenizers, jsonl):
    template = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    with pytest.raises(DataError, match="refuses the conversation") as caught:
        build_dataset(section(jsonl(), chat_template=template, system_prompt="Be brief."), tokenizers(True))
    assert "System role not supported" in caught.value.found


def test_system_prompt_and_own_prompt_template(tokenizers, jsonl):
    chat = build_dataset(section(jsonl(), system_prompt="Be brief."), tokenizers(True), keep_text=True)
    assert chat.example(0)[0].startswith("<|system|>Be brief.</s>")
    own = build_dataset(section(jsonl(), prompt_template="Q {question} {not a field} C {context} A: "), tokenizers(), keep_text=True)
    assert own.example(0)[0] == f"Q {ROWS[0]['question']} {{not a field}} C {ROWS[0]['context']} A: "
    off = build_dataset(section(jsonl(), use_hf_chat_template=False), tokenizers(True))
    assert off.report.template == "plain"


def test_wrong_templates_are_refused(tokenizers, jsonl):
    with pytest.raises(DataError, match="has no chat template"):
        build_dataset(section(jsonl(), use_hf_chat_template=True), tokenizers())
    with pytest.raises(DataError, match="prompt_template does not name"):
        build_dataset(section(jsonl(), prompt_template="{instruction}"), tokenizers())
    with pytest.raises(DataError, match="chat template cannot be read"):
        build_dataset(section(jsonl(), chat_template="no-such.jinja"), tokenizers())


def test_everything_is_trained_without_the_answer_mask(plain, jsonl):
    data = build_dataset(section(jsonl(), answer_only_loss_mask=False), plain)
    assert (data.labels(0) == data.input_ids(0)).all()
    assert data.supervised[0] == data.lengths[0] - 1


def test_a_border_token_belongs_to_the_answer(plain, jsonl):
    # The prompt ends inside the token " Anna", so that token is trained whole.
    data = build_dataset(section(jsonl(ROWS[:1]), prompt_template="{question} "), plain)
    trained = data.labels(0)[data.labels(0) != -100]
    assert plain.decode(trained.tolist()) == " Anna Vell</s>"
    assert data.prompt_ids(0).tolist() == plain(ROWS[0]["question"], add_special_tokens=False)["input_ids"]


def test_borders_with_trimmed_offsets_and_with_metaspace(jsonl):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    texts = [f"{row['context']} Question: {row['question']} Answer: {row['answers']['text'][0]}" for row in ROWS]
    for byte_level in (True, False):
        core = Tokenizer(models.BPE(unk_token=None if byte_level else "<unk>"))
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False) if byte_level else pre_tokenizers.Metaspace()
        core.decoder = decoders.ByteLevel() if byte_level else decoders.Metaspace()
        if byte_level:
            core.post_processor = processors.ByteLevel(trim_offsets=True)
        alphabet = pre_tokenizers.ByteLevel.alphabet() if byte_level else ["\n"]
        core.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=400, special_tokens=["<s>", "</s>", "<unk>"], initial_alphabet=alphabet))
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
        data = build_dataset(section(jsonl()), tokenizer, keep_text=True)
        for index, row in enumerate(ROWS):
            trained = data.labels(index)[data.labels(index) != -100].tolist()
            assert trained == [*tokenizer(" " + row["answers"]["text"][0], add_special_tokens=False)["input_ids"], 1]
            assert tokenizer.decode(data.prompt_ids(index).tolist()).endswith("Answer:")


def test_slow_tokenizers_find_the_same_border(plain, jsonl, monkeypatch):
    wanted = build_dataset(section(jsonl()), plain)
    monkeypatch.setattr(type(plain), "is_fast", property(lambda self: False))
    data = build_dataset(section(jsonl()), plain)
    assert all((data.labels(row) == wanted.labels(row)).all() for row in range(3))
