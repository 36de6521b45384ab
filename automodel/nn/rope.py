"""Rotary positions: frequencies of every scaling, and the rotation of queries and keys.

Shapes: B batch, T tokens, D rotated dimensions of a head.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from automodel.spec import RopeScaling, RopeSpec, Unsupported


class Rotary(nn.Module):
    """Cosines and sines of positions; it has no parameters and no buffers, so nothing is lost on the meta device.

    Args:
        spec: dimensions, base, style and scaling.
    """

    def __init__(self, spec: RopeSpec) -> None:
        super().__init__()
        check(spec)
        self.spec = spec
        self._tables: dict[torch.device, tuple[Tensor, ...]] = {}

    def forward(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return (cos, sin), each float32 [B, T, D], for positions [B, T], or [3, B, T] (time, height, width) with `mrope_section`.

        The sine has the sign that `rotate` wants: minus where the other dimension of the pair comes second.
        """
        spec = self.spec
        frequencies, factor = self._frequencies(positions)
        if spec.position_scale != 1.0:
            positions = positions.float() * spec.position_scale
        angles = positions.unsqueeze(-1) * frequencies
        if positions.dim() == 3:
            angles = _sections(angles, spec.mrope_section)
        cos, sin = angles.cos(), angles.sin()
        if isinstance(factor, Tensor) or factor != 1.0:
            cos, sin = cos * factor, sin * factor
        if spec.style == "half":
            return torch.cat((cos, cos), -1), torch.cat((-sin, sin), -1)
        return cos.repeat_interleave(2, -1), torch.stack((-sin, sin), -1).flatten(-2)

    def reset_buffers(self) -> None:
        """Forget what is kept for each device; it is computed again from the spec."""
        self._tables.clear()

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_tables": {}}

    def _frequencies(self, positions: Tensor) -> tuple[Tensor, float | Tensor]:
        spec = self.spec
        scaling = spec.scaling
        table = self._table(positions.device)
        if scaling is None or scaling.kind in ("linear", "llama3", "yarn"):
            return table[0], 1.0 if scaling is None or scaling.kind != "yarn" else yarn_factor(scaling)
        length = positions.max() + 1
        if scaling.kind == "dynamic":
            limit = _required(scaling.max_positions, "max_position_embeddings")
            return torch.where(length > limit, _grown(spec, scaling, limit, length), table[0]), 1.0
        short, long = longrope_factors(scaling)
        far = length > original_length(scaling)
        return torch.where(far, table[1], table[0]), short if short == long else torch.where(far, long, short)

    def _table(self, device: torch.device) -> tuple[Tensor, ...]:
        found = self._tables.get(device)
        if found is None:
            with torch.inference_mode(False):
                found = tuple(t.to(device) for t in tables(self.spec))
            # Fake tensors of a tracer must not outlive it.
            if not torch.compiler.is_compiling() and all(type(t) is Tensor for t in found):
                self._tables[device] = found
        return found


def rotate(x: Tensor, cos: Tensor, sin: Tensor, *, spec: RopeSpec) -> Tensor:
    """Return x [B, heads, T, head_dim] with its first D dimensions turned by (cos, sin) of `Rotary`, in the dtype of x."""
    if cos.dtype != x.dtype:
        cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    if cos.dim() == 3:
        cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    if spec.dim == x.shape[-1]:
        return _turn(x, cos, sin, spec.style)
    return torch.cat((_turn(x[..., : spec.dim], cos, sin, spec.style), x[..., spec.dim :]), -1)


def _turn(x: Tensor, cos: Tensor, sin: Tensor, style: str) -> Tensor:
    other = x.roll(x.shape[-1] // 2, -1) if style == "half" else x.reshape(*x.shape[:-1], -1, 2).flip(-1).flatten(-2)
    return (x * cos).addcmul_(other, sin)


def _sections(angles: Tensor, sections: tuple[int, ...]) -> Tensor:
    """Take each frequency's angle [3, B, T, D/2] from the kind of position that it follows."""
    if not sections:
        raise Unsupported("positions of time, height and width need mrope_section")
    parts = torch.split(angles, list(sections), -1)
    return torch.cat([part[index % 3] for index, part in enumerate(parts)], -1)


def check(spec: RopeSpec) -> None:
    """Raise `Unsupported` for sizes that contradict one another."""
    half = spec.dim // 2
    if spec.dim <= 0 or spec.dim % 2:
        raise Unsupported(f"{spec.dim} rotated dimensions are not a positive even number")
    if spec.mrope_section and sum(spec.mrope_section) != half:
        raise Unsupported(f"mrope_section {list(spec.mrope_section)} does not sum to {half}")
    if spec.scaling is not None and spec.scaling.kind == "longrope":
        for name, factors in (("short_factor", spec.scaling.short_factor), ("long_factor", spec.scaling.long_factor)):
            if len(factors) != half:
                raise Unsupported(f"{name} has {len(factors)} entries for {half} frequencies")


def tables(spec: RopeSpec) -> tuple[Tensor, ...]:
    """Return the frequencies float32 [D/2] on the CPU: one table, or (short, long) for longrope."""
    scaling = spec.scaling
    powers = _powers(spec)
    if scaling is None or scaling.kind == "dynamic":
        return (1.0 / spec.theta**powers,)
    if scaling.kind == "longrope":
        return tuple(
            1.0 / (torch.tensor(factors, dtype=torch.float32, device="cpu") * spec.theta**powers)
            for factors in (scaling.short_factor, scaling.long_factor)
        )
    return (STRETCHED[scaling.kind](spec, scaling, powers),)


def _powers(spec: RopeSpec) -> Tensor:
    return torch.arange(0, spec.dim, 2, dtype=torch.int64, device="cpu").float() / spec.dim


def _linear(spec: RopeSpec, scaling: RopeScaling, powers: Tensor) -> Tensor:
    return 1.0 / spec.theta**powers / _required(scaling.factor, "factor")


def _grown(spec: RopeSpec, scaling: RopeScaling, limit: int, length: Tensor) -> Tensor:
    """NTK-aware base for rows longer than `limit` (emozilla, 2023): it grows with the current length."""
    factor = _required(scaling.factor, "factor")
    base = spec.theta * ((factor * length / limit) - (factor - 1)) ** (spec.dim / (spec.dim - 2))
    return 1.0 / base ** _powers(spec).to(length.device)


def _llama3(spec: RopeSpec, scaling: RopeScaling, powers: Tensor) -> Tensor:
    """Long waves are divided by the factor, short ones stay, those between are blended (Llama 3.1)."""
    factor = _required(scaling.factor, "factor")
    trained, low, high = original_length(scaling), scaling.low_freq_factor, scaling.high_freq_factor
    plain = 1.0 / spec.theta**powers
    wave = 2 * math.pi / plain
    share = (trained / wave - low) / (high - low)
    blended = (1 - share) * plain / factor + share * plain
    return torch.where(wave > trained / low, plain / factor, torch.where(wave < trained / high, plain, blended))


def _yarn(spec: RopeSpec, scaling: RopeScaling, powers: Tensor) -> Tensor:
    """NTK by parts (Peng and others, 2023): frequencies that turn often within the trained length stay, those that turn rarely are divided."""
    trained = original_length(scaling)

    def dimension(turns: float) -> float:
        return spec.dim * math.log(trained / (turns * 2 * math.pi)) / (2 * math.log(spec.theta))

    low, high = dimension(scaling.beta_fast), dimension(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, spec.dim - 1)
    if low == high:
        high += 0.001
    ramp = ((torch.arange(spec.dim // 2, dtype=torch.float32, device="cpu") - low) / (high - low)).clamp(0, 1)
    waves = spec.theta**powers
    keep = 1 - ramp
    return 1.0 / (yarn_stretch(scaling) * waves) * (1 - keep) + 1.0 / waves * keep


def yarn_stretch(scaling: RopeScaling) -> float:
    """Return how many times longer than trained: `factor`, or the quotient of the two lengths."""
    if scaling.factor is not None:
        return scaling.factor
    return _required(scaling.max_positions, "max_position_embeddings") / original_length(scaling)


def yarn_factor(scaling: RopeScaling) -> float:
    """Return what yarn multiplies cosines and sines by."""
    if scaling.attention_factor is not None:
        return scaling.attention_factor
    stretch = yarn_stretch(scaling)
    if scaling.mscale and scaling.mscale_all_dim:
        return _mscale(stretch, scaling.mscale) / _mscale(stretch, scaling.mscale_all_dim)
    return _mscale(stretch, 1.0)


def _mscale(stretch: float, weight: float) -> float:
    return 1.0 if stretch <= 1 else 0.1 * weight * math.log(stretch) + 1.0


def longrope_factors(scaling: RopeScaling) -> tuple[float, float]:
    """Return what cosines and sines are multiplied by within the trained length and beyond it.

    Phi-3-small gives `short_mscale` and `long_mscale`: a positive one is taken as it is, else 1 within and the usual factor beyond.
    """
    trained = original_length(scaling)
    small = scaling.short_mscale is not None or scaling.long_mscale is not None
    stretch = scaling.factor
    if stretch is None or small:
        stretch = _required(scaling.max_positions, "max_position_embeddings") / trained
    usual = 1.0 if stretch <= 1 else math.sqrt(1 + math.log(stretch) / math.log(trained))
    if small:
        short, long = scaling.short_mscale or 0.0, scaling.long_mscale or 0.0
        return (short if short > 0 else 1.0, long if long > 0 else usual)
    found = usual if scaling.attention_factor is None else scaling.attention_factor
    return found, found


def original_length(scaling: RopeScaling) -> int:
    """Return the trained length: `original_max`, or the maximum length when the config is silent."""
    return scaling.original_max or _required(scaling.max_positions, "original_max_position_embeddings")


def _required(value: float | int | None, name: str) -> int:
    if value is None:
        raise Unsupported(f"the RoPE scaling has no {name}")
    return value  # type: ignore[return-value]  # ints stay ints, floats floats: the callers only divide and compare


STRETCHED: dict[str, Callable[[RopeSpec, RopeScaling, Tensor], Tensor]] = {"linear": _linear, "llama3": _llama3, "yarn": _yarn}
