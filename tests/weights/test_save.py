"""Files of weights: what transformers reads, complete or not there, and made from pickled ones without running them."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from automodel.errors import ModelError
from automodel.weights import convert as conversion
from automodel.weights import inspect_folder
from automodel.weights.convert import convert
from automodel.weights.layout import DTYPES
from automodel.weights.rules import concat, same, tied, transpose
from automodel.weights.save import to_disk, write_file, write_shards

pytestmark = pytest.mark.both_ends

KINDS = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool]


def test_safetensors_reads_every_number_type_back(tmp_path: Path) -> None:
    tensors = {f"t{i}": torch.arange(i + 1).to(kind) for i, kind in enumerate(KINDS)}
    tensors |= {"scalar": torch.tensor(2.5), "none": torch.empty(0, 3), "turned": torch.arange(6.0).view(2, 3).t()}
    tensors["small"] = torch.randn(4).to(torch.float8_e4m3fn)
    write_file(tmp_path / "model.safetensors", tensors)
    found = load_file(tmp_path / "model.safetensors")
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert found[name].shape == tensor.shape
        assert torch.equal(found[name].float(), tensor.float())
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
    assert set(KINDS) <= set(DTYPES.values())


def test_shards_have_an_index_in_the_usual_form(tmp_path: Path) -> None:
    tensors = {f"layers.{i}.w": torch.full((10,), float(i)) for i in range(5)} | {"big": torch.zeros(100)}
    files = write_shards(tmp_path, tensors, max_shard_size=80)
    assert [path.name for path in files] == [f"model-{i:05}-of-00004.safetensors" for i in range(1, 5)]
    body = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert body["metadata"]["total_size"] == 600
    assert set(body["weight_map"]) == set(tensors)
    report = inspect_folder(tmp_path)
    report.check()
    assert report.parameters == 150
    merged = {name: tensor for path in files for name, tensor in load_file(path).items()}
    assert all(torch.equal(merged[name], tensors[name]) for name in tensors)


def test_a_later_save_leaves_nothing_of_an_earlier_one(tmp_path: Path) -> None:
    tensors = {f"w{i}": torch.zeros(10) for i in range(4)}
    (tmp_path / "model.extra.safetensors").write_bytes(b"mine")
    for size, count in ((40, 4), (80, 2), ("1GB", 1), (40, 4)):
        write_shards(tmp_path, tensors, max_shard_size=size)
        assert len([path for path in tmp_path.iterdir() if path.name.endswith(".safetensors")]) == count + 1
        assert (tmp_path / "model.safetensors.index.json").exists() == (count > 1)
        inspect_folder(tmp_path).check()
    assert not list(tmp_path.glob(".*"))


def test_a_save_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    write_shards(tmp_path, {"w": torch.ones(3)})
    with pytest.raises(ModelError, match="ghost"):
        write_shards(tmp_path, {"w": torch.zeros(3), "ghost": torch.empty(3, device="meta")})
    assert torch.equal(load_file(tmp_path / "model.safetensors")["w"], torch.ones(3))
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(("text", "files"), [("0.4 KB", 2), ("400", None), ("1 kib", 1), (400, 2), ("many", None)])
def test_shard_sizes(tmp_path: Path, text: int | str, files: int | None) -> None:
    tensors = {name: torch.zeros(100) for name in "ab"}
    if files is None:
        with pytest.raises(ModelError, match="shard size"):
            write_shards(tmp_path, tensors, max_shard_size=text)
    else:
        assert len(write_shards(tmp_path, tensors, max_shard_size=text)) == files


def test_parts_of_joined_rows_are_views() -> None:
    qkv, down = torch.randn(6, 4), torch.randn(4, 2)
    rules = (concat("qkv", "q", "k", sizes=(4, 2)), transpose("down", "down"), same("embed"), tied("head", "embed"))
    disk = to_disk({"qkv": qkv, "down": down, "embed": qkv, "head": qkv}, rules)
    assert set(disk) == {"q", "k", "down", "embed"}
    assert disk["k"].data_ptr() == qkv[4:].data_ptr()
    assert torch.equal(disk["down"], down.t())


def test_pickled_weights_are_converted(tmp_path: Path) -> None:
    shared = torch.randn(4, 2)
    parts = [{"embed": shared, "head": shared, "a": torch.randn(3)}, {"b": torch.randn(3, 2).to(torch.bfloat16)}]
    names = [f"pytorch_model-0000{i + 1}-of-00002.bin" for i in range(2)]
    for name, part in zip(names, parts, strict=True):
        torch.save(part, tmp_path / name)
    index = {"weight_map": {key: name for name, part in zip(names, parts, strict=True) for key in part}}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    done = subprocess.run([sys.executable, "-m", "automodel.weights.convert", str(tmp_path)], check=True, capture_output=True, text=True)
    assert done.stdout.split() == [str(tmp_path / "model.safetensors")]
    found = load_file(tmp_path / "model.safetensors")
    assert set(found) == {"embed", "a", "b"}
    assert torch.equal(found["embed"], shared)
    assert torch.equal(found["b"], parts[1]["b"])
    (tmp_path / names[1]).unlink()
    with pytest.raises(ModelError, match=names[1]):
        convert(tmp_path)


def test_weights_inside_a_larger_file_are_found(tmp_path: Path) -> None:
    torch.save({"state_dict": {"w": torch.ones(2)}, "epoch": 3}, tmp_path / "last.ckpt")
    convert(tmp_path)
    assert set(load_file(tmp_path / "model.safetensors")) == {"w"}


class Trap:
    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("this must not run",))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], zipped: bool) -> None:
    torch.save({"w": torch.ones(1), "trap": Trap()}, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelError, match="cannot be read without running its code"):
        convert(tmp_path)
    assert "must not run" not in capsys.readouterr().out
    assert not list(tmp_path.glob("*.safetensors"))


def test_the_old_form_of_pickled_weights(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2)}, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    convert(tmp_path)
    assert torch.equal(load_file(tmp_path / "model.safetensors")["w"], torch.ones(2))


@pytest.mark.parametrize("body", [[1, 2], {"w": 3}, {}])
def test_a_file_without_tensors_is_refused(tmp_path: Path, body: object, capsys: pytest.CaptureFixture[str]) -> None:
    with (tmp_path / "pytorch_model.bin").open("wb") as file:
        torch.save(body, file)
    assert conversion.main([str(tmp_path)]) == 2
    assert "no state dict" in capsys.readouterr().out


def test_no_pickle_at_all(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="one pickled model"):
        convert(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps([1, 2], protocol=2)[:5])
    with pytest.raises(ModelError, match="cannot be read"):
        convert(tmp_path)
