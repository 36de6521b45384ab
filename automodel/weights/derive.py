"""The checkpoint rules that follow from a `DecoderSpec`: names, joined projections, transposed matrices, tied heads. No torch."""

from __future__ import annotations

from collections.abc import Iterator

from automodel.spec import AttentionSpec, DecoderSpec, LayerSpec, MLPSpec, Names, NormSpec
from automodel.weights.rules import Rule, concat, drop, match, same, tied

BUFFERS = "rotary tables are computed from the config"


def decoder_rules(spec: DecoderSpec, *extra: Rule) -> tuple[Rule, ...]:
    """Return the rules of a decoder's checkpoint; an extra rule replaces the derived ones of the tensors that it builds.

    Names are those of `spec.names` on both sides. Projections that lie in pieces on disk are one matrix in the model (`names.qkv` with rows
    q | k | v, `names.gate_up` with rows gate | up); parts that a layer lacks have no rules.
    """
    names = spec.names
    derived = [same(f"{names.embed}.weight")]
    if spec.positions is not None:
        derived.append(same(f"{names.positions}.weight"))
    derived += _norm(names.embed_norm, spec.embed_norm)
    for index, layer in enumerate(spec.layers):
        derived += _layer(f"{names.layers}.{index}", layer, names, spec.transposed)
    derived += _norm(names.norm, spec.final_norm)
    head = f"{names.head}.weight"
    derived.append(tied(head, f"{names.embed}.weight") if spec.head.tied else same(head))
    if spec.head.bias:
        derived.append(same(f"{names.head}.bias"))
    derived.append(drop("*.rotary_emb.inv_freq", BUFFERS))
    return (*extra, *(rule for rule in derived if not _replaced(rule, extra)))


def _replaced(rule: Rule, extra: tuple[Rule, ...]) -> bool:
    if rule.op == "drop":
        return rule.disk in {other.disk for other in extra if other.op == "drop"}
    mine = rule.built[:1] if rule.op == "tied" else rule.built
    patterns = [pattern for other in extra for pattern in (other.built[:1] if other.op == "tied" else other.built)]
    return any(match(pattern, name) is not None for pattern in patterns for name in mine)


def _layer(path: str, layer: LayerSpec, names: Names, transposed: bool) -> Iterator[Rule]:
    if layer.attention is not None:
        yield from _norm(f"{path}.{names.pre_attention}", layer.pre_attention)
        yield from _attention(f"{path}.{names.attention}", layer.attention, names, transposed)
        yield from _norm(f"{path}.{names.post_attention}", layer.post_attention)
    if layer.mlp is not None:
        yield from _norm(f"{path}.{names.pre_mlp}", layer.pre_mlp)
        yield from _mlp(f"{path}.{names.mlp}", layer.mlp, names, transposed)
        yield from _norm(f"{path}.{names.post_mlp}", layer.post_mlp)


def _norm(path: str, norm: NormSpec | None) -> Iterator[Rule]:
    if norm is not None and norm.affine:
        yield same(f"{path}.weight")
        if norm.bias:
            yield same(f"{path}.bias")


def _linear(path: str, *, bias: bool, transposed: bool) -> Iterator[Rule]:
    weight = f"{path}.weight"
    yield Rule(op="rename", built=(weight,), disk=(weight,), transposed=transposed)
    if bias:
        yield same(f"{path}.bias")


def _joined(path: str, built: str, parts: tuple[str, ...], sizes: tuple[int, ...], *, bias: bool, transposed: bool) -> Iterator[Rule]:
    yield concat(f"{path}.{built}.weight", *(f"{path}.{part}.weight" for part in parts), sizes=sizes, transposed=transposed)
    if bias:
        yield concat(f"{path}.{built}.bias", *(f"{path}.{part}.bias" for part in parts), sizes=sizes)


def _attention(path: str, spec: AttentionSpec, names: Names, transposed: bool) -> Iterator[Rule]:
    if spec.kind == "linear":
        yield from _linear(f"{path}.{names.linear_attention}", bias=False, transposed=transposed)
        return
    if spec.kind == "mla":
        yield from _latent(path, spec, names, transposed)
    elif spec.qkv == "split":
        sizes = (spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim, spec.kv_heads * spec.value_dim)
        yield from _joined(path, names.qkv, (names.q, names.k, names.v), sizes, bias=spec.qkv_bias, transposed=transposed)
    else:
        yield from _linear(f"{path}.{names.qkv}", bias=spec.qkv_bias, transposed=transposed)
    if spec.qk_norm is not None:
        yield from _norm(f"{path}.{names.q_norm}", spec.qk_norm_spec)
        yield from _norm(f"{path}.{names.k_norm}", spec.qk_norm_spec)
    if spec.sinks:
        yield same(f"{path}.{names.sinks}")
    yield from _linear(f"{path}.{names.o}", bias=spec.out_bias, transposed=transposed)


def _latent(path: str, spec: AttentionSpec, names: Names, transposed: bool) -> Iterator[Rule]:
    # As DeepSeek: the bias is on the projections down to the latents; those up from them have none.
    assert spec.mla is not None
    if spec.mla.q_rank is None:
        yield from _linear(f"{path}.{names.q}", bias=False, transposed=transposed)
    else:
        yield from _linear(f"{path}.{names.q_a}", bias=spec.qkv_bias, transposed=transposed)
        yield from _norm(f"{path}.{names.q_a_norm}", spec.mla.norm)
        yield from _linear(f"{path}.{names.q_b}", bias=False, transposed=transposed)
    yield from _linear(f"{path}.{names.kv_a}", bias=spec.qkv_bias, transposed=transposed)
    yield from _norm(f"{path}.{names.kv_a_norm}", spec.mla.norm)
    yield from _linear(f"{path}.{names.kv_b}", bias=False, transposed=transposed)


def _mlp(path: str, spec: MLPSpec, names: Names, transposed: bool) -> Iterator[Rule]:
    if spec.kind == "linear":
        yield from _linear(f"{path}.{names.linear_mlp}", bias=False, transposed=transposed)
        return
    if spec.kind == "plain":
        yield from _linear(f"{path}.{names.up}", bias=spec.up_bias, transposed=transposed)
    elif spec.gate_up == "split":
        yield from _joined(path, names.gate_up, (names.gate, names.up), (spec.width,) * 2, bias=spec.up_bias, transposed=transposed)
    else:
        yield from _linear(f"{path}.{names.gate_up}", bias=spec.up_bias, transposed=transposed)
    yield from _linear(f"{path}.{names.down}", bias=spec.down_bias, transposed=transposed)
