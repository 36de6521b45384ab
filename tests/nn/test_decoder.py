"""Whole decoders: blocks by their arithmetic, hidden states, caches, packing, checkpointing, names, and parity with a transformers class."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from automodel.nn.decoder import Decoder, build_decoder
from automodel.nn.qkv import table_for_heads
from automodel.nn.view import View, part
from automodel.spec import AttentionSpec, DecoderSpec, HeadSpec, LayerSpec, MLPSpec, Names, NormSpec, RopeSpec, SkipSpec

HIDDEN, VOCAB = 32, 50
ATTENTION = AttentionSpec(heads=4, kv_heads=2, head_dim=8, rope=RopeSpec(dim=8))
MLP = MLPSpec(width=48)
LAYER = LayerSpec(attention=ATTENTION, mlp=MLP, pre_attention=NormSpec(), pre_mlp=NormSpec())


def spec_of(*layers: LayerSpec, **changes: object) -> DecoderSpec:
    return DecoderSpec(vocab=VOCAB, hidden=HIDDEN, layers=layers or (LAYER, LAYER), **changes)  # type: ignore[arg-type]


def built(spec: DecoderSpec) -> nn.Module:
    torch.manual_seed(5)
    root = nn.Module()
    build_decoder(root, spec)
    for parameter in root.parameters():
        nn.init.normal_(parameter, mean=0.1, std=0.2)
    return root


def run(root: nn.Module, ids: Tensor, *, start: int = 0, **changes: object) -> Tensor:
    positions = torch.arange(start, start + ids.shape[1])[None]
    return root.model(ids, view=View(positions=positions, **changes)).last  # type: ignore[arg-type]


def ids_of(rows: int = 2, length: int = 9) -> Tensor:
    return torch.randint(0, VOCAB, (rows, length), generator=torch.Generator().manual_seed(1))


def view_for(root: nn.Module, length: int) -> View:
    view = View(positions=torch.arange(length)[None])
    for rope, rotary in root.model._ropes:
        view.memo[rope] = table_for_heads(rotary(view.positions), torch.float32)
    return view


ARITHMETIC = {
    "sequential": (LAYER, lambda x, a, m, n: (y := x + a(n("pre_attention", x))) + m(n("pre_mlp", y))),
    "sandwich": (
        replace(LAYER, post_attention=NormSpec(), post_mlp=NormSpec()),
        lambda x, a, m, n: (y := x + n("post_attention", a(n("pre_attention", x)))) + n("post_mlp", m(n("pre_mlp", y))),
    ),
    "post": (
        replace(LAYER, pre_attention=None, pre_mlp=None, post_attention=NormSpec(), post_mlp=NormSpec()),
        lambda x, a, m, n: (y := x + n("post_attention", a(x))) + n("post_mlp", m(y)),
    ),
    "multiplier": (replace(LAYER, multiplier=0.3), lambda x, a, m, n: (y := x + 0.3 * a(n("pre_attention", x))) + 0.3 * m(n("pre_mlp", y))),
    "normed_residual": (
        replace(LAYER, normed_residual=True),
        lambda x, a, m, n: (z := n("pre_mlp", (y := n("pre_attention", x)) + a(y))) + m(z),
    ),
    "parallel": (replace(LAYER, block="parallel"), lambda x, a, m, n: x + a(n("pre_attention", x)) + m(n("pre_mlp", x))),
    "parallel_one_norm": (
        replace(LAYER, block="parallel", pre_mlp=None, multiplier=0.5),
        lambda x, a, m, n: x + 0.5 * (a(y := n("pre_attention", x)) + m(y)),
    ),
    "no_attention": (replace(LAYER, attention=None, pre_attention=None), lambda x, a, m, n: x + m(n("pre_mlp", x))),
    "no_mlp": (replace(LAYER, mlp=None, pre_mlp=None), lambda x, a, m, n: x + a(n("pre_attention", x))),
    "nothing": (LayerSpec(attention=None, mlp=None, pre_attention=NormSpec()), lambda x, a, m, n: x),
    "linear": (
        replace(LAYER, attention=AttentionSpec(kind="linear", heads=4, kv_heads=4, head_dim=8), mlp=MLPSpec(kind="linear", width=32)),
        lambda x, a, m, n: (y := x + a(n("pre_attention", x))) + m(n("pre_mlp", y)),
    ),
}


@pytest.mark.parametrize("kind", ARITHMETIC)
def test_a_layer_does_its_arithmetic(kind: str) -> None:
    layer, expected = ARITHMETIC[kind]
    root = built(spec_of(layer))
    block, names = part(root, "model.layers.0"), Names()
    view = view_for(root, 9)
    x = torch.randn(2, 9, HIDDEN)
    answer = expected(
        x,
        lambda t: part(block, names.attention)(t, view),
        lambda t: part(block, names.mlp)(t),
        lambda name, t: part(block, getattr(names, name))(t),
    )
    torch.testing.assert_close(block(x, view), answer)


def test_a_missing_part_owns_nothing_and_takes_no_place_in_the_cache() -> None:
    layers = (replace(LAYER, attention=None), LayerSpec(attention=None, mlp=None), replace(LAYER, mlp=None), ARITHMETIC["linear"][0], LAYER)
    root = built(spec_of(*layers))
    names = set(root.state_dict())
    assert {name.split(".")[3] for name in names if name.startswith("model.layers.0.")} == {"mlp", "post_attention_layernorm"}
    assert not any(name.startswith("model.layers.1.") for name in names)
    assert {name.split(".")[3] for name in names if name.startswith("model.layers.2.")} == {"self_attn", "input_layernorm"}
    assert "model.layers.3.self_attn.linear_attn.weight" in names
    assert [part(root, f"model.layers.{i}.self_attn").index for i in (2, 4)] == [0, 1]


@pytest.mark.both_ends
@pytest.mark.parametrize("kind", ["sequential", "parallel_one_norm"])
def test_generation_with_a_cache_equals_a_whole_pass(kind: str) -> None:
    from transformers import DynamicCache

    linear = ARITHMETIC["linear"][0]
    root = built(spec_of(ARITHMETIC[kind][0], linear, LayerSpec(attention=None, mlp=MLP), LAYER)).eval()
    ids = ids_of()
    cache = DynamicCache()
    pieces = [run(root, ids[:, :4], cache=cache)]
    pieces += [run(root, ids[:, i : i + 1], start=i, cache=cache) for i in range(4, 9)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), run(root, ids), atol=1e-5, rtol=1e-5)
    assert cache.get_seq_length() == 9


def test_hidden_states_are_the_inputs_of_the_layers_and_the_normed_end() -> None:
    root = built(spec_of(LAYER, LAYER, embed_multiplier=3.0))
    ids = ids_of()
    out = root.model(ids, view=View(positions=torch.arange(9)[None], collect=True))
    assert len(out.all) == 3
    torch.testing.assert_close(out.all[0], root.model.embed_tokens(ids) * 3.0)
    torch.testing.assert_close(out.all[1], part(root, "model.layers.0")(out.all[0], view_for(root, 9)))
    assert out.all[2] is out.last
    assert root.model(ids, view=View(positions=torch.arange(9)[None])).all is None


def test_embedding_multiplier_positions_norm_and_dropout() -> None:
    spec = spec_of(LAYER, embed_multiplier=0.37, positions=20, position_offset=2, embed_norm=NormSpec(), embed_dropout=0.5, padding_idx=0)
    root = built(spec).eval()
    ids = ids_of()
    first = root.model(ids, view=View(positions=torch.arange(9)[None], collect=True)).all[0]
    table = root.model.embed_positions.weight[2:11]
    torch.testing.assert_close(first, root.model.embed_norm((root.model.embed_tokens(ids) + table) * 0.37))
    given = root.model(inputs_embeds=root.model.embed_tokens(ids), view=View(positions=torch.arange(9)[None])).last
    torch.testing.assert_close(given, run(root, ids))
    root.train()
    assert (root.model(ids, view=View(positions=torch.arange(9)[None], collect=True)).all[0] == 0).any()
    with pytest.raises(ValueError, match="exactly one"):
        root.model(view=View(positions=torch.arange(9)[None]))


def test_the_multiplier_may_be_rounded_to_the_dtype_first() -> None:
    exact, rounded = (built(spec_of(LAYER, embed_multiplier=0.3337, embed_multiplier_rounded=r)).bfloat16() for r in (False, True))
    ids = ids_of()
    first = [m.model(ids, view=View(positions=torch.arange(9)[None], collect=True)).all[0] for m in (exact, rounded)]
    embedded = exact.model.embed_tokens(ids)
    assert torch.equal(first[1], embedded * torch.tensor(0.3337, dtype=torch.bfloat16))
    assert torch.equal(first[0], embedded * 0.3337)
    assert not torch.equal(*first)


def test_connections_over_blocks() -> None:
    skips = (SkipSpec(keep=(0,), blend=(2,), train=0.9, evaluate=0.8), SkipSpec(keep=(1,), blend=(2, 3), train=0.5, evaluate=0.25))
    root = built(spec_of(LAYER, LAYER, LAYER, LAYER, skips=skips, final_norm=None))
    ids = ids_of()
    view = view_for(root, 9)
    layers = [part(root, f"model.layers.{i}") for i in range(4)]
    for training, (first, second) in ((True, (0.9, 0.5)), (False, (0.8, 0.25))):
        root.train(training)
        kept = root.model.embed_tokens(ids)
        other = layers[0](kept, view)
        x = layers[1](other, view)
        x = kept * first + x * (1 - first)
        x = layers[2](other * second + x * (1 - second), view)
        x = layers[3](other * second + x * (1 - second), view)
        torch.testing.assert_close(run(root, ids), x)


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_changes_no_gradient(reentrant: bool) -> None:
    root = built(spec_of(LAYER, replace(LAYER, attention=replace(ATTENTION, window=3, softcap=5.0)), LAYER))
    ids = ids_of()
    grads = []
    for on in (False, True):
        root.zero_grad()
        root.model.gradient_checkpointing = on
        root.model._gradient_checkpointing_func = lambda f, *args: checkpoint(f, *args, use_reentrant=reentrant)
        run(root, ids).square().sum().backward()
        grads.append([p.grad.clone() for p in root.model.parameters()])
    for plain, again in zip(*grads, strict=True):
        torch.testing.assert_close(plain, again)


def test_checkpointing_keeps_out_of_the_cache() -> None:
    root = built(spec_of())
    root.model.gradient_checkpointing = True
    root.model._gradient_checkpointing_func = lambda f, *args: checkpoint(f, *args, use_reentrant=False)

    class Store:
        def update(self, *args: object) -> None:
            raise AssertionError("would be written twice")

    run(root, ids_of(), cache=Store()).sum().backward()


def test_layer_dropout_is_for_training_only() -> None:
    root = built(spec_of(replace(LAYER, dropout=0.5)))
    assert not torch.equal(run(root, ids_of()), run(root, ids_of()))
    root.eval()
    assert torch.equal(run(root, ids_of()), run(root, ids_of()))


def test_the_module_tree_has_the_names_of_the_checkpoint() -> None:
    names = Names(
        base="transformer",
        embed="transformer.embedding.word_embeddings",
        layers="transformer.encoder.layers",
        norm="transformer.encoder.final_layernorm",
        head="transformer.output_layer",
        attention="attn.attention",
        qkv="query_key_value",
        o="dense",
    )
    concat = replace(LAYER, attention=replace(ATTENTION, qkv="concat"))
    root = built(spec_of(concat, names=names))
    state = root.state_dict()
    assert state["transformer.embedding.word_embeddings.weight"].shape == (VOCAB, HIDDEN)
    assert state["transformer.encoder.layers.0.attn.attention.query_key_value.weight"].shape == (64, HIDDEN)
    assert state["transformer.output_layer.weight"].shape == (VOCAB, HIDDEN)
    assert "transformer.encoder.final_layernorm.weight" in state
    assert isinstance(part(root, "transformer.encoder.layers.0.attn.attention.query_key_value"), nn.Linear)
    logits = root.transformer.output_layer(root.transformer(ids_of(), view=View(positions=torch.arange(9)[None])).last)
    assert logits.shape == (2, 9, VOCAB)


def test_fused_parts_have_slice_children_without_parameters() -> None:
    root = built(spec_of(LAYER))
    state = set(root.state_dict())
    assert "model.layers.0.self_attn.qkv.weight" in state
    assert not any("q_proj" in name or "gate_proj" in name for name in state)
    weight = part(root, "model.layers.0.self_attn.qkv").weight
    assert torch.equal(part(root, "model.layers.0.self_attn.k_proj").weight, weight[32:48])


def test_a_replaced_slice_is_used() -> None:
    root = built(spec_of(LAYER))
    plain = run(root, ids_of())
    attention = part(root, "model.layers.0.self_attn")
    child = attention._modules["k_proj"]

    class Adapted(nn.Module):
        def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
            return child(x, y) + 1.0

    attention.add_module("k_proj", Adapted())
    changed = run(root, ids_of())
    assert not torch.allclose(changed, plain)
    attention.add_module("k_proj", child)
    with torch.no_grad():
        attention.qkv.bias = nn.Parameter(torch.cat((torch.zeros(32), torch.ones(16), torch.zeros(16))))
    torch.testing.assert_close(run(root, ids_of()), changed)


def test_tied_heads_share_one_parameter_also_in_copies() -> None:
    root = built(spec_of(LAYER, head=HeadSpec(tied=True)))
    assert root.lm_head.weight is root.model.embed_tokens.weight
    other = copy.deepcopy(root)
    assert other.lm_head.weight is other.model.embed_tokens.weight
    torch.testing.assert_close(run(other, ids_of()), run(root, ids_of()))
    third = pickle.loads(pickle.dumps(root))
    torch.testing.assert_close(run(third, ids_of()), run(root, ids_of()))


def test_builds_on_meta_without_memory() -> None:
    with torch.device("meta"):
        decoder = Decoder(spec_of())
    assert all(p.is_meta for p in decoder.parameters())
    assert not list(decoder.buffers())


@pytest.mark.both_ends
@pytest.mark.parametrize("padded", [False, True])
def test_equals_llama_of_transformers(padded: bool) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=VOCAB,
        intermediate_size=48,
        pad_token_id=None,
    )
    torch.manual_seed(0)
    other = LlamaForCausalLM(config).float()
    root = built(spec_of())
    root.load_state_dict({name: from_llama(name, other.state_dict()) for name in root.state_dict()})
    ids = ids_of()
    mask = torch.ones_like(ids)
    positions, masks = torch.arange(9).expand(2, 9), {}
    if padded:
        mask[0, :4] = 0
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        masks = {None: torch.ones(9, 9, dtype=torch.bool).tril() & mask[:, None, None, :].bool()}
    expected = other(ids, attention_mask=mask, position_ids=positions).logits
    found = root.lm_head(root.model(ids, view=View(positions=positions, masks=masks)).last)
    real = mask.bool()
    assert (found - expected)[real].abs().max() < 1e-5 * expected[real].abs().max()
    for logits in (found, expected):
        nn.functional.cross_entropy(logits[real], ids[real]).backward()
    theirs = {name: p.grad for name, p in other.named_parameters()}
    for name, p in root.named_parameters():
        grad = from_llama(name, theirs)
        assert (p.grad - grad).abs().max() <= 1e-4 * grad.abs().max(), name


def from_llama(name: str, state: dict[str, Tensor]) -> Tensor:
    for fused, pieces in ((".qkv.", (".q_proj.", ".k_proj.", ".v_proj.")), (".gate_up.", (".gate_proj.", ".up_proj."))):
        if fused in name:
            return torch.cat([state[name.replace(fused, piece)] for piece in pieces])
    return state[name]


def test_traced_as_one_graph() -> None:
    root = built(spec_of(LAYER, replace(LAYER, attention=replace(ATTENTION, window=3, qkv="grouped")))).eval()
    graphs = 0

    def count(graph: torch.fx.GraphModule, _: object) -> torch.fx.GraphModule:
        nonlocal graphs
        graphs += 1
        return graph

    def logits(ids: Tensor, positions: Tensor) -> Tensor:
        return root.model(ids, view=View(positions=positions)).last

    compiled = torch.compile(logits, backend=count, fullgraph=True)
    positions = torch.arange(9)[None]
    torch.testing.assert_close(compiled(ids_of(), positions), logits(ids_of(), positions))
    assert graphs == 1
