"""One attention layer against a reference written out by hand: every layout, norm, mask and change of scores."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from automodel.kernels.attention import attend, reference, sdpa, supports
from automodel.nn.attention import Attention
from automodel.nn.qkv import table_for_heads
from automodel.nn.rope import Rotary
from automodel.nn.view import View
from automodel.spec import AlibiSpec, AttentionSpec, BlockSparseSpec, Names, NormSpec, RopeSpec

HIDDEN, HEADS, KV, WIDTH, LENGTH = 32, 4, 2, 8, 11
NAMES = Names()


def spec_of(**changes: object) -> AttentionSpec:
    return AttentionSpec(**{"heads": HEADS, "kv_heads": KV, "head_dim": WIDTH, **changes})  # type: ignore[arg-type]


def built(spec: AttentionSpec) -> Attention:
    torch.manual_seed(3)
    layer = Attention(spec, hidden=HIDDEN, names=NAMES, index=0)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return layer


def view_of(spec: AttentionSpec, *, rows: int = 2, length: int = LENGTH, start: int = 0, **changes: object) -> View:
    positions = torch.arange(start, start + length).expand(rows, length)
    view = View(positions=positions, **changes)  # type: ignore[arg-type]
    if spec.rope is not None:
        view.memo[spec.rope] = table_for_heads(Rotary(spec.rope)(positions), torch.float32)
    return view


def projected(layer: Attention, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values [B, T, heads, D] by the meaning of the layouts."""
    spec = layer.spec
    fused = layer._modules[NAMES.qkv]
    y = x @ fused.weight.T + (0 if fused.bias is None else fused.bias)
    if spec.clip_qkv is not None:
        y = y.clamp(-spec.clip_qkv, spec.clip_qkv)
    rows = [[], [], []]
    if spec.qkv == "grouped":
        blocks = y.split(WIDTH, dim=-1)
        for group in range(spec.kv_heads):
            first = group * (spec.groups + 2)
            rows[0] += blocks[first : first + spec.groups]
            rows[1].append(blocks[first + spec.groups])
            rows[2].append(blocks[first + spec.groups + 1])
    else:
        blocks = y.split(WIDTH, dim=-1)
        rows = [blocks[: spec.heads], blocks[spec.heads : spec.heads + spec.kv_heads], blocks[spec.heads + spec.kv_heads :]]
    return tuple(torch.stack(list(part), dim=2) for part in rows)  # type: ignore[return-value]


def turned(x: Tensor, rope: RopeSpec, positions: Tensor) -> Tensor:
    out = x.clone()
    for i in range(rope.dim // 2):
        a, b = (i, i + rope.dim // 2) if rope.style == "half" else (2 * i, 2 * i + 1)
        angle = positions.float() * rope.theta ** (-2 * i / rope.dim)
        cos, sin = angle.cos()[..., None], angle.sin()[..., None]
        out[..., a], out[..., b] = x[..., a] * cos - x[..., b] * sin, x[..., b] * cos + x[..., a] * sin
    return out


def slope(head: int, heads: int) -> float:
    n = 2 ** int(math.log2(heads))
    return 2 ** (-8 * (head + 1) / n) if head < n else 2 ** (-8 * (2 * (head - n) + 1) / (2 * n))


def sees(spec: AttentionSpec, i: int, j: int, head: int, *, causal: bool) -> bool:
    if j < spec.sink_tokens:
        return True
    if causal and j > i:
        return False
    if causal and spec.window is not None and i - j >= spec.window:
        return False
    sparse = spec.block_sparse
    if sparse is not None:
        r, c = i // sparse.block, j // sparse.block
        h = 0 if sparse.same_for_heads else head
        return r - c < sparse.local or (c + h * max(1, sparse.stride // spec.heads) + 1) % sparse.stride == 0
    return True


def by_hand(  # noqa: C901  # every rule in one place, in the order in which it applies
    layer: Attention, x: Tensor, positions: Tensor, *, hidden: Tensor | None = None, causal: bool = True, first: Tensor | None = None
) -> Tensor:
    """Attend one score at a time. `hidden` [B, S]: padding; `first` [B]: the first real column, from where block patterns count."""
    spec = layer.spec
    q, k, v = projected(layer, x)
    if spec.qk_norm is not None:
        q, k = (normed(t, layer._modules[name], spec) for t, name in ((q, NAMES.q_norm), (k, NAMES.k_norm)))
    if spec.rope is not None:
        q, k = turned(q, spec.rope, positions), turned(k, spec.rope, positions)
    rows, length = x.shape[:2]
    out = torch.zeros(rows, length, spec.heads, WIDTH, dtype=x.dtype)
    for b in range(rows):
        for h in range(spec.heads):
            for i in range(length):
                kept, scores = [], []
                for j in range(length):
                    shift = 0 if first is None else int(first[b])
                    if (hidden is not None and hidden[b, j]) or not sees(spec, i - shift, j - shift, h, causal=causal):
                        continue
                    score = (q[b, i, h] * k[b, j, h // spec.groups]).sum() * spec.score_scale
                    if spec.clamp is not None:
                        score = score.clamp(-spec.clamp, spec.clamp)
                    if spec.softcap is not None:
                        score = spec.softcap * torch.tanh(score / spec.softcap)
                    if spec.alibi is not None:
                        shrink = length / spec.alibi.train_length if spec.alibi.train_length and length > spec.alibi.train_length else 1.0
                        score = score - spec.alibi.factor * slope(h, spec.heads) / shrink * abs(i - j)
                    kept.append(j)
                    scores.append(score)
                if not kept:
                    continue
                if spec.sinks:
                    scores.append(layer._parameters[NAMES.sinks][h])
                weights = torch.stack(scores).softmax(0)[: len(kept)]
                out[b, i, h] = (weights[:, None] * v[b, kept, h // spec.groups]).sum(0)
    o = layer._modules[NAMES.o]
    return out.flatten(2) @ o.weight.T + (0 if o.bias is None else o.bias)


def normed(x: Tensor, norm: torch.nn.Module, spec: AttentionSpec) -> Tensor:
    shape = x.shape
    x = x.flatten(2) if spec.qk_norm == "all" else x
    assert spec.qk_norm_spec is not None
    return (x * (x.square().mean(-1, keepdim=True) + spec.qk_norm_spec.eps).rsqrt() * norm.weight).view(shape)


ROPE = RopeSpec(dim=WIDTH)
KINDS = {
    "plain": {},
    "rope": {"rope": ROPE},
    "heads_equal": {"kv_heads": HEADS, "rope": ROPE},
    "one_kv_head": {"kv_heads": 1, "rope": ROPE, "qkv": "concat"},
    "bias": {"qkv_bias": True, "out_bias": True, "rope": ROPE},
    "concat": {"qkv": "concat", "rope": ROPE, "qkv_bias": True},
    "grouped": {"qkv": "grouped", "rope": ROPE, "qkv_bias": True},
    "grouped_equal": {"qkv": "grouped", "kv_heads": HEADS, "rope": ROPE},
    "grouped_partial": {"qkv": "grouped", "rope": RopeSpec(dim=4, style="interleaved")},
    "partial": {"rope": RopeSpec(dim=4)},
    "interleaved": {"rope": RopeSpec(dim=WIDTH, style="interleaved")},
    "scale": {"scale": 0.7},
    "softcap": {"softcap": 0.8, "rope": ROPE},
    "clamp": {"clamp": 0.5},
    "clamp_out_of_reach": {"clamp": 1e4},
    "clip": {"clip_qkv": 0.6, "rope": ROPE},
    "norm_head": {"qk_norm": "head", "qk_norm_spec": NormSpec(), "rope": ROPE},
    "norm_heads": {"qk_norm": "heads", "qk_norm_spec": NormSpec(), "rope": ROPE},
    "norm_all": {"qk_norm": "all", "qk_norm_spec": NormSpec(), "rope": ROPE},
    "norm_grouped": {"qk_norm": "head", "qk_norm_spec": NormSpec(), "qkv": "grouped", "rope": ROPE},
    "window": {"window": 3, "rope": ROPE},
    "window_of_two": {"window": 2, "rope": ROPE, "kv_heads": 1},
    "window_of_one": {"window": 1},
    "window_softcap": {"window": 3, "softcap": 2.0},
    "sink_tokens": {"window": 3, "sink_tokens": 2},
    "sinks": {"sinks": True, "window": 4},
    "alibi": {"alibi": AlibiSpec()},
    "alibi_odd_heads": {"alibi": AlibiSpec(factor=0.5), "heads": 5, "kv_heads": 5},
    "alibi_trained_shorter": {"alibi": AlibiSpec(train_length=4)},
    "block_sparse": {"block_sparse": BlockSparseSpec(block=2, local=1, stride=3), "rope": ROPE},
    "block_sparse_same": {"block_sparse": BlockSparseSpec(block=2, local=2, stride=2, same_for_heads=True)},
}


@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_reference_by_hand(kind: str) -> None:
    spec = spec_of(**KINDS[kind])
    layer = built(spec)
    x = torch.randn(2, LENGTH, HIDDEN)
    view = view_of(spec)
    torch.testing.assert_close(layer(x, view), by_hand(layer, x, view.positions), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_equal_those_of_the_reference(kind: str) -> None:
    spec = spec_of(**KINDS[kind])
    layer = built(spec)
    found = []
    x = torch.randn(1, 6, HIDDEN)
    for run in (lambda t: layer(t, view_of(spec, rows=1, length=6)), lambda t: by_hand(layer, t, torch.arange(6)[None])):
        t = x.clone().requires_grad_()
        layer.zero_grad()
        run(t).square().sum().backward()
        found.append([t.grad, *(p.grad.clone() for p in layer.parameters())])
    for mine, other in zip(*found, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_packed_documents_are_as_if_alone(kind: str) -> None:
    spec = spec_of(**KINDS[kind])
    layer = built(spec)
    for lengths in ((4, 7), (5, 5, 5), (1, 3)):
        x = torch.randn(1, sum(lengths), HIDDEN)
        positions = torch.cat([torch.arange(n) for n in lengths])[None]
        view = View(positions=positions, segments=lengths)
        if spec.rope is not None:
            view.memo[spec.rope] = table_for_heads(Rotary(spec.rope)(positions), torch.float32)
        together = layer(x, view)
        alone = [layer(piece, view_of(spec, rows=1, length=piece.shape[1])) for piece in x.split(lengths, dim=1)]
        torch.testing.assert_close(together, torch.cat(alone, dim=1), atol=2e-5, rtol=1e-4)


class Store:
    """The simplest cache: it keeps all."""

    def __init__(self) -> None:
        self.kept: dict[int, tuple[Tensor, Tensor]] = {}

    def update(self, k: Tensor, v: Tensor, index: int, arguments: object = None) -> tuple[Tensor, Tensor]:
        if index in self.kept:
            k, v = (torch.cat((old, new), dim=2) for old, new in zip(self.kept[index], (k, v), strict=True))
        self.kept[index] = (k, v)
        return k, v


# Sink columns are seen even by rows before them, so a row depends on what comes later.
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("sink_tokens", "alibi_trained_shorter")])
def test_with_a_cache_token_by_token(kind: str) -> None:
    spec = spec_of(**KINDS[kind])
    layer = built(spec).eval()
    x = torch.randn(2, LENGTH, HIDDEN)
    whole = layer(x, view_of(spec))
    store = Store()
    pieces = [layer(x[:, :5], view_of(spec, length=5, cache=store))]
    pieces += [layer(x[:, i : i + 1], view_of(spec, length=1, start=i, cache=store)) for i in range(5, LENGTH)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, atol=2e-5, rtol=1e-4)


def padding_mask(spec: AttentionSpec, pads: Tensor, *, causal: bool = True) -> Tensor:
    i, j = torch.arange(LENGTH)[:, None], torch.arange(LENGTH)
    seen = torch.ones(LENGTH, LENGTH, dtype=torch.bool)
    if causal:
        seen = j <= i
        if spec.window is not None:
            seen = seen & (i - j < spec.window)
    return seen[None, None] & (j >= pads[:, None, None, None])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "sink_tokens"])
def test_left_padding(kind: str) -> None:
    spec = spec_of(**KINDS[kind])
    layer = built(spec)
    pads = torch.tensor([4, 0])
    x = torch.randn(2, LENGTH, HIDDEN, requires_grad=True)
    view = view_of(spec, masks={spec.window: padding_mask(spec, pads)})
    out = layer(x, view)
    hidden = torch.arange(LENGTH) < pads[:, None]
    expected = by_hand(layer, x, view.positions, hidden=hidden, first=pads)
    torch.testing.assert_close(out[~hidden], expected[~hidden], atol=2e-5, rtol=1e-4)
    out[~hidden].square().sum().backward()
    assert torch.isfinite(out).all()
    assert torch.isfinite(x.grad).all()
    assert (x.grad[hidden] == 0).all()


@pytest.mark.parametrize("changes", [{}, {"softcap": 2.0}])
def test_a_given_mask_may_show_later_keys(changes: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("automodel.kernels.attention.BLOCK", 2)
    layer = built(spec_of(rope=ROPE, **changes))
    x = torch.randn(2, LENGTH, HIDDEN)
    view = view_of(layer.spec, masks={None: torch.ones(2, 1, LENGTH, LENGTH, dtype=torch.bool)})
    torch.testing.assert_close(layer(x, view), by_hand(layer, x, view.positions, causal=False), atol=2e-5, rtol=1e-4)


def test_both_sides_are_seen_without_causality() -> None:
    spec = spec_of(rope=ROPE, window=3)
    layer = built(spec)
    x = torch.randn(2, LENGTH, HIDDEN)
    view = view_of(spec, causal=False)
    torch.testing.assert_close(layer(x, view), by_hand(layer, x, view.positions, causal=False), atol=2e-5, rtol=1e-4)
    pads = torch.tensor([2, 0])
    masked = view_of(spec, causal=False, masks={3: padding_mask(spec, pads, causal=False)})
    hidden = torch.arange(LENGTH) < pads[:, None]
    torch.testing.assert_close(layer(x, masked), by_hand(layer, x, view.positions, causal=False, hidden=hidden), atol=2e-5, rtol=1e-4)


def test_a_cache_of_fixed_size_that_was_empty_is_cut_to_the_queries() -> None:
    spec = spec_of(rope=ROPE)
    layer = built(spec)

    class Static(Store):
        def update(self, k: Tensor, v: Tensor, index: int, arguments: object = None) -> tuple[Tensor, Tensor]:
            assert arguments is not None
            return tuple(torch.cat((t, torch.full_like(t, 9.0)), dim=2) for t in (k, v))  # type: ignore[return-value]

    x = torch.randn(2, LENGTH, HIDDEN)
    filled = view_of(spec, cache=Static(), cache_position=torch.arange(LENGTH))
    torch.testing.assert_close(layer(x, filled), layer(x, view_of(spec)))


def test_biases_are_made_once_a_pass() -> None:
    spec = spec_of(alibi=AlibiSpec())
    layers = [built(spec), built(spec)]
    view = view_of(spec)
    x = torch.randn(2, LENGTH, HIDDEN)
    layers[0](x, view)
    (kept,) = view.memo.values()
    layers[1](x, view)
    assert [id(value) for value in view.memo.values()] == [id(kept)]


def test_dropout_is_for_training_only() -> None:
    layer = built(spec_of(dropout=0.5))
    x = torch.randn(2, LENGTH, HIDDEN)
    assert not torch.equal(layer(x, view_of(layer.spec)), layer(x, view_of(layer.spec)))
    layer.eval()
    assert torch.equal(layer(x, view_of(layer.spec)), layer(x, view_of(layer.spec)))


@pytest.mark.parametrize(("heads", "kv_heads", "queries"), [(4, 2, 7), (4, 2, 1), (4, 4, 7), (4, 1, 1)])
@pytest.mark.parametrize("masked", [False, True])
def test_kernel_equals_reference(heads: int, kv_heads: int, queries: int, masked: bool) -> None:
    q, k, v = torch.randn(2, heads, queries, 8), torch.randn(2, kv_heads, 7, 8), torch.randn(2, kv_heads, 7, 6)
    mask = torch.randn(2, 1 if queries == 7 else heads, queries, 7) if masked else None
    settings = {"scale": 0.3, "mask": mask, "causal": queries == 7 and not masked}
    torch.testing.assert_close(sdpa(q, k, v, **settings), reference(q, k, v, **settings), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("masked", [False, True])
def test_the_reference_goes_by_blocks_of_rows(monkeypatch: pytest.MonkeyPatch, masked: bool) -> None:
    q, k, v = torch.randn(2, 4, 30, 8), torch.randn(2, 2, 30, 8), torch.randn(2, 2, 30, 8)
    later = torch.full((30, 30), torch.finfo(torch.float32).min).triu(1)
    mask = later.where(later < 0, torch.randn(2, 4, 30, 30)) if masked else None
    settings = {"scale": 0.3, "mask": mask, "causal": True, "softcap": 2.0, "sinks": torch.randn(4)}
    whole = reference(q, k, v, **settings)
    monkeypatch.setattr("automodel.kernels.attention.BLOCK", 4)
    torch.testing.assert_close(reference(q, k, v, **settings), whole)


def test_the_kernel_says_what_it_cannot_do() -> None:
    assert supports(softcap=None, clamp=None, sinks=None) is None
    assert "soft cap" in str(supports(softcap=1.0, clamp=None, sinks=None))
    assert "clamp" in str(supports(softcap=None, clamp=1.0, sinks=None))
    assert "sinks" in str(supports(softcap=None, clamp=None, sinks=torch.zeros(4)))


def test_a_clamp_within_reach_is_felt() -> None:
    q, k, v = (torch.randn(1, 2, 5, 8) * 3 for _ in range(3))
    assert not torch.allclose(attend(q, k, v, scale=1.0, causal=True, clamp=0.5), attend(q, k, v, scale=1.0, causal=True))


def test_half_precision_with_padding_stays_finite() -> None:
    spec = spec_of(alibi=AlibiSpec(), softcap=None)
    for dtype in (torch.bfloat16, torch.float16):
        layer = built(spec).to(dtype)
        x = torch.randn(2, LENGTH, HIDDEN, dtype=dtype, requires_grad=True)
        out = layer(x, view_of(spec, masks={None: padding_mask(spec, torch.tensor([5, 0]))}))
        out.float().sum().backward()
        assert torch.isfinite(out).all()
        assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("window", [1, 5, 16, 40])
def test_long_rows_need_no_quadratic_mask(monkeypatch: pytest.MonkeyPatch, window: int) -> None:
    layer = built(spec_of(window=window, rope=ROPE))
    x = torch.randn(2, 200, HIDDEN)
    whole = view_of(layer.spec, length=200)
    expected = layer(x, whole)
    assert max(value.numel() for value in whole.memo.values() if isinstance(value, Tensor)) == 200 * 200
    monkeypatch.setattr("automodel.nn.attention.STEP", 16)
    stepped, packed = view_of(layer.spec, length=200), view_of(layer.spec, rows=1, length=400, segments=(200, 200))
    packed.memo = {layer.spec.rope: tuple(torch.cat((t[:1], t[:1]), dim=2) for t in whole.memo[layer.spec.rope])}
    torch.testing.assert_close(layer(x, stepped), expected, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(layer(x.view(1, 400, HIDDEN), packed).view_as(expected), expected, atol=2e-5, rtol=1e-4)
    for view in (stepped, packed):
        assert max(value.numel() for value in view.memo.values() if isinstance(value, Tensor)) <= max(window, 16) * (max(window, 16) + window)
