"""Architectures whose config transformers lacks: switches against decoders written out in tests, or the classes that they equal; real configs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from automodel.archs.base import Architecture
from automodel.registry import ModelRegistry
from automodel.spec import AttentionSpec, DecoderSpec, SkipSpec, Unsupported
from tests.archs import plain
from tests.archs.decoders import logits, opened, random_checkpoint, shapes, spec_of

CONFIGS = Path(__file__).resolve().parents[3] / "shared" / "architectures" / "configs"
GOLDENS = Path(__file__).parent / "goldens"
DYNAMIC = {"rope_scaling": {"type": "dynamic", "factor": 4.0}, "max_position_embeddings": 16}
both_ends = pytest.mark.both_ends


def entry(name: str) -> Architecture:
    return ModelRegistry.get(name)


def ids(length: int = 24) -> Tensor:
    return torch.randint(5, 128, (1, length), generator=torch.Generator().manual_seed(3))


def difference(a: Tensor, b: Tensor) -> float:
    assert b.std() > 0.02
    return (a - b).abs().max().item()


# -- against decoders written out in plain.py

PHI_LONG = entry("Phi3SmallForCausalLM").variants["longrope"]["rope_scaling"]
WRITTEN: dict[str, dict[str, Any]] = {
    "StableLMAlphaForCausalLM": {},
    "ChatGLMForCausalLM": {
        "biased_mha_layernorm": {"add_bias_linear": True, "multi_query_attention": False, "rmsnorm": False},
        "32k": {"rope_ratio": 50.0, "kv_channels": 32},
    },
    "JAISLMHeadModel": {
        "alibi_length": {"alibi_scaling": {"type": "linear", "train_seq_len": 8}},
        "learned_scaled": {"position_embedding_type": "learned"},
    },
    "Phi3SmallForCausalLM": {"within": {"rope_scaling": {**PHI_LONG, "original_max_position_embeddings": 32}}},
    "DeciLMForCausalLM": {
        "sinks_before": {
            "block_configs": [
                {"attention": {"n_heads_in_group": 2, "window_length": 3, "num_sink_tokens": 4, "unshifted_sink": True}, "ffn": {"ffn_mult": 1.0}}
            ]
            * 4
        }
    },
}
WRITTEN_CASES = [(name, variant) for name in WRITTEN for variant in ("tiny", *entry(name).variants, *WRITTEN[name])]


@pytest.mark.parametrize(("name", "variant"), WRITTEN_CASES)
def test_every_switch_does_what_its_description_says(name: str, variant: str, tmp_path: Path) -> None:
    one = entry(name)
    config: dict[str, Any] = {**one.tiny, **{**one.variants, **WRITTEN[name], "tiny": {}}[variant]}
    tensors = random_checkpoint(one, config)
    found = logits(opened(one, config, tensors, tmp_path), spec_of(one, config), ids())
    wanted = plain.DECODERS[one.model_type or ""](config, tensors, ids()[0])
    assert difference(found[0], wanted) <= 2e-5


def test_saturated_scores_of_aquila_are_cut_before_the_mask(tmp_path: Path) -> None:
    one = entry("AquilaForCausalLM")
    tensors = random_checkpoint(one, one.tiny)
    for name in tensors:
        if "q_proj" in name or "k_proj" in name:
            tensors[name] *= 60.0
    found = logits(opened(one, one.tiny, tensors, tmp_path), spec_of(one, one.tiny), ids())[0]
    wanted = plain.aquila(one.tiny, tensors, ids()[0])
    # Most tokens agree to a rounding error; where two scores are near the limit that error decides between keys.
    assert (found - wanted).abs().max() <= 1e-3
    plain_llama = {**one.tiny, "model_type": "llama"}
    uncut = logits(opened(entry("LlamaForCausalLM"), plain_llama, tensors, tmp_path), spec_of(entry("LlamaForCausalLM"), plain_llama), ids())[0]
    assert (uncut - wanted).abs().max() > 0.1


def test_a_minicpm_computed_in_slices_forgets_to_divide() -> None:
    one = entry("MiniCPMForCausalLM")
    assert spec_of(one, one.tiny).head.divide_hidden == 2.0
    assert spec_of(one, {**one.tiny, "pretraining_tp": 2}).head.divide_hidden == 1.0


def test_the_written_out_decoders_give_the_stored_outputs() -> None:
    from safetensors.torch import load_file

    for name in ("chatglm3", "jais_mup", "phi3small"):
        config = json.loads((GOLDENS / name / "config.json").read_text())
        inputs, outputs = (load_file(GOLDENS / name / f"{part}.safetensors") for part in ("inputs", "outputs"))
        found = plain.DECODERS[config["model_type"]](config, load_file(GOLDENS / name / "model.safetensors"), inputs["input_ids"][0])
        assert difference(found, outputs["logits"][0]) <= 2e-5, name


# -- against the classes of transformers that they equal after a renaming


def llama(config: Mapping[str, Any], **changes: Any) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    common = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim")
    common += ("max_position_embeddings", "rope_theta", "rope_scaling", "rms_norm_eps", "tie_word_embeddings")
    given = {"rms_norm_eps": 1e-6, **{name: config[name] for name in common if name in config}, **changes}
    return LlamaForCausalLM(LlamaConfig(**given, attn_implementation="eager"))


def from_internlm2(config: Mapping[str, Any]) -> tuple[Any, Callable[[dict[str, Tensor]], dict[str, Tensor]]]:
    def renamed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        short = {"attention.wo": "self_attn.o_proj", "feed_forward.w1": "mlp.gate_proj", "feed_forward.w3": "mlp.up_proj"}
        short |= {"feed_forward.w2": "mlp.down_proj", "attention_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
        short |= {"tok_embeddings": "embed_tokens"}
        found = {}
        groups, d = config["num_key_value_heads"], config["hidden_size"] // config["num_attention_heads"]
        for name, tensor in tensors.items():
            if "wqkv" in name:
                grouped = tensor.unflatten(0, (groups, -1, d))
                parts = (grouped[:, :-2], grouped[:, -2:-1], grouped[:, -1:])
                for letter, piece in zip("qkv", parts, strict=True):
                    found[name.replace("attention.wqkv", f"self_attn.{letter}_proj")] = piece.flatten(0, 2)
                continue
            for old, new in short.items():
                name = name.replace(old, new)
            found["lm_head.weight" if name == "output.weight" else name] = tensor
        return found

    return llama(config, attention_bias=config["bias"]), renamed


def from_exaone(config: Mapping[str, Any]) -> tuple[Any, Callable[[dict[str, Tensor]], dict[str, Tensor]]]:
    pairs = (("transformer.wte", "model.embed_tokens"), ("transformer.ln_f", "model.norm"), ("transformer.h", "model.layers"))
    pairs += (("attn.attention", "self_attn"), ("out_proj", "o_proj"), ("ln_1", "input_layernorm"), ("ln_2", "post_attention_layernorm"))
    pairs += (("c_fc_0", "gate_proj"), ("c_fc_1", "up_proj"), ("c_proj", "down_proj"))

    def renamed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        found = {}
        for name, tensor in tensors.items():
            for old, new in pairs:
                name = name.replace(old, new)
            found[name] = tensor
        return found

    return llama({**config, "num_hidden_layers": config["num_layers"]}, rms_norm_eps=1e-5), renamed


def from_baichuan(config: Mapping[str, Any]) -> tuple[Any, Callable[[dict[str, Tensor]], dict[str, Tensor]]]:
    def split(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        found = {name: tensor for name, tensor in tensors.items() if "W_pack" not in name}
        for name in tensors.keys() - found.keys():
            found |= {name.replace("W_pack", f"{part}_proj"): piece for part, piece in zip("qkv", tensors[name].chunk(3), strict=True)}
        return found

    return llama(config), split


def as_they_are(model: Any) -> tuple[Any, Callable[[dict[str, Tensor]], dict[str, Tensor]]]:
    return model, lambda tensors: tensors


def granite(config: Mapping[str, Any]) -> Any:
    from transformers import GraniteConfig, GraniteForCausalLM

    width, scale = config["hidden_size"] // config["num_attention_heads"], config["scale_depth"] / config["num_hidden_layers"] ** 0.5
    same = {name: config[name] for name in config if name not in ("scale_emb", "scale_depth", "dim_model_base", "mup_denominator", "pad_token_id")}
    if scaling := same.get("rope_scaling"):
        # Where transformers 4 looks for the two, and there alone.
        same["rope_scaling"] = {"rope_type": scaling.get("type"), **scaling}
        same |= {"original_max_position_embeddings": scaling["original_max_position_embeddings"]} if "long_factor" in scaling else {}
    made = GraniteConfig(
        **{"tie_word_embeddings": True, "attention_bias": False, **same},
        embedding_multiplier=float(config["scale_emb"]),
        residual_multiplier=scale,
        attention_multiplier=width**-0.5,
        logits_scaling=config["hidden_size"] / config["dim_model_base"],
        attn_implementation="eager",
    )
    return GraniteForCausalLM(made)


EQUALS: dict[str, tuple[Callable[[Mapping[str, Any]], Any], Mapping[str, Mapping[str, Any]]]] = {
    "AquilaForCausalLM": (lambda c: as_they_are(llama(c)), {"dynamic": DYNAMIC}),
    "BaichuanForCausalLM": (from_baichuan, {}),
    "ExaoneForCausalLM": (from_exaone, {"dynamic": DYNAMIC, "theta": {"rope_theta": 1e6}}),
    "InternLMForCausalLM": (
        lambda c: as_they_are(llama(c, attention_bias=c.get("bias", True), rope_theta=float(c.get("rotary", {}).get("base", 10000)))),
        {},
    ),
    "InternLM2ForCausalLM": (from_internlm2, {"dynamic": DYNAMIC, "theta": {"rope_theta": 1000000}, "dynamic_biased": {**DYNAMIC, "bias": True}}),
    "InternLM3ForCausalLM": (
        lambda c: as_they_are(llama(c, attention_bias=c.get("bias", False), mlp_bias=c.get("bias", False), rms_norm_eps=1e-5)),
        {"dynamic": {**DYNAMIC, "rope_theta": 50000000}},
    ),
    "MiniCPMForCausalLM": (lambda c: as_they_are(granite(c)), {"dynamic": DYNAMIC}),
}
WITHOUT_EQUAL = ("13b", "13b_heads5", "2_7b", "2_13b", "qkv_biased")


@both_ends
@pytest.mark.parametrize(
    ("name", "variant"),
    [(name, variant) for name, (_, more) in EQUALS.items() for variant in ("tiny", *entry(name).variants, *more) if variant not in WITHOUT_EQUAL],
)
def test_it_equals_the_class_of_transformers(name: str, variant: str, tmp_path: Path) -> None:
    one, (make, more) = entry(name), EQUALS[name]
    # Some classes of transformers write into what they are given.
    config = deepcopy({**one.tiny, **{**one.variants, **more, "tiny": {}}[variant]})
    tensors = random_checkpoint(one, config)
    theirs, renamed = make(config)
    missing, unexpected = theirs.load_state_dict(renamed(tensors), strict=False)
    assert not unexpected
    assert all(key == "lm_head.weight" for key in missing)
    theirs.tie_weights()
    found = logits(opened(one, config, tensors, tmp_path), spec_of(one, config), ids())
    with torch.no_grad():
        assert difference(found, theirs.eval()(ids()).logits) <= 2e-5


# -- which model a config means


def first(spec: DecoderSpec) -> AttentionSpec:
    found = spec.layers[0].attention
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("config", "rotary", "normalized"),
    [
        ({"architectures": ["BaiChuanForCausalLM"], "hidden_size": 64, "num_attention_heads": 4}, True, False),
        ({"hidden_size": 4096, "vocab_size": 125696}, True, True),
        ({"hidden_size": 5120, "num_attention_heads": 40, "vocab_size": 125696, "model_max_length": 4096}, False, True),
        ({"hidden_size": 5120, "num_attention_heads": 40, "vocab_size": 64000, "model_max_length": 4096}, False, False),
        ({"hidden_size": 5120, "num_attention_heads": 40, "vocab_size": 125760}, False, True),
        ({"hidden_size": 64, "num_attention_heads": 4, "max_position_embeddings": 64, "z_loss_weight": 0}, True, True),
    ],
)
def test_four_baichuans_are_told_apart(config: dict[str, Any], rotary: bool, normalized: bool) -> None:
    spec = spec_of(entry("BaichuanForCausalLM"), config)
    assert (first(spec).rope is not None, first(spec).alibi is None, spec.head.normalized) == (rotary, rotary, normalized)


@pytest.mark.parametrize(
    ("config", "theta", "scale"),
    [
        ({"_name_or_path": "THUDM/chatglm2-6b-32k", "rope_ratio": 16}, 1e4, 1 / 16),
        ({"transformers_version": "4.27.1", "rope_ratio": 16}, 1e4, 1 / 16),
        ({"transformers_version": "4.30.2", "rope_ratio": 50}, 5e5, 1.0),
        ({"_name_or_path": "THUDM/glm-4-9b-chat", "rope_ratio": 500}, 5e6, 1.0),
        ({"rope_ratio": 16, "rope_ratio_divides_positions": True}, 1e4, 1 / 16),
        ({}, 1e4, 1.0),
    ],
)
def test_rope_ratio_of_chatglm(config: dict[str, Any], theta: float, scale: float) -> None:
    rope = first(spec_of(entry("ChatGLMForCausalLM"), config)).rope
    assert rope is not None
    assert (rope.theta, rope.position_scale) == (theta, scale)


def test_widths_of_nemotron_nas() -> None:
    block = {"attention": {"n_heads_in_group": 8}, "ffn": {"ffn_mult": 5.25}}
    wide = {"hidden_size": 8192, "num_attention_heads": 64, "num_hidden_layers": 2}
    spec = spec_of(entry("DeciLMForCausalLM"), {**wide, "block_configs": [block, {**block, "ffn": {"ffn_mult": 2.625}}]})
    assert [layer.mlp.width for layer in spec.layers if layer.mlp] == [28672, 14336]
    assert first(spec).kv_heads == 8


def test_the_older_deci_has_its_own_heads_in_each_layer() -> None:
    config = {"num_hidden_layers": 3, "num_key_value_heads_per_layer": [4, 1, 2], "num_attention_heads": 4, "hidden_size": 64}
    for name in ("DeciForCausalLM", "DeciLMForCausalLM"):
        assert [layer.attention.kv_heads for layer in spec_of(entry(name), config).layers if layer.attention] == [4, 1, 2]


def test_solar_keeps_and_blends_what_exists() -> None:
    spec = spec_of(entry("SolarForCausalLM"), {"num_hidden_layers": 24})
    assert spec.skips == (SkipSpec(keep=(12, 20), blend=(16,), train=0.9, evaluate=0.8), SkipSpec(keep=(20,), blend=(), train=0.9, evaluate=0.8))


def test_phi3small_forbids_the_ids_that_no_text_gives() -> None:
    masked = spec_of(entry("Phi3SmallForCausalLM"), {}).head.masked
    assert len(masked) == 91
    assert {100256, 100258, 100264, 100267, 100351} <= set(masked)
    assert not {100255, 100257, 100261, 100262, 100263, 100266} & set(masked)


SHIFTED = {"attention": {"n_heads_in_group": 8, "window_length": 8, "num_sink_tokens": 4}, "ffn": {"ffn_mult": 1.0}}
REFUSED = [
    ("ChatGLMForCausalLM", {"position_encoding_2d": True}, "first ChatGLM"),
    ("ChatGLMForCausalLM", {"quantization_bit": 4}, "quantized"),
    ("ChatGLMForCausalLM", {"pre_seq_len": 128}, "P-tuning"),
    ("MiniCPMForCausalLM", {"num_experts": 8}, "experts"),
    ("MiniCPMForCausalLM", {"sparse_config": {"topk": 64}}, "InfLLM"),
    ("InternLM2ForCausalLM", {"architectures": ["InternLM2ForRewardModel"]}, "reward"),
    ("InternLMForCausalLM", {"rotary": {"type": "yarn"}}, "yarn"),
    ("JAISLMHeadModel", {"position_embedding_type": "rotary"}, "rotary"),
    ("JAISLMHeadModel", {"alibi_scaling": {"type": "log"}}, "log"),
    ("Phi3SmallForCausalLM", {"hidden_act": "gelu"}, "gegelu"),
    ("SolarForCausalLM", {"bskcn_1": [30], "bskcn_3": [2]}, "not kept yet"),
    ("DeciLMForCausalLM", {"num_hidden_layers": 2, "block_configs": []}, "0 layers"),
    (
        "DeciLMForCausalLM",
        {"num_hidden_layers": 1, "block_configs": [SHIFTED]},
        "unshifted_sink",
    ),
    ("ExaoneForCausalLM", {"use_logit_cap": True}, "use_logit_cap"),
    ("StableLMAlphaForCausalLM", {"rotary_scaling_factor": 2.0}, "rotary_scaling_factor"),
    ("AquilaForCausalLM", {"rope_scaling": {"type": "spiral", "factor": 2.0}}, "spiral"),
]


@pytest.mark.parametrize(("name", "config", "reason"), REFUSED)
def test_what_is_not_computed_is_refused_with_its_reason(name: str, config: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unsupported, match=reason):
        spec_of(entry(name), config)


# -- real configs

PARAMETERS = {
    "microsoft__phi-2": 2.78e9,
    "microsoft__phi-1_5": 1.418e9,
    "BAAI__AquilaChat2-7B_vastai": 7.30e9,
    "LGAI-EXAONE__EXAONE-3.0-7.8B-Instruct": 7.82e9,
    "OrionStarAI__Orion-14B": 14.50e9,
    "THUDM__chatglm2-6b": 6.24e9,
    "THUDM__chatglm3-6b": 6.24e9,
    "THUDM__glm-4-9b": 9.40e9,
    "THUDM__glm-4-9b-chat": 9.40e9,
    "baichuan-inc__Baichuan-13B-Chat": 13.26e9,
    "baichuan-inc__Baichuan2-13B-Chat": 13.90e9,
    "baichuan-inc__Baichuan2-7B": 7.51e9,
    "internlm__internlm-7b": 7.32e9,
    "internlm__internlm2-7b": 7.74e9,
    "internlm__internlm2-chat-7b": 7.74e9,
    "microsoft__Phi-3-small-8k-instruct": 7.39e9,
    "nvidia__Llama-3_3-Nemotron-Super-49B-v1": 49.87e9,
    "openbmb__MiniCPM-2B-128k": 3.01e9,
    "openbmb__MiniCPM-2B-sft-bf16": 2.72e9,
    "openbmb__MiniCPM4": 8.19e9,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_real_config_has_its_published_size(name: str) -> None:
    file = CONFIGS / name / "config.json"
    if not file.exists():
        pytest.skip("the real configs are not beside this checkout")
    config = json.loads(file.read_text())
    one = ModelRegistry.find(name=config["architectures"][0], model_type=config["model_type"])
    assert one is not None
    count = sum(torch.Size(shape).numel() for shape in shapes(one, config).values())
    assert count == pytest.approx(PARAMETERS[name], rel=0.005)


def test_stablelm_alpha_has_the_parameters_of_its_card() -> None:
    # The card counts the LayerNorms twice, once for each rank of its training, and one that is not used: 97 * 8192 more.
    count = sum(torch.Size(shape).numel() for shape in shapes(entry("StableLMAlphaForCausalLM"), {}).values())
    assert count + 97 * 8192 == 6_890_209_280


# -- what a saved config keeps


@both_ends
def test_a_saved_chatglm2_still_divides_positions(tmp_path: Path) -> None:
    config = {"_name_or_path": "THUDM/chatglm2-6b-32k", "transformers_version": "4.27.1", "rope_ratio": 16}
    model = _through_a_file("ChatGLMForCausalLM", config, tmp_path)
    assert first(model.spec).rope.position_scale == 1 / 16  # type: ignore[union-attr]  # it is rotary
    assert _saved_again(model, tmp_path).spec == model.spec


@both_ends
def test_a_resized_baichuan2_keeps_its_head(tmp_path: Path) -> None:
    model = _through_a_file("BaichuanForCausalLM", {"vocab_size": 125_696, "hidden_size": 8, "intermediate_size": 8}, tmp_path)
    model.resize_token_embeddings(125_600)
    again = _saved_again(model, tmp_path)
    assert again.spec.head.normalized
    assert again.get_output_embeddings().spec.normalized
    assert again.config.vocab_size == 125_600


def _through_a_file(name: str, changes: Mapping[str, Any], folder: Path) -> Any:
    from automodel.auto import NeMoAutoModelForCausalLM

    one = entry(name)
    config = {**one.tiny, "model_type": one.model_type, "architectures": [one.also[0]], **changes}
    (folder / "config.json").write_text(json.dumps(config))
    save_file(random_checkpoint(one, config), folder / "model.safetensors", metadata={"format": "pt"})
    return NeMoAutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def _saved_again(model: Any, folder: Path) -> Any:
    from automodel.auto import NeMoAutoModelForCausalLM

    model.save_pretrained(folder / "again")
    return NeMoAutoModelForCausalLM.from_pretrained(folder / "again", dtype=torch.float32)
