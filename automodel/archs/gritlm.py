"""GritLM: Mistral that also embeds text, then with attention to both sides and without its window (`is_causal=False`; pooled by `nn.pooling`)."""

from __future__ import annotations

from automodel.archs.base import Architecture
from automodel.archs.common import TINY
from automodel.archs.mistral import spec
from automodel.archs.own import rotary_buffers

ARCHITECTURES = (
    # GritLM-7B itself says MistralForCausalLM and is served by that; copies for serving engines say GritLM.
    Architecture(
        name="GritLMForCausalLM",
        also=("GritLM",),
        model_type="mistral",
        by_type=False,
        spec=spec,
        rules=rotary_buffers,
        tiny={**TINY, "sliding_window": None},
        variants={"window": {"sliding_window": 8}},
        goldens=("gritlm",),
    ),
)
