"""Rows of images and text: where images come from, what the processor makes of them, and what of it is trained on."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from automodel.auto import build_processor, build_tokenizer
from automodel.data import build_dataset, build_loader, check_dataset, collate
from automodel.data.expand import lay
from automodel.data.images import read_picture, thumbnail
from automodel.errors import DataError, ModelError, NotBuiltError
from automodel.recipe.schema import DataloaderSection, DatasetSection, ModelSection, ProcessorSection, StepSchedulerSection
from automodel.train.step import counts
from tests.vision import chat_rows, make_idefics, make_image, make_llava, make_qwen


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {"llava": make_llava(tmp_path_factory.mktemp("llava")), "qwen": make_qwen(tmp_path_factory.mktemp("qwen"))}


def processor_of(folder: Path, **settings: Any) -> Any:
    model = ModelSection(pretrained_model_name_or_path=str(folder))
    return build_processor(ProcessorSection(**settings), model, tokenizer=build_tokenizer(None, model))


@pytest.fixture(scope="module")
def processors(folders: dict[str, Path]) -> dict[str, Any]:
    return {name: processor_of(folder) for name, folder in folders.items()}


def built(path: Path, processor: Any, **fields: Any) -> Any:
    section = DatasetSection(**{"name": "chat", "path_or_dataset": str(path), **fields})
    return build_dataset(section, processor.tokenizer, processor=processor, keep_text=True)


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def said(data: Any, index: int, processor: Any) -> str:
    labels = data.labels(index)
    return str(processor.tokenizer.decode(labels[labels != -100]))


def hello(**parts: Any) -> dict[str, Any]:
    """A conversation whose question holds one part beside its text."""
    asked = [{"type": "image", **parts}, {"type": "text", "text": "What is it?"}]
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": "A bridge."}]}


# Where images come from.


def test_images_come_from_files_bytes_addresses_and_pil(tmp_path: Path) -> None:
    from PIL import Image

    file = make_image(tmp_path / "pictures" / "a.png", size=(30, 20))
    data = file.read_bytes()
    where = f"{tmp_path / 'rows.jsonl'}, line 3"
    values = [
        "pictures/a.png",
        str(file),
        f"file://{file}",
        {"path": "pictures/a.png"},
        {"bytes": data, "path": None},
        {"bytes": data, "path": "b.png"},
        {"url": "data:image/png;base64," + base64.b64encode(data).decode()},
        data,
        Image.open(file),
    ]
    wanted = np.asarray(Image.open(file))
    for value in values:
        picture = read_picture(value, where=where)
        assert np.array_equal(np.asarray(picture.open()), wanted), value
    assert read_picture({"bytes": data, "path": "b.png"}, where=where).name == "b.png"


def test_a_camera_that_was_turned_is_turned_back_and_grey_becomes_rgb(tmp_path: Path) -> None:
    from PIL import Image

    grey = Image.new("L", (30, 20))
    exif = grey.getexif()
    exif[0x0112] = 6  # the camera lay on its side
    grey.save(tmp_path / "a.jpg", exif=exif)
    image = read_picture("a.jpg", where=f"{tmp_path / 'rows.jsonl'}, line 1").open()
    assert (image.mode, image.size) == ("RGB", (20, 30))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("https://example.org/a.png", "download the images first"),
        ({"type": "image", "text": "x"}, "no image"),
        (3, "no image"),
        ("data:image/png;base64,!!", "data: address"),
    ],
)
def test_what_is_no_image_is_refused_with_its_place(value: Any, words: str) -> None:
    with pytest.raises(DataError) as caught:
        read_picture(value, where="rows.jsonl, line 7")
    assert words in str(caught.value)
    assert "line 7" in str(caught.value)


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    for name in ("gone.png", "broken.png"):
        with pytest.raises(DataError, match="cannot be read") as caught:
            read_picture(name, where=f"{tmp_path / 'rows.jsonl'}, line 2").open()
        assert name in str(caught.value)


def test_pillow_that_is_missing_is_said_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError) as caught:
        read_picture(b"x", where="rows.jsonl, line 1").open()
    assert "pip install" in caught.value.fix


def test_a_small_picture_is_small(tmp_path: Path) -> None:
    from PIL import Image

    image = Image.open(make_image(tmp_path / "a.png", size=(640, 320)))
    head, _, body = thumbnail(image).partition(",")
    assert head == "data:image/jpeg;base64"
    assert Image.open(io.BytesIO(base64.b64decode(body))).size == (160, 80)
    assert image.size == (640, 320)


# What the processor makes of them.


@pytest.mark.parametrize(
    ("plain", "whole", "wanted"),
    [
        ([1, 9, 2], [1, 7, 7, 2], ([0, None, 3], [((1, 3), 1)])),
        ([9, 9, 2, 9], [7, 7, 7, 2, 7], ([None, None, 3, None], [((0, 3), 2), ((4, 5), 1)])),
        ([1, 2], [1, 2], ([0, 1], [])),
        ([1, 2], [1, 3], None),
        ([1, 9, 2], [1, 7, 3], None),
        ([1, 9], [1], None),
        ([9, 1, 9], [7, 1], None),
        ([1, 9, 9], [1, 7], None),
    ],
)
def test_a_text_is_laid_over_its_row(plain: list[int], whole: list[int], wanted: Any) -> None:
    assert lay(plain, whole, 9) == wanted


@pytest.mark.both_ends
@pytest.mark.parametrize("kind", ["llava", "qwen"])
def test_the_answers_are_trained_on_and_no_image_token_is(kind: str, processors: dict[str, Any], tmp_path: Path) -> None:
    from PIL import Image

    processor = processors[kind]
    data = built(chat_rows(tmp_path), processor)
    assert len(data) == 6
    for index in range(6):
        assert said(data, index, processor) == f"Anna Vell, in {1800 + index}.</s>"
        ids, labels = data.input_ids(index), data.labels(index)
        assert (labels[ids == processor.image_token_id] == -100).all()
        prompt = processor.tokenizer.decode(data.prompt_ids(index))
        assert prompt.endswith(f"Who built bridge {index}?</s><|assistant|>")
        shown = data.media.shown(index)
        many = 0 if index % 5 == 4 else 2 if index % 3 == 2 else 1
        assert [(image.width, image.height) for image in shown] == [(40 + 20 * index, 40 + 28 * at) for at in range(many)]
        assert all((ids[slice(*image.tokens)] == processor.image_token_id).all() for image in shown)
        assert sum(image.tokens[1] - image.tokens[0] for image in shown) == int((ids == processor.image_token_id).sum())
        # the very ids of the processor itself
        names = [tmp_path / "pictures" / f"{index}-{at}.png" for at in range(many)]
        text = prompt_with_one_place_each(prompt, processor) + f"Anna Vell, in {1800 + index}.</s>"
        images = {"images": [[Image.open(name) for name in names]]} if names else {}
        assert processor(text=[text], **images, add_special_tokens=False)["input_ids"][0] == ids.tolist()


def prompt_with_one_place_each(text: str, processor: Any) -> str:
    """Fold the run of image tokens of each image to the one place of the template; an image of LLaVA has 4."""
    mark = processor.image_token
    if mark == "<image>":
        return text.replace(mark * 4, mark)
    while mark * 2 in text:
        text = text.replace(mark * 2, mark)
    return text


@pytest.mark.both_ends
def test_tiles_and_their_marks_belong_to_the_image(tmp_path: Path) -> None:
    processor = processor_of(make_idefics(tmp_path / "model"))
    data = built(chat_rows(tmp_path), processor)
    for index in range(6):
        ids = data.input_ids(index)
        runs = [image.tokens for image in data.media.shown(index)]
        text = processor.tokenizer.decode([token for at, token in enumerate(ids) if not any(start <= at < end for start, end in runs)])
        assert text == f"<|user|>Who built bridge {index}?</s><|assistant|>Anna Vell, in {1800 + index}.</s>"
        assert said(data, index, processor) == f"Anna Vell, in {1800 + index}.</s>"
        for start, end in runs:
            assert processor.tokenizer.decode(ids[start]) == processor.tokenizer.decode(ids[end - 1]) == "<fake_token_around_image>"
            assert (ids[start:end] == processor.image_token_id).sum() % 4 == 0


def test_the_whole_text_is_trained_on_if_asked_but_no_image_token(processors: dict[str, Any], tmp_path: Path) -> None:
    processor = processors["llava"]
    data = built(chat_rows(tmp_path), processor, answer_only_loss_mask=False)
    ids, labels = data.input_ids(2), data.labels(2)
    assert ((labels == -100) == (ids == processor.image_token_id)).all()


def test_pixels_are_made_when_they_are_asked_for_and_are_the_same_each_time(processors: dict[str, Any], tmp_path: Path) -> None:
    data = built(chat_rows(tmp_path), processors["qwen"])
    first, again = data[2], data[2]
    assert first["image_grid_thw"].shape == (2, 3)
    assert torch.equal(first["pixel_values"], again["pixel_values"])
    assert "pixel_values" not in data[4]
    make_image(tmp_path / "pictures" / "0-0.png", size=(112, 112))
    with pytest.raises(DataError, match="changed since"):
        data[0]


def test_the_processor_is_asked_once_for_images_of_the_same_sizes(folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [make_image(tmp_path / f"{number}.png", size=(84, 56), seed=number).name for number in range(3)]
    rows = [hello(image=name) for name in names]
    rows[1]["messages"][0]["content"][1]["text"] = "What do you see here?"
    path = write(tmp_path / "rows.jsonl", rows)
    processor = processor_of(folders["qwen"])
    asked: list[int] = []
    made = type(processor).__call__

    def count(self: Any, *args: Any, **kwargs: Any) -> Any:
        asked.append(1)
        return made(self, *args, **kwargs)

    monkeypatch.setattr(type(processor), "__call__", count)
    data = built(path, processor)
    assert len(asked) == 1
    assert [int(image.tokens[1] - image.tokens[0]) for row in range(3) for image in data.media.shown(row)] == [6, 6, 6]
    # what was put together is what the processor makes: else the row would be refused here
    assert all(len(data[row]["pixel_values"]) == 24 for row in range(3))
    assert not torch.equal(data[0]["pixel_values"], data[2]["pixel_values"])


def test_too_long_rows_are_left_out_and_counted_and_never_cut(processors: dict[str, Any], tmp_path: Path) -> None:
    rows = chat_rows(tmp_path)
    lengths = built(rows, processors["llava"]).lengths
    data = built(rows, processors["llava"], seq_length=int(lengths.max()) - 1)
    assert data.report.dropped_too_long == int((lengths == lengths.max()).sum()) > 0
    assert data.report.truncated == 0
    with pytest.raises(DataError) as caught:
        built(rows, processors["llava"], seq_length=5)
    assert "truncation" not in caught.value.fix


def test_an_answer_without_an_end_mark_gets_one(processors: dict[str, Any], tmp_path: Path) -> None:
    template = (
        "{% for m in messages %}{{ m['role'] }}: {% for c in m['content'] %}{% if c['type'] == 'image' %}<image>{% else %}"
        "{{ c['text'] }}{% endif %}{% endfor %}{{ ' ' if m['role'] == 'user' else '' }}{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    data = built(chat_rows(tmp_path), processors["llava"], chat_template=template)
    assert said(data, 0, processors["llava"]).strip() == "Anna Vell, in 1800.</s>"


# Shapes of rows.


def test_images_stand_in_their_parts_or_in_a_column_beside(processors: dict[str, Any], tmp_path: Path) -> None:
    processor = processors["qwen"]
    name = make_image(tmp_path / "a.png", size=(84, 56)).name
    address = "data:image/png;base64," + base64.b64encode((tmp_path / name).read_bytes()).decode()
    plain = {"messages": [{"role": "user", "content": "What is it?"}, {"role": "assistant", "content": "A bridge."}]}
    llava = {"conversations": [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A bridge."}]}
    openai = {
        "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": address}}, {"type": "text", "text": "What is it?"}]}]
    }
    openai["messages"] += plain["messages"][1:]  # type: ignore[arg-type]
    rows = [hello(image=name), hello(path=name), {**hello(), "images": [name]}, {**plain, "image": name}, {**llava, "image": name}, openai]
    data = built(write(tmp_path / "rows.jsonl", rows), processor)
    assert len(data) == len(rows)
    for index in range(1, len(rows)):
        assert data.input_ids(index).tolist() == data.input_ids(0).tolist()
        assert torch.equal(data[index]["pixel_values"], data[0]["pixel_values"])


def test_bytes_in_parquet_are_read(processors: dict[str, Any], tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    data = make_image(tmp_path / "a.png").read_bytes()
    row = {"picture": {"bytes": data, "path": "a.png"}, "ask": "What is it?", "reply": "A bridge."}
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row, row]), tmp_path / "rows.parquet")
    mapping = {"image": "picture", "question": "ask", "answer": "reply"}
    found = built(tmp_path / "rows.parquet", processors["llava"], name="column_mapped", column_mapping=mapping, system_prompt="Be short.")
    assert said(found, 1, processors["llava"]) == "A bridge.</s>"
    text = processors["llava"].tokenizer.decode(found.input_ids(1))
    assert text.startswith("<|system|>Be short.</s><|user|>" + "<image>" * 4 + "What is it?</s>")
    assert found.media.shown(0)[0].name == "a.png"


def test_a_column_of_images_is_named_by_column_mapping(processors: dict[str, Any], tmp_path: Path) -> None:
    name = make_image(tmp_path / "a.png").name
    path = write(tmp_path / "rows.jsonl", [{"picture": [name, name], "reply": "A bridge."}])
    data = built(path, processors["llava"], name="column_mapped", column_mapping={"image": "picture", "answer": "reply"})
    assert [image.tokens for image in data.media.shown(0)] == [(1, 5), (5, 9)]
    with pytest.raises(DataError, match="no column 'pictures'"):
        built(path, processors["llava"], name="column_mapped", column_mapping={"image": "pictures", "answer": "reply"})
    section = DatasetSection(name="column_mapped", path_or_dataset=str(path), column_mapping={"image": "picture", "answer": "reply"})
    with pytest.raises(DataError, match="FinetuneRecipeForVLM"):
        build_dataset(section, processors["llava"].tokenizer)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({**hello(), "images": []}, "more places for images than images"),
        ({**hello(image="a.png"), "images": ["a.png"]}, "more images than places"),
        (hello(image="gone.png"), "cannot be read"),
        (hello(image="http://example.org/a.png"), "on the network"),
        (
            {"messages": [{"role": "user", "content": [{"type": "video", "path": "x"}]}, {"role": "assistant", "content": "x"}]},
            "neither text nor image",
        ),
        ({"messages": [{"role": "user", "content": "an <image>?"}, {"role": "assistant", "content": "x"}]}, "not one place for each image"),
    ],
)
def test_rows_that_cannot_be_read_are_refused_or_counted(row: dict[str, Any], words: str, processors: dict[str, Any], tmp_path: Path) -> None:
    make_image(tmp_path / "a.png")
    path = write(tmp_path / "rows.jsonl", [row, hello(image="a.png")])
    with pytest.raises(DataError, match=words) as caught:
        built(path, processors["llava"])
    assert "line 1" in str(caught.value)
    report = built(path, processors["llava"], skip_invalid_samples=True).report
    assert (report.rows_kept, report.dropped_invalid) == (1, 1)


def test_the_files_are_looked_for_without_a_processor(tmp_path: Path) -> None:
    path = chat_rows(tmp_path)
    section = DatasetSection(name="chat", path_or_dataset=str(path))
    assert check_dataset(section, images=True) == 6
    (tmp_path / "pictures" / "3-0.png").unlink()
    with pytest.raises(DataError, match="line 4"):
        check_dataset(section, images=True)


def test_kinds_without_images_are_refused(processors: dict[str, Any]) -> None:
    with pytest.raises(NotBuiltError, match="hold no images"):
        built(Path("x.txt"), processors["llava"], name="text", seq_length=8)


# Batches.


def test_values_for_tokens_are_filled_and_pixels_are_joined(processors: dict[str, Any], tmp_path: Path) -> None:
    data = built(chat_rows(tmp_path), processors["qwen"])
    rows = [data[0], data[4], data[2]]
    batch = collate(rows, pad_token_id=0, max_length=48)
    assert batch["input_ids"].shape == batch["labels"].shape == (3, 48)
    assert torch.equal(batch["pixel_values"], torch.cat([rows[0]["pixel_values"], rows[2]["pixel_values"]]))
    assert batch["image_grid_thw"].shape == (3, 3)
    if "mm_token_type_ids" in batch:  # transformers 5
        assert torch.equal(batch["mm_token_type_ids"] == 1, batch["input_ids"] == processors["qwen"].image_token_id)


def test_tensors_of_unequal_sizes_are_filled_with_zeros() -> None:
    def row(images: int) -> dict[str, Any]:
        ids = np.ones(4, np.int32)
        return {"input_ids": ids, "labels": ids, "pixel_values": torch.ones(1, images, 3, 2, 2)}

    batch = collate([row(1), row(3)], pad_token_id=0)
    assert batch["pixel_values"].shape == (2, 3, 3, 2, 2)
    assert batch["pixel_values"].sum(dim=(2, 3, 4)).tolist() == [[12, 0, 0], [12, 12, 12]]


def batches_of(data: Any, world_size: int) -> list[Any]:
    scheduler = StepSchedulerSection(global_batch_size=4, local_batch_size=1)
    ranks = [
        build_loader(data, DataloaderSection(), scheduler=scheduler, rank=rank, world_size=world_size, pad_token_id=0, training=False)
        for rank in range(world_size)
    ]
    return [batch for loader in ranks for batch in loader]


def test_every_batch_of_several_ranks_has_pixels_so_that_all_use_the_same_parts(processors: dict[str, Any], tmp_path: Path) -> None:
    data = built(chat_rows(tmp_path, 5), processors["llava"])  # the last row has no image, and one rank runs out of rows
    batches = batches_of(data, 2)
    assert sorted(row for batch in batches for row in batch["rows"].tolist()) == [0, 1, 2, 3, 4]
    assert len(batches) == 6
    for batch in batches:
        assert len(batch["pixel_values"]) == int((batch["input_ids"] == processors["llava"].image_token_id).sum()) // 4 > 0
        trained = (batch["labels"] != -100).any(dim=1)
        assert trained.tolist() == [True] * len(batch["rows"]) + [False] * (len(batch["labels"]) - len(batch["rows"]))
    assert counts(batches)[0] == int(data.lengths.sum())
    assert sum("pixel_values" not in batch for batch in batches_of(data, 1)) == 1


# The processor.


@pytest.mark.both_ends
def test_limits_of_pixels_change_the_number_of_tokens(folders: dict[str, Path], tmp_path: Path) -> None:
    make_image(tmp_path / "a.png", size=(112, 112))
    path = write(tmp_path / "rows.jsonl", [hello(image="a.png")])

    def tokens(**settings: Any) -> int:
        start, end = built(path, processor_of(folders["qwen"], **settings)).media.shown(0)[0].tokens
        return int(end - start)

    assert (tokens(), tokens(max_pixels=28 * 28 * 4), tokens(min_pixels=28 * 28 * 36, max_pixels=28 * 28 * 64)) == (16, 4, 36)
    with pytest.raises(ModelError, match="max_pixels"):
        processor_of(folders["llava"], max_pixels=1000)


def test_a_model_without_a_processor_is_told(tiny_model_dir: Path) -> None:
    with pytest.raises(ModelError) as caught:
        processor_of(tiny_model_dir)
    assert "processor" in caught.value.what
    assert caught.value.fix


def test_a_package_that_is_missing_is_named(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoProcessor

    def fail(*_args: Any, **_kwargs: Any) -> None:
        raise ImportError("Qwen2VLVideoProcessor requires the Torchvision library: torchvision is not installed")

    monkeypatch.setattr(AutoProcessor, "from_pretrained", fail)
    with pytest.raises(ModelError) as caught:
        processor_of(folders["qwen"])
    assert caught.value.fix == "pip install torchvision"
