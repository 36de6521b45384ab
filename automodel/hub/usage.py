"""How to load what is published: only lines that are true for this very artifact."""

from __future__ import annotations

import json

from automodel.hub.facts import Facts

PLACEHOLDER = "your-name/your-model"
# Classes that vLLM's page of supported models lists for text generation; others may work, but are not promised.
VLLM = frozenset(
    {
        "BloomForCausalLM",
        "CohereForCausalLM",
        "Cohere2ForCausalLM",
        "DeepseekForCausalLM",
        "DeepseekV2ForCausalLM",
        "DeepseekV3ForCausalLM",
        "FalconForCausalLM",
        "GemmaForCausalLM",
        "Gemma2ForCausalLM",
        "Gemma3ForCausalLM",
        "Glm4ForCausalLM",
        "GPT2LMHeadModel",
        "GPTBigCodeForCausalLM",
        "GPTJForCausalLM",
        "GPTNeoXForCausalLM",
        "GptOssForCausalLM",
        "GraniteForCausalLM",
        "GraniteMoeForCausalLM",
        "LlamaForCausalLM",
        "MistralForCausalLM",
        "MixtralForCausalLM",
        "MPTForCausalLM",
        "NemotronForCausalLM",
        "OlmoForCausalLM",
        "Olmo2ForCausalLM",
        "OlmoeForCausalLM",
        "OPTForCausalLM",
        "PhiForCausalLM",
        "Phi3ForCausalLM",
        "PhiMoEForCausalLM",
        "Qwen2ForCausalLM",
        "Qwen2MoeForCausalLM",
        "Qwen3ForCausalLM",
        "Qwen3MoeForCausalLM",
        "SeedOssForCausalLM",
        "SmolLM3ForCausalLM",
        "StableLmForCausalLM",
        "Starcoder2ForCausalLM",
    }
)
VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
AUTO_CLASSES = {
    "text-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "image-text-to-text": "AutoModelForImageTextToText",
    "text-to-audio": "AutoModelForTextToWaveform",
}


def usage(facts: Facts, *, known_to_transformers: bool = True) -> list[str]:
    """Return the section on loading, as lines of Markdown; the repository is `PLACEHOLDER`."""
    auto = AUTO_CLASSES.get(facts.pipeline, "AutoModelForCausalLM")
    lines = ["## How to load it", ""]
    if facts.kind == "adapter":
        lines += _adapter(facts, auto)
    elif known_to_transformers:
        lines += _python([f"from transformers import {auto}, AutoTokenizer", "", f'model = {auto}.from_pretrained("{PLACEHOLDER}")', *_asking(facts)])
    else:
        lines += [f"`{facts.architecture}` is not part of transformers; `pip install automodel-workbench` brings it.", ""]
        own = f"NeMo{auto}"
        lines += _python(
            [
                f"from automodel import {own}",
                "from transformers import AutoTokenizer",
                "",
                f'model = {own}.from_pretrained("{PLACEHOLDER}")',
                *_asking(facts),
            ]
        )
    return [*lines, *_vllm(facts, known_to_transformers=known_to_transformers)]


def _adapter(facts: Facts, auto: str) -> list[str]:
    base = facts.base.name if facts.base else "the base model"
    if facts.base is None or not facts.base.hub:
        intro = f"An adapter for `{base}`, a model that is not on the Hub: give the folder it lies in."
        start = f'base = {auto}.from_pretrained("FOLDER-OF-{base}")'
    else:
        revision = f', revision="{facts.base.revision}"' if facts.base.revision else ""
        intro = f"An adapter for [{base}](https://huggingface.co/{base})."
        start = f'base = {auto}.from_pretrained("{base}"{revision})'
    code = ["from peft import PeftModel", f"from transformers import {auto}, AutoTokenizer", "", start]
    code += [f'model = PeftModel.from_pretrained(base, "{PLACEHOLDER}")', *_asking(facts)]
    return [intro, "", *_python(code)]


def _asking(facts: Facts) -> list[str]:
    lines = [f'tokenizer = AutoTokenizer.from_pretrained("{PLACEHOLDER}")']
    if facts.pipeline != "text-generation":
        return lines
    prompt = json.dumps(facts.prompt or "Hello", ensure_ascii=False)
    if facts.chat:
        lines += [
            f'messages = [{{"role": "user", "content": {prompt}}}]',
            'inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")',
        ]
    else:
        lines.append(f'inputs = tokenizer({prompt}, return_tensors="pt")')
    return [
        *lines,
        "answer = model.generate(**inputs, max_new_tokens=64)",
        'print(tokenizer.decode(answer[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))',
    ]


def _vllm(facts: Facts, *, known_to_transformers: bool) -> list[str]:
    if facts.architecture not in VLLM or facts.pipeline != "text-generation" or not known_to_transformers:
        return []
    if facts.kind == "model":
        return ["", "vLLM lists this architecture as supported:", "", "```bash", f"vllm serve {PLACEHOLDER}", "```"]
    rank = next((one for one in VLLM_RANKS if one >= int(facts.config.get("r") or 0)), None)
    plain = not facts.config.get("use_dora") and not facts.config.get("modules_to_save") and facts.config.get("bias", "none") == "none"
    if facts.base is None or not facts.base.hub or rank is None or not plain:
        merged = "merge it first: `automodel merge RUN --out FOLDER`, and serve that folder."
        return ["", f"vLLM cannot serve this adapter as it is; {merged}"]
    return [
        "",
        "vLLM lists this architecture as supported, with adapters:",
        "",
        "```bash",
        f"vllm serve {facts.base.name} --enable-lora --max-lora-rank {rank} --lora-modules tuned={PLACEHOLDER}",
        "```",
    ]


def _python(lines: list[str]) -> list[str]:
    return ["```python", *lines, "```"]
