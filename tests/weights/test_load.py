"""Checkpoints reach the parameters bit by bit: mapped or copied, whole or in part, converted on the way, and never twice in memory."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from automodel.errors import ModelError
from automodel.weights import fill, mapping
from automodel.weights.load import load_into, read_state
from automodel.weights.mapping import PAGE, Extent, Files
from automodel.weights.rules import Rule, concat, drop, interleave, same, split, stack, tied, transpose
from automodel.weights.save import to_disk, write_shards

pytestmark = pytest.mark.both_ends

RULES: tuple[Rule, ...] = (
    same("embed.weight"),
    tied("head.weight", "embed.weight"),
    concat("qkv.weight", "q.weight", "k.weight", "v.weight", sizes=(96, 32, 32)),
    concat("qkv.bias", "q.bias", "k.bias", "v.bias", sizes=(96, 32, 32)),
    stack("experts", "expert.{j}.w", transposed=True),
    interleave("mixed", "gate", "up"),
    split(("left", "right"), "both", dim=1),
    transpose("down.weight", "down.weight"),
    same("scale"),
    same("steps"),
    drop("*.inv_freq", "computed"),
)


class Model(nn.Module):
    """One tensor for each kind of rule, a tied head, a scalar, a saved buffer of integers and one that is not saved."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(64, 32)
        self.qkv = nn.Linear(32, 160)
        self.experts = nn.Parameter(torch.zeros(3, 8, 16))
        self.mixed = nn.Parameter(torch.zeros(20, 32))
        self.left = nn.Parameter(torch.zeros(4, 3))
        self.right = nn.Parameter(torch.zeros(4, 5))
        self.down = nn.Linear(24, 32, bias=False)
        self.scale = nn.Parameter(torch.zeros(()), requires_grad=False)
        self.register_buffer("steps", torch.zeros(2, dtype=torch.int64))
        self.register_buffer("table", torch.zeros(2), persistent=False)
        self.head = nn.Linear(32, 64, bias=False)
        self.head.weight = self.embed.weight


def filled(*, dtype: torch.dtype = torch.float32) -> Model:
    model = Model()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
        model.steps.copy_(torch.tensor([3, 1 << 40]))
    return model.to(dtype)


def empty(dtype: torch.dtype = torch.float32) -> Model:
    with torch.device("meta"):
        return Model().to(dtype)


def write(folder: Path, *, dtype: torch.dtype = torch.float32, shard: int | str = "5GB", **more: Tensor) -> Model:
    model = filled(dtype=dtype)
    write_shards(folder, {**to_disk(dict(model.state_dict()), RULES), **more}, max_shard_size=shard)
    return model


def assert_same(model: nn.Module, other: nn.Module) -> None:
    one, two = dict(model.state_dict()), dict(other.state_dict())
    assert one.keys() == two.keys()
    for name in one:
        assert one[name].dtype == two[name].dtype, name
        assert torch.equal(one[name], two[name]), name


@pytest.mark.parametrize("shard", ["5GB", 8000])
@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_round_trip_is_bitwise(tmp_path: Path, dtype: torch.dtype, mapped: bool, shard: int | str) -> None:
    there = write(tmp_path, dtype=dtype, shard=shard)
    assert len(list(tmp_path.glob("*.safetensors"))) == (1 if shard == "5GB" else len(set(json.loads(_index(tmp_path))["weight_map"].values())))
    model = empty(dtype)
    done = load_into(model, tmp_path, RULES, mapped=mapped)
    assert_same(model, there)
    assert model.head.weight is model.embed.weight
    assert isinstance(model.embed.weight, nn.Parameter)
    assert not model.scale.requires_grad
    assert model.qkv.weight.requires_grad
    assert bool(done.bytes_mapped) == mapped
    assert done.bytes_read + done.bytes_mapped == sum(tensor.nbytes for tensor in to_disk(dict(there.state_dict()), RULES).values())
    write_shards(tmp_path / "again", to_disk(dict(model.state_dict()), RULES), max_shard_size=shard)
    for path in tmp_path.glob("*.safetensors"):
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def _index(folder: Path) -> str:
    return (folder / "model.safetensors.index.json").read_text()


@pytest.mark.parametrize("mapped", [True, False])
def test_a_mapped_model_trains_and_leaves_the_file_alone(tmp_path: Path, mapped: bool) -> None:
    write(tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    model = empty()
    load_into(model, tmp_path, RULES, mapped=mapped)
    other = filled()
    for one in (model, other):
        optimizer = torch.optim.SGD(one.parameters(), lr=0.1)
        sum(parameter.square().sum() for parameter in one.parameters() if parameter.requires_grad).backward()
        optimizer.step()
    assert_same(model, other)
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_a_mapped_file_may_be_replaced_and_removed(tmp_path: Path) -> None:
    there = write(tmp_path)
    model = empty()
    load_into(model, tmp_path, RULES, mapped=True)
    write_shards(tmp_path, {name: tensor + 1 for name, tensor in to_disk(dict(model.state_dict()), RULES).items()})
    gc.collect()
    assert_same(model, there)
    (tmp_path / "model.safetensors").unlink()
    assert_same(model, there)


@pytest.mark.parametrize("mapped", [True, False])
def test_numbers_are_converted_on_the_way(tmp_path: Path, mapped: bool) -> None:
    there = write(tmp_path, dtype=torch.bfloat16)
    model = empty()
    load_into(model, tmp_path, RULES, dtype=torch.float16, mapped=mapped)
    assert_same(model, there.to(torch.float16))
    assert model.steps.dtype == torch.int64


def test_tensors_that_are_there_are_filled_in_place(tmp_path: Path) -> None:
    there = write(tmp_path, dtype=torch.bfloat16)
    model = Model()
    held = {name: parameter.data_ptr() for name, parameter in model.named_parameters()}
    load_into(model, tmp_path, RULES)
    assert_same(model, there.float())
    assert {name: parameter.data_ptr() for name, parameter in model.named_parameters()} == held


def test_small_pieces_are_put_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = write(tmp_path)
    monkeypatch.setattr(fill, "CHUNK_BYTES", 100)
    model = empty()
    load_into(model, tmp_path, RULES, check=True)
    assert_same(model, there)


@pytest.mark.parametrize("rank", range(4))
def test_a_rank_gets_its_box_and_reads_no_more(tmp_path: Path, rank: int) -> None:
    there = write(tmp_path)

    def shard_of(name: str, shape: tuple[int, ...]) -> tuple[slice, ...] | None:
        if len(shape) < 2:
            return None
        dim = 1 if name == "down.weight" else 0
        wide = -(-shape[dim] // 4)
        return tuple(slice(min(rank * wide, n), min(rank * wide + wide, n)) if d == dim else slice(0, n) for d, n in enumerate(shape))

    model = empty()
    done = load_into(model, tmp_path, RULES, shard_of=shard_of, mapped=True)
    for name, whole in there.named_parameters():
        box = shard_of(name, tuple(whole.shape))
        assert torch.equal(model.get_parameter(name), whole if box is None else whole[box]), name
    assert done.bytes_read + done.bytes_mapped == sum(t.nbytes for t in [*model.parameters(), *model.buffers()] if not t.is_meta)


def test_a_state_dict_without_a_model(tmp_path: Path) -> None:
    there = dict(write(tmp_path, dtype=torch.bfloat16).state_dict())
    shapes = {name: tuple(tensor.shape) for name, tensor in there.items()}
    state = read_state(tmp_path, RULES, shapes)
    assert state.keys() == there.keys()
    assert all(torch.equal(state[name], there[name]) for name in there)
    assert read_state(tmp_path, RULES, shapes, dtype=torch.float32)["qkv.weight"].dtype == torch.float32


def test_a_tied_head_on_disk_must_be_equal(tmp_path: Path) -> None:
    embed = filled().embed.weight.detach()
    there = write(tmp_path, **{"head.weight": embed})
    model = empty()
    load_into(model, tmp_path, RULES)
    assert_same(model, there)
    write(tmp_path, **{"head.weight": embed + 1})
    with pytest.raises(ModelError, match=r"embed\.weight and head\.weight .* differ"):
        load_into(empty(), tmp_path, RULES)


def test_a_head_that_is_tied_after_loading_is_tied_by_loading(tmp_path: Path) -> None:
    write(tmp_path)
    model = empty()
    model.head.weight = nn.Parameter(torch.empty(64, 32, device="meta"))
    load_into(model, tmp_path, RULES)
    assert model.head.weight is model.embed.weight


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_check_finds_numbers_that_are_not_finite_by_name(tmp_path: Path, bad: float, mapped: bool) -> None:
    wrong = filled().qkv.weight.detach()[96:128].clone()
    wrong[5, 7] = bad
    write(tmp_path, **{"k.weight": wrong})
    load_into(empty(), tmp_path, RULES, mapped=mapped)
    with pytest.raises(ModelError, match=r"k\.weight .* not finite") as caught:
        load_into(empty(), tmp_path, RULES, check=True, mapped=mapped)
    assert "1 NaN or Inf" in str(caught.value)


def test_check_finds_what_does_not_fit_the_number_type(tmp_path: Path) -> None:
    write(tmp_path, scale=torch.tensor(1e30))
    load_into(empty(), tmp_path, RULES, check=True)
    with pytest.raises(ModelError, match="scale"):
        load_into(empty(), tmp_path, RULES, check=True, dtype=torch.float16)


def test_a_missing_tensor_is_refused_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = filled()
    disk = to_disk(dict(model.state_dict()), RULES)
    del disk["expert.1.w"]
    write_shards(tmp_path, disk)
    monkeypatch.setattr(Files, "descriptor", None)
    with pytest.raises(ModelError, match=r"expert\.1\.w: index 1 is missing and 2 is there"):
        load_into(empty(), tmp_path, RULES)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    write(tmp_path, shard=8000)
    lost = sorted(tmp_path.glob("*.safetensors"))[1]
    lost.unlink()
    with pytest.raises(ModelError, match=lost.name):
        load_into(empty(), tmp_path, RULES)
    with pytest.raises(ModelError, match=lost.name):
        load_into(empty(), [*sorted(tmp_path.glob("*.safetensors")), lost], RULES)


def test_pickled_weights_are_refused_with_the_command_that_converts_them(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "pytorch_model.bin")
    for place in (tmp_path, [tmp_path / "pytorch_model.bin"]):
        with pytest.raises(ModelError, match=r"python -m automodel\.weights\.convert"):
            load_into(empty(), place, RULES)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"no model\.safetensors"):
        load_into(empty(), tmp_path, RULES)


def test_a_tensor_in_two_files_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_file({"w": torch.ones(1)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(ModelError, match="w lies in two files"):
        load_into(nn.Module(), sorted(tmp_path.glob("*.safetensors")), ())


def test_integers_do_not_become_floats(tmp_path: Path) -> None:
    write(tmp_path, **{"q.weight": torch.ones(96, 32, dtype=torch.int8)})
    with pytest.raises(ModelError, match=r"q\.weight .* cannot take"):
        load_into(empty(), tmp_path, RULES)


def test_a_file_with_an_odd_header(tmp_path: Path) -> None:
    """Writers other than the usual ones need not align the tensors."""
    there = write(tmp_path)
    path = tmp_path / "model.safetensors"
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = raw[8 : 8 + size].rstrip()
    header += b" " * ((1 - len(header) - 8) % 8)
    path.write_bytes(len(header).to_bytes(8, "little") + header + raw[8 + size :])
    for mapped in (True, False):
        model = empty()
        load_into(model, tmp_path, RULES, mapped=mapped)
        assert_same(model, there)


@pytest.mark.skipif(not mapping.CAN_MAP, reason="needs Linux")
def test_runs_of_a_file_are_mapped_side_by_side(tmp_path: Path) -> None:
    """Also across files and at places in the middle of a page; the file stays as it is when the tensor is written."""
    path, other = tmp_path / "a", tmp_path / "b"
    path.write_bytes(os.urandom(9 * PAGE + 100))
    other.write_bytes(os.urandom(9 * PAGE + 100))
    raw, raw2 = path.read_bytes(), other.read_bytes()
    runs = [
        Extent(path=path, start=2 * PAGE + 24, length=2 * PAGE),
        Extent(path=other, start=PAGE + 24, length=PAGE + 8),
        Extent(path=path, start=5 * PAGE + 32, length=3 * PAGE + 5),
    ]
    expected = b"".join((raw if run.path == path else raw2)[run.start : run.start + run.length] for run in runs)
    with Files() as files:
        joined = files.joined(runs, torch.uint8)
        assert joined is not None
        assert bytes(joined.numpy()) == expected
        assert files.joined([runs[0], Extent(path=path, start=16, length=PAGE)], torch.uint8) is None
        assert files.joined([runs[0], Extent(path=other, start=24, length=8)], torch.uint8) is None
    gc.collect()
    copy = joined.clone()
    joined.add_(1)
    assert torch.equal(joined, copy + 1)
    assert path.read_bytes() == raw
    assert other.read_bytes() == raw2


def test_a_joined_matrix_of_whole_pages_is_mapped(tmp_path: Path) -> None:
    width = PAGE // 4
    tensors = {name: torch.randn(rows, width) for name, rows in (("k", 1), ("norm", 1), ("q", 3), ("v", 2))}
    save_file({**tensors, "bias": torch.randn(3)}, tmp_path / "model.safetensors")
    with torch.device("meta"):
        model = nn.ParameterDict({"qkv": torch.empty(6, width), "bias": torch.empty(3), "norm": torch.empty(1, width)})
    done = load_into(model, tmp_path, (concat("qkv", "q", "k", "v", sizes=(3, 1, 2)), same("bias"), same("norm")), mapped=True)
    assert torch.equal(model["qkv"], torch.cat([tensors["q"], tensors["k"], tensors["v"]]))
    assert done.bytes_read == 0 or not mapping.CAN_MAP


MEASURE = """
import sys, torch
from pathlib import Path
from torch import nn
from automodel.weights.load import load_into
from automodel.weights.rules import concat, transpose

def status(name):
    return int(Path("/proc/self/status").read_text().split(name + ":")[1].split()[0]) * 1024

with torch.device("meta"):
    model = nn.ParameterDict({"qkv": torch.empty(3 * 4096, 2048), "down": torch.empty(2048, 4096)})
rules = (concat("qkv", "q", "k", "v"), transpose("down", "down"))
before = status("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
load_into(model, sys.argv[1], rules, dtype=torch.float32, mapped=False)
print(status("VmHWM") - before - sum(parameter.nbytes for parameter in model.values()))
"""


@pytest.mark.skipif(not mapping.CAN_MAP, reason="reads /proc")
def test_memory_stays_at_the_size_of_the_model(tmp_path: Path) -> None:
    """67 MB in bfloat16 become 134 MB in float32; a second copy of anything large would show."""
    tensors = {name: torch.zeros(4096, 2048, dtype=torch.bfloat16) for name in ("q", "k", "v", "down")}
    write_shards(tmp_path, tensors, max_shard_size="40MB")
    done = subprocess.run([sys.executable, "-c", MEASURE, str(tmp_path)], capture_output=True, text=True, check=True)
    # up to four pieces are on their way at a time, and their pages of the file count as ours until they are done
    assert int(done.stdout) < 4 * fill.CHUNK_BYTES + (16 << 20)
