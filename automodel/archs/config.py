"""One way to read a config, whichever release wrote it: attributes, defaults, RoPE and layer kinds. No torch, no transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from automodel.spec import Activation, RopeScaling, RopeSpec, Unsupported

ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "swiglu": "silu",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "gelu_quick",
    "relu": "relu",
    "relu2": "relu2",
    "gegelu": "gegelu",
}
PLAIN: tuple[str, ...] = ("low_freq_factor", "high_freq_factor", "beta_fast", "beta_slow", "truncate", "attention_factor")
PLAIN += ("mscale", "mscale_all_dim", "short_mscale", "long_mscale")
KINDS = {"su": "longrope", "mrope": "default"}
# Names that the GPT-2 generation of config files has for the same fields; config objects of transformers know both.
OLD_NAMES = {
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "max_position_embeddings": "n_positions",
    "intermediate_size": "n_inner",
}


class Config:
    """A read-only view of a config object of transformers, or of the mapping of a config.json.

    `config.hidden_size` raises `Unsupported` when the field is absent or null; `config.get("x", 1)` gives the default then.
    """

    def __init__(self, source: Any) -> None:
        self._source = source

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = self.get(name)
        if value is None:
            raise Unsupported(f"the config has no {name}")
        return value

    def get(self, name: str, default: Any = None) -> Any:
        """Return a field, or the default when it is absent or null."""
        found = self._read(name)
        if found is None and name in OLD_NAMES:
            found = self._read(OLD_NAMES[name])
        return default if found is None else found

    def stated(self, name: str, default: Any) -> Any:
        """Return a field, which may be null; the default only when it is absent, for fields whose null has a meaning of its own."""
        if isinstance(self._source, Mapping):
            return self._source.get(name, default)
        return getattr(self._source, name, default)

    def _read(self, name: str) -> Any:
        return self._source.get(name) if isinstance(self._source, Mapping) else getattr(self._source, name, None)

    @property
    def layers(self) -> int:
        """Number of layers."""
        return int(self.num_hidden_layers)

    @property
    def heads(self) -> int:
        """Number of query heads."""
        return int(self.num_attention_heads)

    @property
    def kv_heads(self) -> int:
        """Number of key-value heads; that of the query heads when the config is silent."""
        return int(self.get("num_key_value_heads", self.heads))

    @property
    def width_of_head(self) -> int:
        """`head_dim`, or hidden_size / heads."""
        return int(self.get("head_dim", self.hidden_size // self.heads))

    @property
    def padding_idx(self) -> int | None:
        """Row of the embedding that is not trained: `pad_token_id`, if there is one in the vocabulary."""
        found, size = self.get("pad_token_id"), int(self.vocab_size)
        return None if found is None or not -size <= found < size else int(found) % size

    def refuse(self, name: str, why: str) -> None:
        """Raise `Unsupported` with the reason when a switch is on."""
        if self.get(name, False):
            raise Unsupported(f"{name} is {self.get(name)!r}: {why}")

    def activation(self, name: str = "hidden_act", default: str | None = None) -> Activation:
        """Return the activation of a field under our name for it."""
        value = self.get(name, default)
        if value not in ACTIVATIONS:
            raise Unsupported(f"{name} {value!r} is not one of {', '.join(sorted(ACTIVATIONS))}")
        return ACTIVATIONS[value]

    def kinds(self) -> tuple[str, ...]:
        """Return `layer_types`, or full attention for every layer."""
        found = self.get("layer_types")
        return tuple(found) if found else ("full_attention",) * self.layers

    def windows(self) -> tuple[int | None, ...]:
        """Return the window of each layer by `layer_types`: `sliding_window` for sliding ones, None for full ones."""
        kinds = self.kinds()
        for kind in kinds:
            if kind not in ("full_attention", "sliding_attention"):
                raise Unsupported(f"layer kind {kind!r}")
        return tuple(self.get("sliding_window") if kind == "sliding_attention" else None for kind in kinds)

    def rotary_share(self, default: float = 1.0) -> float:
        """Return which share of a head RoPE turns: partial_rotary_factor, where this release keeps it."""
        for section in (self.get("rope_parameters"), self.get("rope_scaling")):
            if section and section.get("partial_rotary_factor") is not None:
                return float(section["partial_rotary_factor"])
        return float(self.get("partial_rotary_factor", self.get("rotary_pct", default)))

    def rope(
        self,
        *,
        dim: int | None = None,
        share: float = 1.0,
        style: str = "half",
        kind: str | None = None,
        theta: float | None = None,
        default_theta: float = 10_000.0,
        scaled: bool = True,
    ) -> RopeSpec:
        """Return the rotary positions of the config.

        Args:
            dim: rotated dimensions; None takes partial_rotary_factor of the head.
            share: partial_rotary_factor of a config that is silent about it.
            style: "half" or "interleaved".
            kind: layer kind, where `rope_parameters` holds one section for each.
            theta: base, in place of the config's.
            default_theta: base of a config that is silent about it.
            scaled: whether the config's scaling applies.
        """
        found = self.get("rope_parameters") or {}
        if kind is not None and isinstance(found.get(kind), Mapping):
            found = found[kind]
        old = self.get("rope_scaling") or {}
        section: Mapping[str, Any] = {**old, **found} if not _nested(old) else found
        base = theta or section.get("rope_theta") or self.get("rope_theta", self.get("rotary_emb_base", default_theta))
        width = dim if dim is not None else int(self.width_of_head * self.rotary_share(share))
        if width % 2 or width <= 0:
            raise Unsupported(f"RoPE on {width} dimensions of a head")
        if style not in ("half", "interleaved"):
            raise ValueError(style)
        sections = tuple(section.get("mrope_section") or ())
        scaling = self._scaling(section, width // 2) if scaled else None
        return RopeSpec(dim=width, theta=float(base), style=style, scaling=scaling, mrope_section=sections)  # type: ignore[arg-type]  # checked above

    def _scaling(self, section: Mapping[str, Any], frequencies: int) -> RopeScaling | None:
        name = section.get("rope_type") or section.get("type") or "default"
        name = KINDS.get(name, name)
        if name == "yarn" and section.get("short_factor"):
            name = "longrope"  # an early name, in files of Phi-3
        if name == "default":
            return None
        if name not in ("linear", "dynamic", "yarn", "llama3", "longrope"):
            raise Unsupported(f"RoPE scaling {name!r}")
        limit = self.get("max_position_embeddings")
        original = self.get("original_max_position_embeddings") or section.get("original_max_position_embeddings")
        if original is None and name in ("yarn", "llama3", "longrope"):
            original = limit
        values: dict[str, Any] = {key: section[key] for key in PLAIN if section.get(key) is not None}
        for key in ("short_factor", "long_factor"):
            values[key] = tuple(float(x) for x in section.get(key) or ())
            if name == "longrope" and len(values[key]) != frequencies:
                raise Unsupported(f"{key} of RoPE has {len(values[key])} numbers for {frequencies} frequencies")
        factor = section.get("factor")
        values["factor"] = None if factor is None else float(factor)
        return RopeScaling(kind=name, original_max=original, max_positions=limit, **values)  # type: ignore[arg-type]  # checked above


def _nested(section: Mapping[str, Any]) -> bool:
    return any(isinstance(value, Mapping) for value in section.values())
