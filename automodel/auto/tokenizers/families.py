"""The tokenizers of the families that have no class in transformers, as data: special tokens, what begins a text, padding, chat form.

What a folder's own tokenizer_config.json says goes before this table. Ids and forms are those of the families' published tokenizer code and
model cards; no real vocabulary file is part of this project, which the record of each tokenizer says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from automodel.auto.tokenizers.bytelevel import CL100K

Backend = Literal["sentencepiece", "ranks", "pairs"]


@dataclass(frozen=True, kw_only=True)
class Family:
    """One family and kind of vocabulary file.

    Args:
        model_type: that of its config.json.
        backend: the kind of file: a SentencePiece model, tiktoken ranks, or vocab.json with merges.txt.
        classes: its `tokenizer_class` strings, for a folder without config.json.
        named: part of the folder's own name that must be there, for two generations of one model_type.
        special: bos_token, eos_token, unk_token, pad_token.
        placed: special tokens with ids of their own; an id inside the vocabulary gives that entry a new text.
        over: only entries that begin with this may get a new text by `placed`, or be one of `roles`.
        appended: special tokens that follow the vocabulary, in order.
        words: of those, the ones that are matched only as whole words, because they are letters like any text.
        roles: ids of entries that stand for the roles in `template`, as {name}.
        prefix: tokens before every text.
        bos: whether BOS begins every text.
        side: where rows are filled.
        template: the chat form (Jinja); None when the family has none.
        marks: entries that the vocabulary must have for `template` to mean anything.
        pattern: how byte-level text is cut into words, where it is not as in GPT-2.
    """

    model_type: str
    backend: Backend
    classes: tuple[str, ...] = ()
    named: str = ""
    special: Mapping[str, str] = field(default_factory=dict)
    placed: Mapping[str, int] = field(default_factory=dict)
    over: str = ""
    appended: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    roles: Mapping[str, int] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()
    bos: bool = False
    side: Literal["left", "right"] = "right"
    template: str | None = None
    marks: tuple[str, ...] = ()
    pattern: str | None = None


def _specials(pad: str | None = None, *, bos: str | None = "<s>", eos: str = "</s>", unk: str | None = "<unk>") -> dict[str, str]:
    found = {"bos_token": bos, "eos_token": eos, "unk_token": unk, "pad_token": pad}
    return {name: token for name, token in found.items() if token is not None}


LOOP = "{% for message in messages %}"
CHATML = (
    "{{ bos_token }}" + LOOP + "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
CHATML_MARKS = ("<|im_start|>", "<|im_end|>")
ROUNDS = (
    "[gMASK]sop{% set ns = namespace(round=0) %}" + LOOP + "{% if message['role'] == 'user' %}{% set ns.round = ns.round + 1 %}"
    "{{ '[Round ' ~ ns.round ~ ']\\n\\n问：' ~ message['content'] ~ '\\n\\n答：' }}"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] + '\\n\\n' }}{% endif %}{% endfor %}"
)
GLM3 = (
    "[gMASK]sop" + LOOP + "<|{{ message['role'] }}|>{{ message['metadata'] | default('') }}\n {{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
GLM4 = (
    "[gMASK]<sop>" + LOOP + "<|{{ message['role'] }}|>{{ message['metadata'] | default('') }}\n{{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
BAICHUAN = (
    LOOP + "{% if message['role'] == 'user' %}{{ '{user}' + message['content'] }}{% elif message['role'] == 'assistant' %}"
    "{{ '{assistant}' + message['content'] }}{% else %}{{ message['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt and messages[-1]['role'] != 'assistant' %}{{ '{assistant}' }}{% endif %}"
)
INTERNLM = (
    "{{ bos_token }}" + LOOP + "{% if message['role'] == 'user' %}{{ '<|User|>:' + message['content'] + '\\n<|Bot|>:' }}"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] + '<eoa>\\n' }}{% else %}{{ '<|System|>:' + message['content'] + '\\n' }}"
    "{% endif %}{% endfor %}"
)
ORION = (
    LOOP + "{% if loop.first %}{{ bos_token }}{% endif %}{% if message['role'] == 'user' %}{{ 'Human: ' + message['content'] + '\\n\\nAssistant: '"
    " + eos_token }}{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}"
)
MINICPM = (
    "{{ bos_token }}" + LOOP + "{% if message['role'] == 'user' %}{{ '<用户>' + message['content'].strip() + '<AI>' }}"
    "{% else %}{{ message['content'].strip() }}{% endif %}{% endfor %}"
)
EXAONE = (
    LOOP + "{% if loop.first and message['role'] != 'system' %}{{ '[|system|][|endofturn|]\\n' }}{% endif %}"
    "{{ '[|' + message['role'] + '|]' + message['content'] }}"
    "{% if message['role'] == 'user' %}{{ '\\n' }}{% else %}{{ '[|endofturn|]\\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '[|assistant|]' }}{% endif %}"
)
AQUILA = (
    LOOP + "{% if message['role'] == 'user' %}{{ '<|startofpiece|>' + message['content'] + '<|endofpiece|>' }}"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token }}{% else %}{{ message['content'] }}{% endif %}{% endfor %}"
)
PHI3SMALL = (
    "{{ bos_token }}" + LOOP + "{{ '<|' + message['role'] + '|>' + '\\n' + message['content'] + '<|end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"
)
GRITLM = (
    "{{ bos_token }}" + LOOP + "{{ '<|' + message['role'] + '|>\\n' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)

MASKS = ("[MASK]", "[gMASK]", "[sMASK]")
ROLES = ("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>")
VIEWS = ("<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>")
# tiktoken's cl100k_base has no entry 100256; what it does not use up to 100351 is named, so that the vocabulary has no hole.
PHI3SMALL_USED = {
    "<|endoftext|>": 100257,
    "<|fim_prefix|>": 100258,
    "<|fim_middle|>": 100259,
    "<|fim_suffix|>": 100260,
    "<|system|>": 100261,
    "<|user|>": 100262,
    "<|assistant|>": 100263,
    "<|end|>": 100266,
    "<|endofprompt|>": 100276,
}
PHI3SMALL_UNUSED = (100264, 100265, 100256, *range(100267, 100276), *range(100277, 100352))

FAMILIES: tuple[Family, ...] = (
    Family(
        model_type="aquila",
        backend="pairs",
        special=_specials("<|endoftext|>", bos="[CLS]", unk="<|endoftext|>"),
        placed={"[CLS]": 100006, "</s>": 100007},
        template=AQUILA,
        marks=("<|startofpiece|>", "<|endofpiece|>"),
    ),
    Family(
        model_type="baichuan",
        backend="sentencepiece",
        classes=("BaichuanTokenizer", "BaiChuanTokenizer"),
        special=_specials("<unk>"),
        roles={"user": 195, "assistant": 196},
        over="<reserved_",
        template=BAICHUAN,
    ),
    Family(
        model_type="chatglm",
        backend="sentencepiece",
        named="chatglm2",
        special=_specials("<unk>", bos=None),
        appended=(*MASKS, "sop", "eop"),
        words=("sop", "eop"),
        prefix=("[gMASK]", "sop"),
        side="left",
        template=ROUNDS,
    ),
    Family(
        model_type="chatglm",
        backend="sentencepiece",
        classes=("ChatGLMTokenizer",),
        special=_specials("<unk>", bos=None),
        appended=(*MASKS, "sop", "eop", *ROLES),
        words=("sop", "eop"),
        prefix=("[gMASK]", "sop"),
        side="left",
        template=GLM3,
    ),
    Family(
        model_type="chatglm",
        backend="ranks",
        classes=("ChatGLM4Tokenizer",),
        special=_specials("<|endoftext|>", bos=None, eos="<|endoftext|>", unk=None),
        appended=("<|endoftext|>", *MASKS, "<sop>", "<eop>", *ROLES, *VIEWS),
        prefix=("[gMASK]", "<sop>"),
        side="left",
        template=GLM4,
        pattern=CL100K,
    ),
    Family(
        model_type="internlm",
        backend="sentencepiece",
        classes=("InternLMTokenizer",),
        special=_specials("</s>"),
        bos=True,
        template=INTERNLM,
    ),
    Family(
        model_type="internlm2",
        backend="sentencepiece",
        classes=("InternLM2Tokenizer", "InternLM2TokenizerFast"),
        special=_specials("</s>"),
        placed={
            "<|plugin|>": 92538,
            "<|interpreter|>": 92539,
            "<|action_end|>": 92540,
            "<|action_start|>": 92541,
            "<|im_end|>": 92542,
            "<|im_start|>": 92543,
        },
        over="[UNUSED_TOKEN_",
        bos=True,
        side="left",
        template=CHATML,
        marks=CHATML_MARKS,
    ),
    Family(
        model_type="internlm3",
        backend="sentencepiece",
        classes=("InternLM3Tokenizer",),
        special=_specials("</s>"),
        bos=True,
        template=CHATML,
        marks=CHATML_MARKS,
    ),
    Family(model_type="orion", backend="sentencepiece", classes=("OrionTokenizer",), special=_specials("<unk>"), template=ORION),
    Family(model_type="minicpm", backend="sentencepiece", special=_specials(), bos=True, template=MINICPM),
    Family(model_type="minicpm3", backend="sentencepiece", special=_specials(), bos=True, template=CHATML, marks=CHATML_MARKS),
    Family(
        model_type="exaone",
        backend="pairs",
        special=_specials("[PAD]", bos="[BOS]", eos="[|endofturn|]", unk="[UNK]"),
        template=EXAONE,
        marks=("[|endofturn|]",),
    ),
    Family(model_type="jais", backend="pairs", special=_specials("<|endoftext|>", bos="<|endoftext|>", eos="<|endoftext|>", unk="<|endoftext|>")),
    Family(
        model_type="phi3small",
        backend="ranks",
        classes=("Phi3SmallTokenizer",),
        special=_specials(bos="<|endoftext|>", eos="<|endoftext|>", unk=None),
        placed={**PHI3SMALL_USED, **{f"<|dummy_id_{number}|>": index for number, index in enumerate(PHI3SMALL_UNUSED)}},
        side="left",
        template=PHI3SMALL,
        pattern=CL100K,
    ),
    Family(model_type="solar", backend="sentencepiece", special=_specials(), bos=True, template=CHATML, marks=CHATML_MARKS),
    Family(
        model_type="stablelm_alpha",
        backend="pairs",
        special=_specials("<|padding|>", bos="<|endoftext|>", eos="<|endoftext|>", unk="<|endoftext|>"),
    ),
    Family(model_type="mistral", backend="sentencepiece", named="gritlm", special=_specials(), bos=True, template=GRITLM),
)


def family_of(description: Mapping[str, Any], *, backend: Backend) -> Family | None:
    """Return the family of a folder, or None.

    Args:
        description: `model_type`, `tokenizer_class`, and `names`: all that the folder calls itself, in lower case.
        backend: the kind of its vocabulary file.
    """
    kind, cls, names = description.get("model_type"), description.get("tokenizer_class"), str(description.get("names", ""))
    for family in FAMILIES:
        known = cls in family.classes if kind is None else kind == family.model_type
        if known and family.backend == backend and family.named in names:
            return family
    return None
