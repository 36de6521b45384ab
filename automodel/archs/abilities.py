"""What a decoder can do, read off its spec: never written by hand, so it cannot be out of date. No torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from automodel.spec import DecoderSpec

# Placements that no native decoder has a plan for yet.
NOT_BUILT = "no plan for it is built yet"


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What can be done with a model; `why` holds a reason for every flag that is False."""

    fsdp: bool = True
    tp: bool = False
    sp: bool = False
    cp: bool = False
    pp: bool = False
    ep: bool = False
    packing: bool = True
    lora: bool = True
    qlora: bool = False
    generate: bool = True
    gradient_checkpointing: bool = True
    why: tuple[tuple[str, str], ...] = ()

    def as_dict(self) -> dict[str, object]:
        """Return the flags and the reasons, for `--json`."""
        return {**asdict(self), "why": dict(self.why)}

    def __str__(self) -> str:
        reasons = dict(self.why)
        flags = {name: value for name, value in asdict(self).items() if name != "why"}
        return "\n".join(f"{name:<24}{'yes' if value else 'no: ' + reasons.get(name, '')}" for name, value in flags.items())


def capabilities_of(spec: DecoderSpec) -> Capabilities:
    """Return what a native decoder of this spec can do."""
    why = dict.fromkeys(("tp", "sp", "cp", "pp"), NOT_BUILT)
    why |= {"ep": "it has no experts", "qlora": "4-bit weights are served by the transformers class"}
    adapted = any(layer.attention is not None or layer.mlp is not None for layer in spec.layers)
    if not spec.causal:
        why["generate"] = "it sees both sides"
    if not adapted:
        why["lora"] = "no layer has a matrix"
    return Capabilities(lora=adapted, generate=spec.causal, why=tuple(why.items()))


def features(spec: DecoderSpec) -> dict[str, str]:
    """Return the traits of a decoder in words, for the coverage table."""
    parts = [layer.attention for layer in spec.layers if layer.attention is not None]
    mlps = [layer.mlp for layer in spec.layers if layer.mlp is not None]
    norm = spec.final_norm
    positions = {"rope": any(part.rope for part in parts), "alibi": any(part.alibi for part in parts), "learned": spec.positions is not None}
    heads = {("mla" if part.mla else part.kind if part.kind == "linear" else "mha" if part.groups == 1 else "gqa") for part in parts}
    return {
        "attention": ", ".join(sorted(heads)),
        "positions": ", ".join(name for name, there in positions.items() if there) or "none",
        "norm": "none" if norm is None else norm.kind,
        "mlp": ", ".join(sorted({f"{mlp.kind} {mlp.activation}" for mlp in mlps})),
        "block": ", ".join(sorted({layer.block for layer in spec.layers})),
    }
