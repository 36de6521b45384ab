"""Rotary positions against transformers' tables, styles and scalings, on both sides of every length switch."""

import copy
import pickle

import pytest
import torch

from automodel.nn.rope import Rotary, rotate, tables
from automodel.spec import RopeScaling, RopeSpec, Unsupported

DIM, LIMIT, TRAINED = 16, 64, 32
SHORT, LONG = tuple(1.0 + 0.1 * i for i in range(8)), tuple(2.0 + 0.5 * i for i in range(8))

ORIGINAL = {"original_max_position_embeddings": TRAINED}
YARN = {"rope_type": "yarn", "factor": 4.0, **ORIGINAL}
LONGROPE = {"rope_type": "longrope", "factor": 2.0, "short_factor": list(SHORT), "long_factor": list(LONG), **ORIGINAL}

SECTIONS: dict[str, dict[str, object]] = {
    "linear": {"rope_type": "linear", "factor": 3.0},
    "dynamic": {"rope_type": "dynamic", "factor": 2.5},
    "yarn": YARN,
    "yarn-mscale": {**YARN, "mscale": 1.0, "mscale_all_dim": 0.7, "beta_fast": 16.0, "beta_slow": 2.0},
    "yarn-given": {**YARN, "attention_factor": 1.3, "truncate": False},
    "llama3": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, **ORIGINAL},
    "longrope": LONGROPE,
    "longrope-given": {**LONGROPE, "attention_factor": 1.7},
}


def spec_of(section: dict[str, object] | None) -> RopeSpec:
    if section is None:
        return RopeSpec(dim=DIM, theta=5000.0)
    fields = {"original_max" if key == "original_max_position_embeddings" else key: value for key, value in section.items() if key != "rope_type"}
    for key in ("short_factor", "long_factor"):
        if key in fields:
            fields[key] = tuple(fields[key])  # type: ignore[arg-type]
    return RopeSpec(dim=DIM, theta=5000.0, scaling=RopeScaling(kind=section["rope_type"], max_positions=LIMIT, **fields))  # type: ignore[arg-type]


def theirs(section: dict[str, object] | None) -> torch.nn.Module:
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    config = LlamaConfig(
        hidden_size=4 * DIM,
        num_attention_heads=4,
        max_position_embeddings=LIMIT,
        rope_theta=5000.0,
        rope_scaling=None if section is None else dict(section),
    )
    if section is not None and section["rope_type"] == "longrope":
        # 4.57 reads the switch from the config, 5 from the section.
        config.original_max_position_embeddings = TRAINED
    return LlamaRotaryEmbedding(config)


@pytest.mark.both_ends
@pytest.mark.parametrize("length", [20, 50, 100])
@pytest.mark.parametrize("name", [None, *SECTIONS])
def test_rotation_is_that_of_transformers(name: str | None, length: int) -> None:
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    section = None if name is None else SECTIONS[name]
    spec = spec_of(section)
    positions = torch.stack((torch.arange(length), torch.arange(length).flip(0)))
    q, k = torch.randn(2, 4, length, DIM), torch.randn(2, 2, length, DIM)
    cos, sin = theirs(section)(q, positions)
    expected = apply_rotary_pos_emb(q, k, cos, sin)
    ours = Rotary(spec)(positions)
    torch.testing.assert_close(ours[0], cos, atol=1e-6, rtol=1e-6)
    for x, target in zip((q, k), expected, strict=True):
        torch.testing.assert_close(rotate(x, *ours, spec=spec), target, atol=2e-6, rtol=1e-6)


def test_a_short_row_after_a_long_one_has_its_own_table() -> None:
    for name in ("dynamic", "longrope"):
        rotary = Rotary(spec_of(SECTIONS[name]))
        first = rotary(torch.arange(20)[None])
        beyond = rotary(torch.arange(100)[None])
        assert not torch.equal(beyond[0][:, :20], first[0])
        assert torch.equal(rotary(torch.arange(20)[None])[0], first[0])


@pytest.mark.both_ends
def test_interleaved_partial_rotation_is_that_of_gptj() -> None:
    from transformers.models.gptj.modeling_gptj import apply_rotary_pos_emb, create_sinusoidal_positions

    spec = RopeSpec(dim=8, style="interleaved")
    x = torch.randn(2, 3, 10, 20)
    sin, cos = create_sinusoidal_positions(10, 8).repeat(2, 1, 1).chunk(2, -1)
    turned = apply_rotary_pos_emb(x[..., :8].transpose(1, 2), sin, cos).transpose(1, 2)
    found = rotate(x, *Rotary(spec)(torch.arange(10).expand(2, 10)), spec=spec)
    torch.testing.assert_close(found, torch.cat((turned, x[..., 8:]), -1), atol=1e-6, rtol=1e-6)


def test_only_the_first_dimensions_turn() -> None:
    spec = RopeSpec(dim=8)
    x = torch.randn(1, 2, 6, 20)
    y = rotate(x, *Rotary(spec)(torch.arange(6)[None]), spec=spec)
    assert torch.equal(y[..., 8:], x[..., 8:])
    assert torch.equal(y[:, :, 0], x[:, :, 0])
    assert not torch.allclose(y[:, :, 1:, :8], x[:, :, 1:, :8])


@pytest.mark.parametrize("style", ["half", "interleaved"])
def test_scores_depend_on_distance_only_and_gradients_are_the_inverse_rotation(style: str) -> None:
    spec = RopeSpec(dim=DIM, style=style)
    rotary = Rotary(spec)
    q, k = torch.randn(1, 1, 1, DIM), torch.randn(1, 1, 1, DIM)
    scores = []
    for start in (0, 11):
        a = rotate(q, *rotary(torch.tensor([[start + 7]])), spec=spec)
        b = rotate(k, *rotary(torch.tensor([[start]])), spec=spec)
        scores.append((a * b).sum())
    torch.testing.assert_close(scores[0], scores[1], atol=1e-5, rtol=1e-5)
    x = torch.randn(2, 3, 5, DIM, requires_grad=True)
    y = rotate(x, *rotary(torch.arange(5).expand(2, 5)), spec=spec)
    (back,) = torch.autograd.grad(y, x, y)
    torch.testing.assert_close(back, x, atol=1e-5, rtol=1e-5)


def test_phi3_small_factors() -> None:
    base = {"kind": "longrope", "factor": None, "original_max": TRAINED, "max_positions": LIMIT, "short_factor": SHORT, "long_factor": LONG}
    usual = (1 + torch.log(torch.tensor(2.0)) / torch.log(torch.tensor(32.0))).sqrt().item()
    for mscales, expected in (((1.1, 1.4), (1.1, 1.4)), ((-1.0, -1.0), (1.0, usual)), ((0.0, 1.4), (1.0, 1.4))):
        scaling = RopeScaling(**base, short_mscale=mscales[0], long_mscale=mscales[1])
        rotary = Rotary(RopeSpec(dim=DIM, scaling=scaling))
        for length, factor in zip((TRAINED, TRAINED + 1), expected, strict=True):
            assert rotary(torch.arange(length)[None])[0][0, 0, 0].item() == pytest.approx(factor, rel=1e-6)


def test_positions_are_scaled() -> None:
    scaled, plain = Rotary(RopeSpec(dim=DIM, position_scale=0.5)), Rotary(RopeSpec(dim=DIM))
    torch.testing.assert_close(scaled(torch.arange(0, 20, 2)[None]), plain(torch.arange(10)[None]))


def test_sections_follow_time_height_and_width() -> None:
    spec = RopeSpec(dim=DIM, mrope_section=(2, 3, 3))
    rotary = Rotary(spec)
    flat = torch.arange(5).expand(2, 5)
    torch.testing.assert_close(rotary(flat.expand(3, 2, 5)), rotary(flat))
    positions = torch.stack((flat, flat + 3, flat + 7))
    cos = rotary(positions)[0]
    for row, part in ((0, slice(0, 2)), (1, slice(2, 5)), (2, slice(5, 8))):
        torch.testing.assert_close(cos[..., part], rotary(positions[row])[0][..., part])
    with pytest.raises(Unsupported, match="mrope_section"):
        Rotary(RopeSpec(dim=DIM))(positions)


def test_nothing_is_lost_on_the_meta_device() -> None:
    spec = spec_of(SECTIONS["llama3"])
    with torch.device("meta"):
        rotary = Rotary(spec)
        assert rotary(torch.arange(4)[None])[0].is_meta
    rotary.to_empty(device="cpu")
    expected = Rotary(spec)(torch.arange(4)[None])
    for again in (rotary, copy.deepcopy(rotary), pickle.loads(pickle.dumps(rotary))):
        torch.testing.assert_close(again(torch.arange(4)[None]), expected)
    assert tables(spec)[0].device.type == "cpu"


def test_a_table_made_in_inference_mode_serves_training() -> None:
    spec = RopeSpec(dim=DIM)
    rotary = Rotary(spec)
    with torch.inference_mode():
        rotary(torch.arange(4)[None])
    x = torch.randn(1, 1, 4, DIM, requires_grad=True)
    rotate(x, *rotary(torch.arange(4)[None]), spec=spec).sum().backward()
    assert x.grad is not None


def test_half_precision_keeps_its_dtype() -> None:
    spec = RopeSpec(dim=DIM)
    x = torch.randn(1, 2, 4, DIM, dtype=torch.bfloat16)
    assert rotate(x, *Rotary(spec)(torch.arange(4)[None]), spec=spec).dtype is torch.bfloat16


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        (RopeSpec(dim=7), "even"),
        (RopeSpec(dim=8, mrope_section=(1, 1, 1)), "mrope_section"),
        (RopeSpec(dim=8, scaling=RopeScaling(kind="longrope", original_max=4, short_factor=(1.0,), long_factor=(1.0,))), "short_factor"),
    ],
)
def test_sizes_that_contradict_are_refused(spec: RopeSpec, word: str) -> None:
    with pytest.raises(Unsupported, match=word):
        Rotary(spec)


def test_a_missing_length_is_named() -> None:
    with pytest.raises(Unsupported, match="original_max_position_embeddings"):
        tables(RopeSpec(dim=8, scaling=RopeScaling(kind="llama3", factor=2.0)))
