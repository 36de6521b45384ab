"""Latent attention against a reference by hand and against MiniCPM3 of transformers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from automodel.nn.decoder import build_decoder
from automodel.nn.mla import LatentAttention
from automodel.nn.qkv import table_for_heads
from automodel.nn.rope import Rotary
from automodel.nn.view import View
from automodel.spec import AttentionSpec, DecoderSpec, HeadSpec, LayerSpec, MLASpec, MLPSpec, Names, NormSpec, RopeSpec

HIDDEN, HEADS, LENGTH = 32, 4, 7


def spec_of(*, q_rank: int | None = 12, style: str = "half", bias: bool = False) -> AttentionSpec:
    return AttentionSpec(
        kind="mla",
        heads=HEADS,
        kv_heads=HEADS,
        head_dim=10,
        qkv_bias=bias,
        out_bias=bias,
        rope=RopeSpec(dim=4, style=style),  # type: ignore[arg-type]
        mla=MLASpec(kv_rank=8, nope_dim=6, rope_dim=4, value_dim=5, q_rank=q_rank),
    )


def built(spec: AttentionSpec) -> LatentAttention:
    torch.manual_seed(2)
    layer = LatentAttention(spec, hidden=HIDDEN, names=Names(), index=0)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.3)
    return layer


def view_of(spec: AttentionSpec, *, length: int = LENGTH, start: int = 0, **changes: object) -> View:
    view = View(positions=torch.arange(start, start + length)[None], **changes)  # type: ignore[arg-type]
    view.memo[spec.rope] = table_for_heads(Rotary(spec.rope)(view.positions), torch.float32)  # type: ignore[arg-type]
    return view


def turned(x: Tensor, rope: RopeSpec) -> Tensor:
    """Rotate [B, T, heads, D]."""
    out = x.clone()
    for i in range(rope.dim // 2):
        a, b = (i, i + rope.dim // 2) if rope.style == "half" else (2 * i, 2 * i + 1)
        angle = (torch.arange(x.shape[1]) * rope.theta ** (-2 * i / rope.dim))[:, None]
        out[..., a], out[..., b] = x[..., a] * angle.cos() - x[..., b] * angle.sin(), x[..., b] * angle.cos() + x[..., a] * angle.sin()
    return out


def by_hand(layer: LatentAttention, x: Tensor) -> Tensor:
    spec = layer.spec
    rope = spec.rope
    assert rope is not None
    q = layer.q_proj(x) if spec.mla.q_rank is None else layer.q_b_proj(layer.q_a_layernorm(layer.q_a_proj(x)))
    q = q.unflatten(-1, (HEADS, 10))
    down = layer.kv_a_proj_with_mqa(x)
    unfolded = layer.kv_b_proj(layer.kv_a_layernorm(down[..., :8])).unflatten(-1, (HEADS, 11))
    q = torch.cat((q[..., :6], turned(q[..., 6:], rope)), -1)
    shared = turned(down[..., None, 8:], rope).expand(-1, -1, HEADS, -1)
    k, v = torch.cat((unfolded[..., :6], shared), -1), unfolded[..., 6:]
    scores = torch.einsum("bihd,bjhd->bhij", q, k) * 10**-0.5
    scores = scores.masked_fill(~torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril(), -torch.inf)
    return layer.o_proj(torch.einsum("bhij,bjhd->bihd", scores.softmax(-1), v).flatten(2))


@pytest.mark.parametrize("style", ["half", "interleaved"])
@pytest.mark.parametrize("q_rank", [None, 12])
def test_equals_the_reference_by_hand(q_rank: int | None, style: str) -> None:
    spec = spec_of(q_rank=q_rank, style=style, bias=True)
    layer = built(spec)
    x = torch.randn(2, LENGTH, HIDDEN)
    torch.testing.assert_close(layer(x, view_of(spec)), by_hand(layer, x), atol=1e-5, rtol=1e-4)


class Store:
    def __init__(self) -> None:
        self.kept: tuple[Tensor, ...] = ()

    def update(self, k: Tensor, v: Tensor, index: int, arguments: object = None) -> tuple[Tensor, ...]:
        self.kept = tuple(torch.cat(pair, dim=2) for pair in zip(self.kept, (k, v), strict=True)) if self.kept else (k, v)
        return self.kept


def test_the_cache_holds_the_latent() -> None:
    spec = spec_of()
    layer = built(spec).eval()
    x = torch.randn(2, LENGTH, HIDDEN)
    store = Store()
    with torch.no_grad():
        pieces = [layer(x[:, :3], view_of(spec, length=3, cache=store))]
        pieces += [layer(x[:, i : i + 1], view_of(spec, length=1, start=i, cache=store)) for i in range(3, LENGTH)]
        torch.testing.assert_close(torch.cat(pieces, dim=1), layer(x, view_of(spec)), atol=1e-5, rtol=1e-4)
    assert [tuple(t.shape) for t in store.kept] == [(2, 1, LENGTH, 8), (2, 1, LENGTH, 4)]


def test_one_token_without_gradients_equals_one_with() -> None:
    spec = spec_of()
    layer = built(spec)
    x = torch.randn(2, LENGTH, HIDDEN)
    mask = torch.ones(2, 1, 1, LENGTH, dtype=torch.bool)
    mask[0, ..., :3] = False
    answers = []
    for grad in (True, False):
        store = Store()
        with torch.set_grad_enabled(grad):
            layer(x[:, :-1], view_of(spec, length=LENGTH - 1, cache=store))
            answers.append(layer(x[:, -1:], view_of(spec, length=1, start=LENGTH - 1, cache=store, masks={None: mask})))
    torch.testing.assert_close(*answers, atol=1e-5, rtol=1e-4)


def test_packed_documents_are_as_if_alone() -> None:
    spec = spec_of()
    layer = built(spec)
    for lengths in ((3, 4), (2, 2, 2)):
        x = torch.randn(1, sum(lengths), HIDDEN)
        view = View(positions=torch.cat([torch.arange(n) for n in lengths])[None], segments=lengths)
        view.memo[spec.rope] = table_for_heads(Rotary(spec.rope)(view.positions), torch.float32)  # type: ignore[arg-type]
        alone = [layer(piece, view_of(spec, length=piece.shape[1])) for piece in x.split(lengths, dim=1)]
        torch.testing.assert_close(layer(x, view), torch.cat(alone, dim=1), atol=1e-5, rtol=1e-4)


def test_equals_minicpm3_of_transformers() -> None:
    minicpm3 = pytest.importorskip("transformers.models.minicpm3")
    config = minicpm3.MiniCPM3Config(
        vocab_size=50,
        hidden_size=HIDDEN,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        q_lora_rank=12,
        kv_lora_rank=8,
        qk_nope_head_dim=6,
        qk_rope_head_dim=4,
        v_head_dim=5,
        scale_emb=3,
        scale_depth=1.4,
        dim_model_base=16,
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=None,
    )
    torch.manual_seed(1)
    other = minicpm3.MiniCPM3ForCausalLM(config).float()
    for parameter in other.parameters():
        nn.init.normal_(parameter, mean=0.1, std=0.2)
    norm = NormSpec(eps=config.rms_norm_eps)
    layer = LayerSpec(attention=spec_of(), mlp=MLPSpec(width=48), pre_attention=norm, pre_mlp=norm, multiplier=1.4 / 2**0.5)
    spec = DecoderSpec(vocab=50, hidden=HIDDEN, layers=(layer, layer), final_norm=norm, head=HeadSpec(divide_hidden=2.0), embed_multiplier=3.0)
    root = nn.Module()
    build_decoder(root, spec)
    state = other.state_dict()
    root.load_state_dict({name: from_split(name, state) for name in root.state_dict()})
    ids = torch.randint(0, 50, (2, 9))
    expected = other(ids).logits
    found = root.lm_head(root.model(ids, view=View(positions=torch.arange(9)[None])).last)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
    for logits in (found, expected):
        nn.functional.cross_entropy(logits.flatten(0, 1), ids.flatten()).backward()
    theirs = {name: p.grad for name, p in other.named_parameters()}
    for name, p in root.named_parameters():
        grad = from_split(name, theirs)
        assert (p.grad - grad).abs().max() <= 1e-4 * grad.abs().max(), name


def from_split(name: str, state: dict[str, Tensor]) -> Tensor:
    if ".gate_up." in name:
        return torch.cat([state[name.replace(".gate_up.", piece)] for piece in (".gate_proj.", ".up_proj.")])
    return state[name]
