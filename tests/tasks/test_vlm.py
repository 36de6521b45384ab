"""Jobs on images and text: the same loss and gradients as transformers by hand, whole runs, and what a person sees before them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from automodel.data import collate
from automodel.errors import DataError
from automodel.launch import finetune
from automodel.recipe import recipe_from_dict
from automodel.run import RunFolder
from automodel.tasks import plan, preview, run_recipe
from automodel.tasks.preflight import preflight
from automodel.train.head import SupervisedLoss
from automodel.train.step import TOKENS_AT_ONCE
from tests.vision import chat_rows, make_idefics, make_llava, make_qwen

from .conftest import losses, merge, train_rows

Make = Callable[..., dict[str, Any]]
KINDS = ("llava", "qwen")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    makers = {"llava": make_llava, "qwen": make_qwen, "idefics": make_idefics}
    return {name: make(tmp_path_factory.mktemp(name)) for name, make in makers.items()}


@pytest.fixture
def spec(folders: dict[str, Path], tmp_path: Path) -> Make:
    def make(kind: str = "llava", **changes: Any) -> dict[str, Any]:
        base = {
            "recipe": "FinetuneRecipeForVLM",
            "model": {"pretrained_model_name_or_path": str(folders[kind]), "torch_dtype": "float32"},
            "autocast": {"enabled": False},
            "dataset": {"name": "chat", "path_or_dataset": str(chat_rows(tmp_path / "data"))},
            "step_scheduler": {"global_batch_size": 2, "local_batch_size": 2, "num_epochs": 2},
            "optimizer": {"lr": 1e-2},
            "run": {"folder": str(tmp_path / "runs")},
        }
        return merge(base, changes)

    return make


def by_hand(folder: Path, data: Path, rows: tuple[int, ...]) -> Any:
    """Return model, loss and batch of transformers alone, for rows of `chat_rows`."""
    from PIL import Image
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(folder)
    records = [json.loads(line) for line in data.read_text().splitlines()]
    for record in records:
        record["messages"][1]["content"] = [{"type": "text", "text": record["messages"][1]["content"]}]
    texts = [processor.apply_chat_template(records[row]["messages"], tokenize=False) for row in rows]
    images = [[Image.open(data.parent / name).convert("RGB") for name in records[row]["images"]] for row in rows]
    inputs = dict(processor(text=texts, images=images, padding=True, padding_side="right", add_special_tokens=False, return_tensors="pt"))
    inputs.pop("token_type_ids", None)
    answer, end = (processor.tokenizer.convert_tokens_to_ids(token) for token in ("<|assistant|>", "</s>"))
    labels = torch.full_like(inputs["input_ids"], -100)
    for row, ids in enumerate(inputs["input_ids"].tolist()):
        start = ids.index(answer) + 1
        stop = ids.index(end, start) + 1
        labels[row, start:stop] = torch.tensor(ids[start:stop])
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    return model, model(**inputs, labels=labels).loss, {**inputs, "labels": labels}


@pytest.mark.both_ends
@pytest.mark.parametrize("kind", [*KINDS, "idefics"])
def test_loss_and_gradients_are_those_of_transformers_by_hand(kind: str, spec: Make, folders: dict[str, Path]) -> None:
    from automodel.auto import build_model

    section = recipe_from_dict(spec(kind)).recipe
    ready = preflight(section)
    rows = (1, 2)  # one image, and two
    reference, wanted, inputs = by_hand(folders[kind], Path(section.dataset.path_or_dataset), rows)  # type: ignore[arg-type]
    batch = collate([ready.training[row] for row in rows], pad_token_id=0)
    assert set(batch) == set(inputs)
    for name, value in inputs.items():
        assert torch.equal(batch[name], value), name
    model: Any = build_model(section.model, task="vlm", device="cpu", dtype=torch.float32).eval()
    count = int((batch["labels"][:, 1:] != -100).sum())
    loss = SupervisedLoss(model)(batch) / count
    assert float(loss) == pytest.approx(float(wanted), rel=1e-6)
    loss.backward()
    wanted.backward()
    pairs = list(zip(model.named_parameters(), reference.parameters(), strict=True))
    assert any("vis" in name and one.grad is not None for (name, one), _ in pairs)
    for (name, one), other in pairs:
        assert (one.grad is None) == (other.grad is None), name
        if one.grad is not None:
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.both_ends
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_learns_and_leaves_a_model_with_its_processor(kind: str, spec: Make) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    data = spec(kind, validation_dataset={"name": "chat", "split": "train[:2]"}, samples={"from_validation": 1, "max_new_tokens": 4})
    data["validation_dataset"]["path_or_dataset"] = data["dataset"]["path_or_dataset"]
    run = finetune(data)
    assert run.status.state == "finished"
    found = losses(run)
    assert found[-1] < found[0] - 0.5
    kinds = {event["kind"]: event["text"] for event in run.events() if "text" in event}
    assert "freeze_vision_tower: false" in kinds["frozen"]
    assert "wanted 'Anna Vell, in 1800.'" in next(event["text"] for event in run.events() if event["kind"] == "sample")
    folder = run.path / "checkpoints" / "latest" / "model"
    assert (folder / "preprocessor_config.json").is_file()
    processor = AutoProcessor.from_pretrained(folder)
    before = AutoProcessor.from_pretrained(data["model"]["pretrained_model_name_or_path"])
    assert processor.chat_template == before.chat_template
    assert processor.image_processor.to_dict() == before.image_processor.to_dict()
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    start = AutoModelForImageTextToText.from_pretrained(data["model"]["pretrained_model_name_or_path"], dtype=torch.float32)
    same = {name: torch.equal(one, other) for (name, one), other in zip(model.named_parameters(), start.parameters(), strict=True)}
    towers = {name for name in same if "vision" in name or "visual" in name}
    assert towers == {name for name, equal in same.items() if equal}


@pytest.mark.both_ends
@pytest.mark.parametrize("changes", [{}, {"peft": {"dim": 4, "dropout": 0.2}}], ids=["full", "lora"])
def test_a_resumed_run_equals_an_unbroken_one(changes: dict[str, Any], spec: Make) -> None:
    data = spec("qwen", step_scheduler={"ckpt_every_steps": 2}, **changes)
    run = finetune(data)
    before = losses(run)
    folder = RunFolder(run.path)
    folder.prepare_resume(step=2)
    run_recipe(recipe_from_dict(data).recipe, folder, resume=run.path / "checkpoints" / "epoch_0_step_2")
    assert losses(run) == before
    assert len(before) == 6


def test_a_micro_batch_does_not_change_the_losses_and_is_not_torn(spec: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = losses(finetune(spec("qwen")))
    one = losses(finetune(spec("qwen", step_scheduler={"local_batch_size": 1})))
    monkeypatch.setattr("automodel.train.step.TOKENS_AT_ONCE", 8)
    assert TOKENS_AT_ONCE > 8
    assert losses(finetune(spec("qwen"))) == whole
    assert one == pytest.approx(whole, rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_stay_out_of_a_frozen_vision_tower(kind: str, spec: Make) -> None:
    found = plan(spec(kind, peft={"dim": 4}))
    assert found.lora_modules
    assert not any("vision" in name or "visual" in name for name in found.lora_modules)
    free = plan(spec(kind, peft={"dim": 4}, freeze_config={"freeze_vision_tower": False}))
    assert any("vision" in name or "visual" in name for name in free.lora_modules)
    assert free.trained_parameters > found.trained_parameters


@pytest.mark.both_ends
def test_an_adapter_is_merged_with_its_processor_and_answers(spec: Make, tmp_path: Path) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from automodel.checkpoint import merge_adapter
    from automodel.tasks.generate import generate

    data = spec(peft={"dim": 4})
    run = finetune(data)
    assert generate(run, "Who built it?", max_new_tokens=3).tokens == 3
    folder = merge_adapter(run.path, tmp_path / "merged")
    before = AutoProcessor.from_pretrained(data["model"]["pretrained_model_name_or_path"])
    assert AutoProcessor.from_pretrained(folder).chat_template == before.chat_template
    assert type(AutoModelForImageTextToText.from_pretrained(folder)).__name__ == "LlavaForConditionalGeneration"


def test_the_layers_are_those_of_the_language_model(spec: Make) -> None:
    from automodel.parallel import decoder_layers
    from automodel.tasks.preflight import sizes

    ready = preflight(recipe_from_dict(spec()).recipe)
    model = sizes(ready.recipe, ready.precision).model
    assert {type(layer).__name__ for layer in decoder_layers(model)} == {"LlamaDecoderLayer"}


def test_a_frozen_tower_is_thawed_on_request(spec: Make) -> None:
    frozen, whole = plan(spec()), plan(spec(freeze_config={"freeze_vision_tower": False}))
    assert frozen.trained_parameters < whole.trained_parameters == whole.parameters
    assert any("frozen" in note for note in frozen.notes)
    assert not any("frozen" in note for note in whole.notes)
    assert any("coarse" in note for note in whole.notes)
    assert "coarse" in str(whole)


def test_several_workers_make_the_same_batches(spec: Make) -> None:
    assert losses(finetune(spec(dataloader={"num_workers": 2}))) == losses(finetune(spec()))


# What a person sees.


@pytest.mark.both_ends
def test_a_preview_shows_the_pictures_and_folds_their_tokens(spec: Make) -> None:
    found = preview(spec("qwen"), n=3)
    assert "[image 1: 80x40, 3 tokens]<|vision_end|><|vision_start|>[image 2: 80x68, 6 tokens]" in str(found)
    assert "<|image_pad|>" not in str(found)
    assert "⟦Anna Vell, in 1802.</s>⟧" in str(found)
    row = json.loads(json.dumps(found.as_dict()))["rows"][2]
    assert [(one["name"], one["width"], one["height"], one["tokens"]) for one in row["images"]] == [("2-0.png", 80, 40, 3), ("2-1.png", 80, 68, 6)]
    assert all(one["source"].startswith("data:image/") for one in row["images"])
    marked = [token for token in row["tokens"] if "image" in token]
    assert [token["image"] for token in marked] == [0] * 3 + [1] * 6
    assert {token["text"] for token in marked} == {"<|image_pad|>"}
    assert not any(token["trained"] for token in marked)
    assert "".join(token["text"] for token in row["tokens"]) == row["text"]
    html = found._repr_html_()
    assert html.count("<img src='data:image/") == 4
    assert "alt='image 2: 2-1.png, 80x68, 6 tokens'" in html
    assert [row.index for row in found.at([4]).rows] == [4]
    assert "images" not in found.at([4]).as_dict()["rows"][0]


def test_what_is_shown_is_what_is_trained(spec: Make) -> None:
    data = spec("llava", dataset={"seq_length": 30})
    found, ready = preview(data, n=3), preflight(recipe_from_dict(data).recipe)
    assert found.report == ready.training.report
    assert found.report.dropped_too_long == 2
    for number, ids in enumerate(found.ids):
        assert list(ids) == ready.training[number]["input_ids"].tolist()


def test_an_own_chat_template_goes_with_the_processor(spec: Make) -> None:
    template = (
        "{% for m in messages %}{{ m['role'] }}: {% for c in m['content'] %}{% if c['type'] == 'image' %}<image>{% else %}"
        "{{ c['text'] }}{% endif %}{% endfor %}</s>{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
    )
    ready = preflight(recipe_from_dict(spec(dataset={"chat_template": template})).recipe)
    assert ready.processor.chat_template == ready.tokenizer.chat_template == template
    assert str(ready.tokenizer.decode(ready.training.input_ids(4))).startswith("user: Who built")


def test_a_text_recipe_says_which_recipe_reads_images(spec: Make) -> None:
    data = {**spec(), "recipe": "TrainFinetuneRecipeForNextTokenPrediction"}
    with pytest.raises(DataError, match="more than text") as caught:
        preview(data)
    assert "FinetuneRecipeForVLM" in caught.value.fix
    assert train_rows(finetune(spec(step_scheduler={"max_steps": 1})))
