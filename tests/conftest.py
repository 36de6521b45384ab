"""Fixtures that several rooms share: a tiny tokenizer and a tiny random Llama, made once a session, on disk, without a network."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

# the same examples in every run: a failure is then a change in the code, never chance
settings.register_profile("fixed", derandomize=True)
settings.load_profile("fixed")

TEXTS = [
    "The bridge of Harrow was built in 1821 by Anna Vell. It is 340 metres long and made of stone.",
    "context: The ferry leaves at noon. question: When does the ferry leave? answer: at noon",
    "Who built the bridge? Anna Vell. When was it built? In 1821. What is it made of? Stone.",
]


def make_tokenizer(folder: Path, *, chat_template: str | None = None, pad_is_eos: bool = False) -> Path:
    """Write a byte-level BPE tokenizer of about 300 tokens in the form that transformers 4 and 5 both read."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>", "<|user|>", "<|assistant|>"]
    core.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    pad = "</s>" if pad_is_eos else "<pad>"
    fast = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token=pad)
    if chat_template:
        fast.chat_template = chat_template
    fast.save_pretrained(folder)
    return folder


CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


@pytest.fixture(scope="session")
def tiny_tokenizer_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="session")
def tiny_chat_tokenizer_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tokenizer(tmp_path_factory.mktemp("chat-tokenizer"), chat_template=CHAT_TEMPLATE)


def make_llama(folder: Path, **changes: object) -> Path:
    """Write a random Llama of two layers with the tiny tokenizer beside it."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    settings: dict[str, object] = {
        "vocab_size": 320,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "tie_word_embeddings": False,
    }
    settings.update(changes)
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**settings)).to(torch.float32).save_pretrained(folder)
    make_tokenizer(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_llama(tmp_path_factory.mktemp("llama"))
