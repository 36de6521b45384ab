"""Tiny random image-text models with their processors, on disk, and rows of pictures; none of it needs torchvision."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from transformers import AutoProcessor, AutoTokenizer, LlavaProcessor, ProcessorMixin, Qwen2_5_VLConfig, Qwen2_5_VLProcessor

from tests.conftest import make_tokenizer

try:  # transformers 5 keeps the image processors that need Pillow alone under names of their own
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil as CLIPImages
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil as IdeficsImages
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil as QwenImages
except ImportError:
    from transformers import CLIPImageProcessor as CLIPImages
    from transformers import Idefics3ImageProcessor as IdeficsImages
    from transformers import Qwen2VLImageProcessor as QwenImages

_TEMPLATE = (
    "{%% for m in messages %%}{{ '<|' + m['role'] + '|>' }}{%% for c in m['content'] %%}"
    "{%% if c['type'] == 'image' %%}%s{%% else %%}{{ c['text'] }}{%% endif %%}{%% endfor %%}{{ '</s>' }}{%% endfor %%}"
    "{%% if add_generation_prompt %%}{{ '<|assistant|>' }}{%% endif %%}"
)
LLAVA_TEMPLATE = _TEMPLATE % "<image>"
QWEN_TEMPLATE = _TEMPLATE % "<|vision_start|><|image_pad|><|vision_end|>"
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "vocab_size": 340,
}


class ImageOnlyQwen(Qwen2_5_VLProcessor):
    """Qwen's processor without its part for videos, which needs torchvision."""

    attributes: ClassVar[list[str]] = ["image_processor", "tokenizer"]
    tokenizer_class = "AutoTokenizer"

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, chat_template: Any = None, **_kwargs: Any) -> None:
        self.image_token, self.video_token = "<|image_pad|>", "<|video_pad|>"
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        self.video_token_id = tokenizer.convert_tokens_to_ids(self.video_token)
        ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)


AutoProcessor.register(Qwen2_5_VLConfig, ImageOnlyQwen, exist_ok=True)


def _tokenizer(folder: Path, tokens: list[str]) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(make_tokenizer(folder))
    tokenizer.add_special_tokens({"additional_special_tokens": tokens})
    return tokenizer


def make_llava(folder: Path) -> Path:
    """Write a random LLaVA: 28 x 28 pixels and 4 tokens an image."""
    import torch
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    tokenizer = _tokenizer(folder, ["<image>"])
    images = CLIPImages(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    processor = LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=LLAVA_TEMPLATE,
    )
    processor.save_pretrained(folder)
    images.save_pretrained(folder)
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 28, "patch_size": 14}
    torch.manual_seed(0)
    config = LlavaConfig(
        text_config=LlamaConfig(**TEXT),
        vision_config=CLIPVisionConfig(**vision),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
    )
    LlavaForConditionalGeneration(config).to(torch.float32).save_pretrained(folder)
    return folder


def make_qwen(folder: Path) -> Path:
    """Write a random Qwen2.5-VL: images of any size, a token for each 28 x 28 pixels."""
    import torch
    from transformers import Qwen2_5_VLForConditionalGeneration

    tokenizer = _tokenizer(folder, ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"])
    images = QwenImages(patch_size=14, merge_size=2, min_pixels=28 * 28, max_pixels=28 * 28 * 16)
    processor = ImageOnlyQwen(image_processor=images, tokenizer=tokenizer, chat_template=QWEN_TEMPLATE)
    processor.save_pretrained(folder)
    images.save_pretrained(folder)
    tokens = {"vision_start": "<|vision_start|>", "vision_end": "<|vision_end|>", "image": "<|image_pad|>", "video": "<|video_pad|>"}
    marks = {f"{name}_token_id": tokenizer.convert_tokens_to_ids(token) for name, token in tokens.items()}
    rope = {"type": "mrope", "mrope_section": [1, 1, 2]}
    vision = {
        "depth": 2,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_heads": 2,
        "out_hidden_size": 32,
        "fullatt_block_indexes": [1],
        "window_size": 56,
    }
    torch.manual_seed(0)
    config = Qwen2_5_VLConfig(text_config={**TEXT, "rope_scaling": rope}, vision_config=vision, **marks, tie_word_embeddings=False)
    Qwen2_5_VLForConditionalGeneration(config).to(torch.float32).save_pretrained(folder)
    return folder


def make_idefics(folder: Path) -> Path:
    """Write a random Idefics3, whose processor cuts an image into tiles of 28 x 28 pixels, 4 tokens each, and puts marks around them."""
    import torch
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3Processor

    tiles = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    tokenizer = _tokenizer(folder, ["<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>", *tiles])
    images = IdeficsImages(size={"longest_edge": 56}, max_image_size={"longest_edge": 28})
    processor = Idefics3Processor(image_processor=images, tokenizer=tokenizer, image_seq_len=4, chat_template=LLAVA_TEMPLATE)
    processor.save_pretrained(folder)
    images.save_pretrained(folder)
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28, "patch_size": 7}
    torch.manual_seed(0)
    config = Idefics3Config(
        text_config={**TEXT, "model_type": "llama", "vocab_size": 380},
        vision_config=vision,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=0,
        tie_word_embeddings=False,
    )
    Idefics3ForConditionalGeneration(config).to(torch.float32).save_pretrained(folder)
    return folder


def make_image(path: Path, *, size: tuple[int, int] = (60, 40), seed: int = 0) -> Path:
    """Write a picture of coloured noise; size is width and height."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def chat_rows(folder: Path, count: int = 6) -> Path:
    """Write conversations about pictures of several sizes: rows with one image, every third with two, every fifth with none."""
    rows = []
    for number in range(count):
        many = 0 if number % 5 == 4 else 2 if number % 3 == 2 else 1
        sizes = [(40 + 20 * number, 40 + 28 * at) for at in range(many)]
        paths = [folder / "pictures" / f"{number}-{at}.png" for at in range(many)]
        names = [make_image(path, size=size, seed=10 * number + size[1]).name for path, size in zip(paths, sizes, strict=True)]
        asked = [*({"type": "image"} for _ in names), {"type": "text", "text": f"Who built bridge {number}?"}]
        messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": f"Anna Vell, in {1800 + number}."}]
        rows.append({"images": [f"pictures/{name}" for name in names], "messages": messages})
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
