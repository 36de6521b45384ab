"""Fresh weights: the values that transformers draws."""

import pytest
import torch
from torch import nn

from automodel.nn.init import init_weights
from automodel.nn.linear import FusedLinear
from automodel.nn.norm import Norm
from automodel.spec import AttentionSpec, DecoderSpec, LayerSpec, NormSpec

SPEC = DecoderSpec(vocab=8, hidden=8, layers=(LayerSpec(attention=AttentionSpec(heads=2, kv_heads=2, head_dim=4), mlp=None),), init_std=0.5)


def test_matrices_tables_norms_and_biases() -> None:
    torch.manual_seed(0)
    parts = nn.ModuleDict(
        {
            "linear": nn.Linear(64, 64),
            "fused": FusedLinear(64, (32, 32), bias=True),
            "table": nn.Embedding(64, 64, padding_idx=3),
            "norm": Norm(NormSpec(bias=True), 64),
            "offset": Norm(NormSpec(offset=True), 64),
            "bare": Norm(NormSpec(affine=False), 64),
        }
    )
    parts.update(parts["fused"].slices(("a", "b")))
    for parameter in parts.parameters():
        nn.init.constant_(parameter, 9.0)
    init_weights(parts, spec=SPEC)
    for name in ("linear", "fused", "table"):
        assert parts[name].weight.std().item() == pytest.approx(0.5, rel=0.05)
    for name in ("linear", "fused", "norm"):
        assert (parts[name].bias == 0).all()
    assert (parts["norm"].weight == 1).all()
    assert (parts["offset"].weight == 0).all()
    assert (parts["table"].weight[3] == 0).all()


def test_a_part_of_another_kind_is_left_alone() -> None:
    other = nn.Conv1d(2, 2, 1)
    before = other.weight.detach().clone()
    init_weights(other, spec=SPEC)
    assert torch.equal(other.weight, before)
