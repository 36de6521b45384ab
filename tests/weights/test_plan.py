"""A plan is strict in both directions, from names and shapes alone, and every refusal names the tensor."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from automodel.errors import ModelError
from automodel.spec import AttentionSpec, DecoderSpec, HeadSpec, LayerSpec, MLASpec, MLPSpec, Names, NormSpec
from automodel.weights.derive import decoder_rules
from automodel.weights.plan import plan_load, plan_save
from automodel.weights.rules import Rule, concat, drop, rename, same, split, stack, tied


@dataclass(frozen=True)
class Info:
    shape: tuple[int, ...]


RULES = (
    same("embed"),
    tied("head", "embed"),
    concat("h.{i}.qkv", "h.{i}.q", "h.{i}.k", "h.{i}.v", sizes=(4, 2, 2)),
    stack("h.{i}.experts", "h.{i}.expert.{j}.w"),
    drop("*.inv_freq", "computed"),
)
BUILT = {"embed": (8, 4), "head": (8, 4)} | {f"h.{i}.{name}": shape for i in range(3) for name, shape in (("qkv", (8, 4)), ("experts", (3, 2, 2)))}


def checkpoint() -> dict[str, Info]:
    disk = {"embed": Info((8, 4))}
    for i in range(3):
        disk |= {f"h.{i}.q": Info((4, 4)), f"h.{i}.k": Info((2, 4)), f"h.{i}.v": Info((2, 4))}
        disk |= {f"h.{i}.expert.{j}.w": Info((2, 2)) for j in range(3)}
    return disk


def test_a_whole_checkpoint_is_planned() -> None:
    disk = checkpoint() | {"h.0.rotary.inv_freq": Info((2,))}
    plan = plan_load(RULES, disk, BUILT)
    assert len(plan.pieces) == 1 + 3 * 6
    assert plan.dropped == {"h.0.rotary.inv_freq": "computed"}
    assert plan.ties == {"head": "embed"}
    assert plan.disk == {name: info.shape for name, info in checkpoint().items()}
    assert plan_save(RULES, BUILT).pieces == plan.pieces


@pytest.mark.parametrize(
    ("change", "what", "also"),
    [
        (lambda d: d.pop("h.2.k"), "h.2.k", "lacks"),
        (lambda d: d.pop("h.1.k"), "h.1.k", "index 1 is missing and 2 is there"),
        (lambda d: d.pop("h.2.expert.1.w"), "h.2.expert.1.w", "index 1 is missing and 2 is there"),
        (lambda d: d.update({"h.1.kk": d.pop("h.1.k")}), "h.1.k", ""),
        (lambda d: d.update({"embedding": d.pop("embed")}), "embed", "embedding"),
        (lambda d: d.update({"h.0.expert.0.wt": Info((2,))}), "h.0.expert.0.wt", "the nearest is h.0.expert.0.w"),
        (lambda d: d.update({"h.3.q": Info((4, 4))}), "h.3.q", "nothing in the model takes"),
        (lambda d: d.update({"h.1.expert.3.w": Info((2, 2))}), "h.1.expert.3.w", "nothing in the model takes"),
        (lambda d: d.update({"h.1.q": Info((5, 4))}), "h.1.q", r"\[5, 4\]"),
        (lambda d: d.update({"embed": Info((8, 4, 1))}), "embed", "another shape"),
        (lambda d: d.update({"h.1.q.qweight": Info((1,))}), "h.1.q.qweight", "quantized"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_by_name(change: Callable[[dict[str, Info]], object], what: str, also: str) -> None:
    disk = checkpoint()
    change(disk)
    with pytest.raises(ModelError) as caught:
        plan_load(RULES, disk, BUILT)
    assert re.search(rf"\b{re.escape(what)}\b", str(caught.value))
    assert re.search(also, str(caught.value))


@pytest.mark.parametrize(
    ("rules", "built", "says"),
    [
        ((same("a"),), {"a": (1,), "bee": (1,)}, "no rule builds bee"),
        ((same("a"), rename("a", "b")), {"a": (1,)}, "two rules build a"),
        ((same("a"), rename("b", "a")), {"a": (1,), "b": (1,)}, "two rules take a"),
        ((split(("a", "b"), "d"),), {"a": (1,)}, "builds b, which the model does not have"),
        ((same("a"), drop("a", "no")), {"a": (1,)}, "a is dropped by a rule and taken by another"),
        ((concat("a", "b", "c"),), {"a": (3,)}, "the parts of a do not add up"),
        ((concat("a", "b", "c", sizes=(1, 1)),), {"a": (3,)}, "the parts of a do not add up"),
        ((concat("a", "b", "c", dim=1),), {"a": (2,)}, "a has no dimension 1"),
        ((split(("a", "b"), "d", sizes=(1, 2)),), {"a": (2,), "b": (1,)}, "do not fit a"),
        ((split(("a", "b"), "d"),), {"a": (2, 2), "b": (1, 3)}, "b does not fit beside a"),
        ((Rule(op="rename", built=("a",), disk=("a",), transposed=True),), {"a": (2,)}, "a is no matrix"),
    ],
)
def test_rules_that_do_not_fit_are_refused_by_name(rules: tuple[Rule, ...], built: dict[str, tuple[int, ...]], says: str) -> None:
    with pytest.raises(ModelError, match=re.escape(says)):
        plan_load(rules, {name: Info((1,)) for rule in rules for name in rule.disk}, built)


def test_saving_is_strict_too() -> None:
    with pytest.raises(ModelError, match="no rule builds score"):
        plan_save(RULES, {**BUILT, "score": (2,)})


def test_a_tied_head_may_be_on_disk_alone_beside_or_not_at_all() -> None:
    rules, built = (same("embed"), tied("head", "embed")), {"embed": (2, 2), "head": (2, 2)}
    one = Info((2, 2))
    assert [piece.disk for piece in plan_load(rules, {"embed": one}, built).pieces] == ["embed"]
    assert [(piece.built, piece.disk) for piece in plan_load(rules, {"head": one}, built).pieces] == [("embed", "head")]
    both = plan_load(rules, {"embed": one, "head": one}, built)
    assert [piece.disk for piece in both.pieces] == ["embed"]
    assert both.equal == (("embed", "head"),)


def test_ties_of_the_model_are_enough() -> None:
    plan = plan_load((same("embed"), same("head")), {"embed": Info((2, 2))}, {"embed": (2, 2), "head": (2, 2)}, ties={"head": "embed"})
    assert [piece.disk for piece in plan.pieces] == ["embed"]


def test_a_checkpoint_of_the_base_alone_counts_from_there() -> None:
    rules = (same("transformer.wte"), rename("transformer.h.{i}.w", "transformer.h.{i}.v"), tied("head", "transformer.wte"), drop("*.bias", "mask"))
    built = {"transformer.wte": (2,), "transformer.h.0.w": (3,), "head": (2,)}
    disk = {"wte": Info((2,)), "h.0.v": Info((3,)), "h.0.bias": Info((1,))}
    plan = plan_load(rules, disk, built, base="transformer")
    assert {(piece.built, piece.disk) for piece in plan.pieces} == {("transformer.wte", "wte"), ("transformer.h.0.w", "h.0.v")}
    assert set(plan.dropped) == {"h.0.bias"}
    assert set(plan.disk) == {"wte", "h.0.v"}
    with pytest.raises(ModelError, match=r"h\.0\.w"):
        plan_load(rules, {"wte": Info((2,)), "h.0.w": Info((3,))}, built, base="transformer")


def test_fresh_tensors_may_be_absent_but_not_half_there() -> None:
    rules, built = (same("a"), concat("score", "s1", "s2")), {"a": (1,), "score": (2,)}
    plan = plan_load(rules, {"a": Info((1,))}, built, fresh=lambda name: name == "score")
    assert plan.fresh == ("score",)
    with pytest.raises(ModelError, match="s2"):
        plan_load(rules, {"a": Info((1,)), "s1": Info((1,))}, built, fresh=lambda name: name == "score")


ATTENTION = AttentionSpec(heads=4, kv_heads=2, head_dim=8, qkv_bias=True, qk_norm="head", qk_norm_spec=NormSpec())


def decoder(**layer: object) -> DecoderSpec:
    values = {"attention": ATTENTION, "mlp": MLPSpec(width=48), "pre_attention": NormSpec(), "pre_mlp": NormSpec(), **layer}
    return DecoderSpec(vocab=32, hidden=32, layers=(LayerSpec(**values),), head=HeadSpec(tied=True))  # type: ignore[arg-type]


def disk_names_of(spec: DecoderSpec, *extra: Rule) -> set[str]:
    return {name.removeprefix("model.layers.0.") for rule in decoder_rules(spec, *extra) if rule.op not in ("drop", "tied") for name in rule.disk}


def test_rules_of_a_llama_like_decoder() -> None:
    names = disk_names_of(decoder())
    assert names == {"model.embed_tokens.weight", "model.norm.weight", "input_layernorm.weight", "post_attention_layernorm.weight"} | {
        *(f"self_attn.{p}_proj.{kind}" for p in "qkv" for kind in ("weight", "bias")),
        *("self_attn.o_proj.weight", "self_attn.q_norm.weight", "self_attn.k_norm.weight"),
        *(f"mlp.{p}_proj.weight" for p in ("gate", "up", "down")),
    }
    joined = {rule.built[0]: rule.sizes for rule in decoder_rules(decoder()) if rule.op == "concat"}
    assert joined == {
        "model.layers.0.self_attn.qkv.weight": (32, 16, 16),
        "model.layers.0.self_attn.qkv.bias": (32, 16, 16),
        "model.layers.0.mlp.gate_up.weight": (48, 48),
    }


def test_parts_that_a_layer_lacks_have_no_rules() -> None:
    assert not {name for name in disk_names_of(decoder(attention=None)) if "attn" in name or "input_layernorm" in name}
    assert not {name for name in disk_names_of(decoder(mlp=None)) if "mlp" in name or "post_attention" in name}
    linear = decoder(attention=AttentionSpec(kind="linear", heads=4, kv_heads=4, head_dim=8), mlp=MLPSpec(kind="linear", width=32))
    assert {name for name in disk_names_of(linear) if "attn" in name or "mlp" in name} == {
        "self_attn.linear_attn.weight",
        "mlp.linear_mlp.weight",
    }


def test_rules_of_latent_attention() -> None:
    mla = MLASpec(kv_rank=8, nope_dim=4, rope_dim=4, value_dim=4, q_rank=8)
    names = disk_names_of(decoder(attention=AttentionSpec(kind="mla", heads=4, kv_heads=4, head_dim=8, mla=mla, qkv_bias=True)))
    assert {name.removeprefix("self_attn.") for name in names if "attn" in name} == {
        *("q_a_proj.weight", "q_a_proj.bias", "q_a_layernorm.weight", "q_b_proj.weight"),
        *("kv_a_proj_with_mqa.weight", "kv_a_proj_with_mqa.bias", "kv_a_layernorm.weight", "kv_b_proj.weight", "o_proj.weight"),
    }


def test_transposed_checkpoints_transpose_matrices_and_nothing_else() -> None:
    spec = DecoderSpec(
        vocab=32,
        hidden=32,
        layers=(
            LayerSpec(
                attention=AttentionSpec(heads=4, kv_heads=4, head_dim=8, qkv="concat", qkv_bias=True, out_bias=True),
                mlp=MLPSpec(width=64, up_bias=True, down_bias=True),
                pre_attention=NormSpec(kind="layer", bias=True),
            ),
        ),
        positions=16,
        transposed=True,
        names=Names(qkv="c_attn", o="c_proj"),
    )
    turned = {name for rule in decoder_rules(spec) if rule.transposed for name in rule.built}
    assert turned == {f"model.layers.0.{name}.weight" for name in ("self_attn.c_attn", "self_attn.c_proj", "mlp.gate_up", "mlp.down_proj")}
    assert "model.embed_positions.weight" in {name for rule in decoder_rules(spec) for name in rule.built}


def test_extra_rules_come_before_derived_ones() -> None:
    pattern = "model.layers.{i}.self_attn.q_norm.weight"
    extra = stack(pattern, "model.layers.{i}.self_attn.q_norm.norms.{j}.weight")
    rules = decoder_rules(decoder(), extra)
    assert rules[0] is extra
    assert not any(rule is not extra and "model.layers.0.self_attn.q_norm.weight" in rule.built for rule in rules)
    assert sum("k_norm" in name for rule in rules for name in rule.built) == 1
    untied = decoder_rules(decoder(), same("lm_head.weight"))
    assert not any(rule.op == "tied" for rule in untied)
    assert any(rule.built == ("model.embed_tokens.weight",) for rule in untied)
