"""The face of a native decoder: what a model of transformers can do, it can do too, on both releases."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, DynamicCache

from automodel.auto import NeMoAutoModelForCausalLM, compat
from automodel.auto.native import LlamaForCausalLM, Qwen2ForCausalLM
from automodel.errors import ModelError
from tests.auto.auto_help import SHAPE, make_model

pytestmark = pytest.mark.both_ends
IDS = torch.randint(3, 300, (2, 20), generator=torch.Generator().manual_seed(1))
WISH = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}


def near(a: Tensor, b: Tensor, limit: float = 2e-5) -> bool:
    return bool((a - b).abs().max() <= limit * max(1.0, float(b.abs().max())))


@pytest.fixture(scope="module")
def pair(llama_dir: Path) -> tuple[Any, Any]:
    return AutoModelForCausalLM.from_pretrained(llama_dir, dtype=torch.float32), NeMoAutoModelForCausalLM.from_pretrained(llama_dir)


@pytest.fixture
def ours(llama_dir: Path) -> Any:
    return NeMoAutoModelForCausalLM.from_pretrained(llama_dir)


@pytest.fixture(scope="module")
def windowed_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Mistral whose window is shorter than the rows of the tests."""
    from transformers import AutoConfig

    torch.manual_seed(0)
    config = AutoConfig.for_model("mistral", **SHAPE, sliding_window=6, initializer_range=0.3, rope_theta=777.0)
    folder = tmp_path_factory.mktemp("windowed")
    compat.save_in_common_form(AutoModelForCausalLM.from_config(config, attn_implementation="eager").float(), folder)
    return folder


def test_the_native_class_is_taken_and_can_be_refused(llama_dir: Path) -> None:
    model = NeMoAutoModelForCausalLM.from_pretrained(llama_dir)
    assert isinstance(model, LlamaForCausalLM)
    assert model.resolution.implementation == "native"
    assert "native decoder" in str(model.resolution)
    other = NeMoAutoModelForCausalLM.from_pretrained(llama_dir, force_hf=True)
    assert type(other).__module__.startswith("transformers.")
    assert "force_hf" in str(other.resolution)
    spread = NeMoAutoModelForCausalLM.from_pretrained(llama_dir, device_map="cpu", variant=None)
    assert spread.resolution.implementation == "native"


def test_a_config_outside_the_spec_falls_back_with_its_reason(llama_dir: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(llama_dir, tmp_path / "odd")
    data = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**data, "hidden_act": "mish"}))
    model = NeMoAutoModelForCausalLM.from_pretrained(folder)
    assert model.resolution.implementation == "hf"
    assert "mish" in str(model.resolution)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("changes", [{}, {"use_cache": False}, {"num_beams": 3}, {"cache_implementation": "static"}, {"prefill_chunk_size": 5}])
def test_generation_is_that_of_transformers(pair: tuple[Any, Any], changes: dict[str, Any], padded: bool) -> None:
    mask = torch.ones_like(IDS)
    if padded:
        mask[1, :7] = 0
    theirs, ours = (model.generate(IDS, attention_mask=mask, **WISH, **changes) for model in pair)
    assert torch.equal(theirs, ours)


@pytest.mark.parametrize("changes", [{}, {"use_cache": False}, {"num_beams": 3}, {"cache_implementation": "static"}])
def test_windowed_layers_generate_as_transformers(windowed_dir: Path, changes: dict[str, Any]) -> None:
    theirs = AutoModelForCausalLM.from_pretrained(windowed_dir, dtype=torch.float32)
    ours = NeMoAutoModelForCausalLM.from_pretrained(windowed_dir)
    mask = torch.ones_like(IDS)
    mask[1, :7] = 0
    assert torch.equal(theirs.generate(IDS, attention_mask=mask, **WISH), ours.generate(IDS, attention_mask=mask, **WISH, **changes)) or changes
    assert torch.equal(theirs.generate(IDS, attention_mask=mask, **WISH, **changes), ours.generate(IDS, attention_mask=mask, **WISH, **changes))


def test_assisted_generation_and_embeddings(pair: tuple[Any, Any], ours: Any) -> None:
    theirs, model = pair
    wanted = theirs.generate(IDS[:1], **WISH)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)) * 0.05)
    assert torch.equal(model.generate(IDS[:1], assistant_model=ours, **WISH), wanted)
    embeds = model.get_input_embeddings()(IDS[:1])
    assert torch.equal(model.generate(inputs_embeds=embeds, **WISH), wanted[:, IDS.shape[1] :])


def test_a_cache_is_continued(pair: tuple[Any, Any]) -> None:
    for model in pair:
        cache = DynamicCache()
        model(IDS[:, :9], past_key_values=cache, use_cache=True)
        rest = model(IDS[:, 9:], past_key_values=cache, use_cache=True).logits
        assert near(rest, model(IDS).logits[:, 9:])


def test_prepared_masks_are_taken(pair: tuple[Any, Any]) -> None:
    theirs, ours = pair
    seen = torch.ones(20, 20, dtype=torch.bool).tril()[None, None].expand(2, 1, -1, -1).clone()
    seen[1, :, :, :5] = False
    seen[1, 0] |= torch.eye(20, dtype=torch.bool)
    added = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
    wanted = theirs(IDS, attention_mask=added).logits
    for mask in (seen, added, {"full_attention": seen}):
        assert near(ours(IDS, attention_mask=mask).logits, wanted)


@pytest.mark.parametrize("mask", [None, torch.ones(1, 20, dtype=torch.long)])
def test_packed_rows_by_positions(ours: Any, mask: Tensor | None) -> None:
    row = IDS[:1]
    positions = torch.cat([torch.arange(12), torch.arange(3), torch.arange(5)])[None]
    apart = torch.cat([ours(part).logits for part in row.split([12, 3, 5], dim=1)], dim=1)
    out = ours(row, position_ids=positions, attention_mask=mask)
    assert near(out.logits, apart)
    assert out.past_key_values is None


def test_packed_rows_by_bounds_and_in_a_batch(ours: Any, windowed_dir: Path) -> None:
    bounds = torch.tensor([0, 12, 15, 20], dtype=torch.int32)
    apart = torch.cat([ours(part).logits for part in IDS[:1].split([12, 3, 5], dim=1)], dim=1)
    assert near(ours(IDS[:1], cu_seq_lens_q=bounds, cu_seq_lens_k=bounds, max_length_q=12, max_length_k=12).logits, apart)
    with pytest.raises(ModelError, match="do not fill"):
        ours(IDS, cu_seq_lens_q=bounds)
    positions = torch.stack([torch.cat([torch.arange(8), torch.arange(12)]), torch.arange(20)])
    for model in (ours, NeMoAutoModelForCausalLM.from_pretrained(windowed_dir)):
        out = model(IDS, position_ids=positions, output_hidden_states=True)
        assert near(out.logits[0, 8:], model(IDS[:1, 8:]).logits[0])
        assert near(out.logits[1], model(IDS[1:]).logits[0])
        assert out.hidden_states[0].shape == (2, 20, 32)


def test_outputs(pair: tuple[Any, Any]) -> None:
    theirs, ours = pair
    wanted, found = theirs(IDS, labels=IDS, output_hidden_states=True), ours(IDS, labels=IDS, output_hidden_states=True)
    assert near(found.loss, wanted.loss)
    assert len(wanted.hidden_states) == len(found.hidden_states)
    assert all(near(a, b) for a, b in zip(found.hidden_states, wanted.hidden_states, strict=True))
    assert near(ours(IDS, labels=IDS, num_items_in_batch=torch.tensor(7)).loss, theirs(IDS, labels=IDS, num_items_in_batch=torch.tensor(7)).loss)
    assert ours(IDS, logits_to_keep=3).logits.shape == (2, 3, 320)
    assert torch.equal(ours(IDS, logits_to_keep=torch.tensor([1, 4])).logits, ours(IDS).logits[:, [1, 4]])
    assert isinstance(ours(IDS, return_dict=False), tuple)
    with pytest.raises(ModelError, match="attention weights"):
        ours(IDS, output_attentions=True)
    base = ours.model(IDS)
    assert near(base.last_hidden_state, found.hidden_states[-1])
    assert isinstance(base.past_key_values, DynamicCache)
    assert ours.base_model is ours.model is ours.get_decoder()


def test_attention_to_both_sides(ours: Any) -> None:
    mask = torch.ones_like(IDS)
    mask[1, 12:] = 0
    both = ours.model(IDS, attention_mask=mask, is_causal=False).last_hidden_state
    alone = ours.model(IDS[1:, :12], is_causal=False).last_hidden_state
    assert near(both[1, :12], alone[0])
    assert not near(both[0], ours.model(IDS).last_hidden_state[0], limit=1e-2)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_gives_the_same_gradients(ours: Any, reentrant: bool) -> None:
    ours.train()
    ours(IDS, labels=IDS).loss.backward()
    wanted = {name: parameter.grad.clone() for name, parameter in ours.named_parameters()}
    ours.zero_grad()
    ours.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    ours.enable_input_require_grads()
    ours(IDS, labels=IDS).loss.backward()
    assert ours.is_gradient_checkpointing
    assert all(near(parameter.grad, wanted[name]) for name, parameter in ours.named_parameters())


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_resized_vocabulary_is_saved_and_read(tmp_path: Path, kind: str) -> None:
    model = NeMoAutoModelForCausalLM.from_pretrained(make_model(tmp_path / "first", kind))
    tied = kind == "qwen2"
    before = model(IDS).logits
    model.resize_token_embeddings(331, mean_resizing=False)
    assert near(model(IDS).logits[..., :320], before)
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied
    model.save_pretrained(tmp_path / "second")
    for again in (NeMoAutoModelForCausalLM.from_pretrained(tmp_path / "second"), AutoModelForCausalLM.from_pretrained(tmp_path / "second")):
        assert again.config.vocab_size == 331
        assert near(again(IDS).logits, model(IDS).logits)


def test_copies(ours: Any, tmp_path: Path) -> None:
    torch.save(ours, tmp_path / "whole.pt")
    for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours)), torch.load(tmp_path / "whole.pt", weights_only=False)):
        assert type(other) is type(ours)
        assert torch.equal(other(IDS).logits, ours(IDS).logits)
        with torch.no_grad():
            other.model.layers[0].self_attn.qkv.weight.zero_()
        assert not torch.equal(other(IDS).logits, ours(IDS).logits)
    plain = LlamaForCausalLM(ours.config)
    assert type(pickle.loads(pickle.dumps(plain))) is LlamaForCausalLM


def test_compiled_it_computes_the_same(ours: Any) -> None:
    compiled = torch.compile(ours, backend="eager", fullgraph=True)
    assert near(compiled(IDS, use_cache=False).logits, ours(IDS).logits)
    mask = torch.ones_like(IDS)
    mask[1, :7] = 0
    assert near(torch.compile(ours, backend="eager")(IDS, attention_mask=mask).logits, ours(IDS, attention_mask=mask).logits)


def test_state_dicts_with_the_names_of_the_checkpoint(ours: Any, llama_dir: Path) -> None:
    wanted = ours(IDS).logits
    names = load_file(llama_dir / "model.safetensors")
    fresh = NeMoAutoModelForCausalLM.from_config(str(llama_dir))
    assert not near(fresh(IDS).logits, wanted)
    halves = [{name: names[name] for name in sorted(names)[start::2]} for start in (0, 1)]
    for half in halves:
        fresh.load_state_dict(half, strict=False)
    assert torch.equal(fresh(IDS).logits, wanted)
    fresh = NeMoAutoModelForCausalLM.from_config(str(llama_dir))
    assert not fresh.load_state_dict(ours.state_dict()).missing_keys
    assert torch.equal(fresh(IDS).logits, wanted)
    holder = nn.ModuleDict({"inner": NeMoAutoModelForCausalLM.from_config(str(llama_dir))})
    holder.load_state_dict({f"inner.{name}": tensor for name, tensor in names.items()})
    assert torch.equal(holder["inner"](IDS).logits, wanted)
    with pytest.raises(RuntimeError, match=r"surprise\.weight"):
        fresh.load_state_dict({**names, "surprise.weight": torch.zeros(2)})


def test_tied_heads_need_no_second_name(tmp_path: Path) -> None:
    folder = make_model(tmp_path, "qwen2")
    fresh = NeMoAutoModelForCausalLM.from_config(str(folder))
    assert isinstance(fresh, Qwen2ForCausalLM)
    assert not fresh.load_state_dict(load_file(folder / "model.safetensors")).missing_keys
    assert near(fresh(IDS).logits, AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(IDS).logits)


def test_adapters_of_transformers_itself(ours: Any, tmp_path: Path) -> None:
    from peft import LoraConfig

    ours.add_adapter(LoraConfig(r=2, target_modules=["q_proj", "down_proj"], init_lora_weights=False))
    ours.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} >= {"adapter_config.json", "adapter_model.safetensors"}
    assert "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight" in load_file(tmp_path / "adapter_model.safetensors")


def test_loading_into_other_places_and_types(llama_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(llama_dir, tmp_path / "outer" / "inner")
    for arguments in ({"device_map": "cpu"}, {"device_map": {"": "cpu"}}, {"device": "cpu", "low_cpu_mem_usage": True}):
        model, info = NeMoAutoModelForCausalLM.from_pretrained(llama_dir, dtype="bfloat16", output_loading_info=True, **arguments)
        assert (model.dtype, model.device.type) == (torch.bfloat16, "cpu")
        assert not info["missing_keys"]
    assert LlamaForCausalLM.from_pretrained(tmp_path / "outer", subfolder="inner", dtype=torch.float16).dtype == torch.float16
    assert model.name_or_path == model.config.name_or_path == str(llama_dir)
    with pytest.raises(ModelError, match="key_mapping"):
        LlamaForCausalLM.from_pretrained(llama_dir, key_mapping={"a": "b"})
    with pytest.raises(TypeError, match="no_such"):
        LlamaForCausalLM.from_pretrained(llama_dir, no_such=1)
    assert LlamaForCausalLM.from_pretrained(None, config=model.config, state_dict=load_file(llama_dir / "model.safetensors")).device.type == "cpu"
    assert NeMoAutoModelForCausalLM.from_pretrained(llama_dir, key_mapping={"^x": "y"}).resolution.implementation == "hf"


def test_a_fall_back_for_arguments_names_them(llama_dir: Path) -> None:
    assert "key_mapping" in str(NeMoAutoModelForCausalLM.from_pretrained(llama_dir, key_mapping={"^x": "y"}).resolution)


def test_config_on_disk_keeps_its_names(llama_dir: Path, tmp_path: Path) -> None:
    model = NeMoAutoModelForCausalLM.from_pretrained(llama_dir)
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    wanted = load_file(llama_dir / "model.safetensors")
    found = {name: tensor for path in tmp_path.glob("*.safetensors") for name, tensor in load_file(path).items()}
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
