"""The cases of the contract suite: every registered architecture with its tiny config and each variant of it, fed by the registry alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from automodel.archs.base import Architecture
from automodel.archs.config import Config
from automodel.registry import ModelRegistry
from automodel.spec import DecoderSpec
from automodel.weights.derive import decoder_rules
from automodel.weights.rules import Rule

VOCAB = 128


@dataclass(frozen=True)
class Case:
    """One tiny config of one architecture."""

    entry: Architecture
    variant: str

    @property
    def id(self) -> str:
        return self.entry.name if self.variant == "tiny" else f"{self.entry.name}-{self.variant}"

    @property
    def fields(self) -> dict[str, Any]:
        extra = self.entry.variants[self.variant] if self.variant != "tiny" else {}
        return {**self.entry.tiny, **extra}


def cases(*, variants: bool = True) -> list[Case]:
    """Return every case, or only the tiny config of each architecture."""
    found = []
    for name in ModelRegistry:
        entry = ModelRegistry.get(name)
        if entry.spec is None:
            continue
        found += [Case(entry, variant) for variant in ("tiny", *(entry.variants if variants else ()))]
    return found


def each(*, variants: bool = True) -> pytest.MarkDecorator:
    """Return the mark that runs a test over the cases."""
    return pytest.mark.parametrize("case", cases(variants=variants), ids=lambda case: case.id)


def config_of(case: Case) -> Any:
    """Return the config object that the auto classes make of the case."""
    from automodel.auto.configs import load_config

    data = {"model_type": case.entry.model_type, "architectures": [case.entry.name], **case.fields}
    return load_config(data, overrides={}, hub={}, trust_remote_code=False)[0]


def spec_of(case: Case) -> DecoderSpec:
    """Return the spec of the case."""
    assert case.entry.spec is not None
    return case.entry.spec(Config(config_of(case)))


def rules_of(case: Case) -> tuple[Rule, ...]:
    """Return every weight rule of the case."""
    spec = spec_of(case)
    return decoder_rules(spec, *(case.entry.rules(spec) if case.entry.rules else ()))


def has_reference(case: Case) -> bool:
    """Say whether the installed transformers has a class for the case."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(case.entry.model_type or "") == case.entry.name


def reference(case: Case, folder: Path, *, seed: int = 0) -> Any:
    """Return the model of transformers with weights that the native model wrote into `folder`, none of them missing and none left over."""
    from transformers import AutoModelForCausalLM

    own(case, seed=seed).save_pretrained(folder)
    # Plain attention knows every switch, apart from Falcon's, which adds ALiBi twice there.
    plain = "sdpa" if case.fields.get("alibi") else "eager"
    model, report = AutoModelForCausalLM.from_pretrained(folder, attn_implementation=plain, dtype=torch.float32, output_loading_info=True)
    assert not any(report.values()), report
    return model.eval()


def own(case: Case, *, seed: int = 0) -> Any:
    """Return the native model of the case with random weights."""
    from automodel.auto import NeMoAutoModelForCausalLM

    torch.manual_seed(seed)
    model = NeMoAutoModelForCausalLM.from_config(config_of(case), **opt_in(case))
    assert model.resolution.implementation == "native", model.resolution
    widen(model, seed=seed)
    return model.eval()


def opened(folder: Path, case: Case, **kwargs: Any) -> Any:
    """Return the native model with the weights of a folder."""
    from automodel.auto import NeMoAutoModelForCausalLM

    model = NeMoAutoModelForCausalLM.from_pretrained(folder, **opt_in(case), **kwargs)
    assert model.resolution.implementation == "native", model.resolution
    return model.eval()


def opt_in(case: Case) -> dict[str, Any]:
    """Return the argument that an architecture never compared with its reference asks for."""
    return {"allow_unverified": True} if case.entry.unverified else {}


def widen(model: torch.nn.Module, *, seed: int) -> None:
    """Give every parameter values that matter: matrices of a deviation of 0.08, weights of norms near their own, biases off zero."""
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() > 1:
                parameter.copy_(noise * 0.08)
            else:
                parameter.add_(noise * 0.1)


def rows(*, batch: int = 2, length: int = 24, seed: int = 3) -> Tensor:
    """Return random token ids [batch, length]; the first ids are left out, since configs use them for padding and ends."""
    return torch.randint(5, VOCAB, (batch, length), generator=torch.Generator().manual_seed(seed))


def padded(*, side: str, length: int = 24, pad: int = 7) -> tuple[Tensor, Tensor]:
    """Return ids and mask of two rows, the second of which is `pad` tokens shorter."""
    ids = rows(length=length)
    mask = torch.ones_like(ids)
    gap = slice(0, pad) if side == "left" else slice(length - pad, length)
    mask[1, gap] = 0
    ids[1, gap] = 1
    return ids, mask


def distance(a: Tensor, b: Tensor) -> float:
    """Return the largest difference relative to the largest value."""
    return ((a - b).abs().max() / b.abs().max().clamp_min(1e-12)).item()
