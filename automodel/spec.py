"""What a decoder is, as frozen data: sizes, kinds and names; no torch, no transformers.

An architecture maps its config to one `DecoderSpec`; `nn` builds modules from it, `weights` derives the rules of its checkpoint from it,
and every capability flag is read off it. The module tree of a built decoder has the names of the checkpoint (`Names`), so that adapters,
freezing patterns and placements say the same names here and in transformers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

Activation = Literal["silu", "gelu", "gelu_tanh", "gelu_quick", "relu", "relu2", "gegelu"]


class Unsupported(ValueError):
    """A config asks for something that the native decoder does not compute; the text is the reason shown to the user."""


@dataclass(frozen=True, kw_only=True)
class NormSpec:
    """A normalisation over the last dimension.

    `offset`: the weight is stored as its distance from 1. `affine`: there is a weight at all. `float_weight`: the weight multiplies before the
    result goes back to the input's dtype (only felt in half precision).
    """

    kind: Literal["rms", "layer"] = "rms"
    eps: float = 1e-6
    bias: bool = False
    affine: bool = True
    offset: bool = False
    float_weight: bool = False


@dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """How rotary frequencies are stretched; the fields are those of the `rope_scaling` section of a config.

    `original_max` is the length that the model was trained on before stretching (`original_max_position_embeddings`), `max_positions` the
    length it is meant for (`max_position_embeddings`). `short_mscale` and `long_mscale` are those of Phi-3-small.
    """

    kind: Literal["linear", "dynamic", "yarn", "llama3", "longrope"]
    factor: float | None = 1.0
    original_max: int | None = None
    max_positions: int | None = None
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True
    attention_factor: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    short_factor: tuple[float, ...] = ()
    long_factor: tuple[float, ...] = ()
    short_mscale: float | None = None
    long_mscale: float | None = None


@dataclass(frozen=True, kw_only=True)
class RopeSpec:
    """Rotary positions on the first `dim` of a head.

    `style`: "half" rotates dimension i with i + dim/2, "interleaved" rotates 2i with 2i + 1. `position_scale` multiplies positions.
    `mrope_section`: numbers of frequencies that follow the time, height and width position; empty for text.
    """

    dim: int
    theta: float = 10_000.0
    style: Literal["half", "interleaved"] = "half"
    scaling: RopeScaling | None = None
    position_scale: float = 1.0
    mrope_section: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class AlibiSpec:
    """A bias on the scores that grows with distance, slope by head (Press and others, 2021); `factor` multiplies every slope.

    `train_length`: slopes are divided by T / train_length for rows longer than it. `bfloat16`: the product of slope and key index is rounded to
    bfloat16 before `factor`, as Falcon's was trained.
    """

    factor: float = 1.0
    train_length: int | None = None
    bfloat16: bool = False


@dataclass(frozen=True, kw_only=True)
class BlockSparseSpec:
    """Which blocks of keys a block of queries sees (Phi-3-small): `local` blocks before it, and every `stride`-th, shifted by head."""

    block: int
    local: int
    stride: int
    same_for_heads: bool = False


@dataclass(frozen=True, kw_only=True)
class MLASpec:
    """Ranks and widths of multi-head latent attention (DeepSeek V2; MiniCPM3): q = up(norm(down(x))), k and v share one latent."""

    kv_rank: int
    nope_dim: int
    rope_dim: int
    value_dim: int
    q_rank: int | None = None
    norm: NormSpec = field(default_factory=NormSpec)


@dataclass(frozen=True, kw_only=True)
class AttentionSpec:
    """One attention layer.

    `kind` "linear" is one matrix [hidden, hidden] in place of attention (Nemotron-NAS). `qkv` tells how the projections lie on disk: "split"
    in three, "concat" q | k | v in one, "grouped" in one with rows of `kv_heads` groups [queries of the group, key, value]; the built
    projection is one matrix in each case. `scale` multiplies q k^T; None is head_dim ** -0.5. `clamp`: scores are cut to [-clamp, clamp] after
    scaling, before the mask. `clip_qkv`: the projections' outputs are cut. `window`: key j is seen by query i if i - j < window. `sink_tokens`:
    first columns that every row of a windowed layer sees. `sinks`: a learned score by head that takes part in the softmax.
    `qk_norm` "head": one weight [head_dim] for all heads; "heads": weight [heads, head_dim], each head normed alone; "all": over heads * head_dim.
    """

    kind: Literal["gqa", "mla", "linear"] = "gqa"
    heads: int
    kv_heads: int
    head_dim: int
    qkv: Literal["split", "concat", "grouped"] = "split"
    qkv_bias: bool = False
    out_bias: bool = False
    scale: float | None = None
    rope: RopeSpec | None = None
    alibi: AlibiSpec | None = None
    window: int | None = None
    sink_tokens: int = 0
    sinks: bool = False
    softcap: float | None = None
    clamp: float | None = None
    clip_qkv: float | None = None
    block_sparse: BlockSparseSpec | None = None
    qk_norm: Literal["head", "heads", "all"] | None = None
    qk_norm_spec: NormSpec | None = None
    mla: MLASpec | None = None
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.heads % self.kv_heads:
            raise Unsupported(f"{self.heads} query heads do not divide into {self.kv_heads} key-value heads")
        if (self.qk_norm is None) != (self.qk_norm_spec is None):
            raise Unsupported("qk_norm and qk_norm_spec are given together or not at all")
        if (self.kind == "mla") != (self.mla is not None):
            raise Unsupported("mla sizes are given for MLA layers, and only for them")

    @property
    def score_scale(self) -> float:
        """What the scores are multiplied by."""
        return self.head_dim**-0.5 if self.scale is None else self.scale

    @property
    def groups(self) -> int:
        """Query heads that share one key-value head."""
        return self.heads // self.kv_heads

    @property
    def value_dim(self) -> int:
        """Width of a head's values."""
        return self.head_dim if self.mla is None else self.mla.value_dim


@dataclass(frozen=True, kw_only=True)
class MLPSpec:
    """A feed-forward part of hidden width `width`.

    `kind` "gated": down(act(gate) * up); "plain": down(act(up)); "linear": one matrix [hidden, hidden]. `gate_up` tells how gate and up lie on
    disk: "split" in two, "concat" gate | up in one, "up_first" up | gate in one, "interleaved" even rows gate, odd rows up. `limit` is that of
    gegelu.
    """

    kind: Literal["gated", "plain", "linear"] = "gated"
    width: int
    activation: Activation = "silu"
    gate_up: Literal["split", "concat", "up_first", "interleaved"] = "split"
    up_bias: bool = False
    down_bias: bool = False
    limit: float | None = None
    dropout: float = 0.0


@dataclass(frozen=True, kw_only=True)
class LayerSpec:
    """One decoder layer.

    "sequential": x = x + m * post_attention(attention(pre_attention(x))), then the same with the MLP. "parallel": both read the layer's
    input, the MLP through `pre_mlp` if there is one, else through the attention's norm: x + m * (attention + mlp). A missing part (None) leaves
    x as it is and owns no weights, its norms included. `normed_residual`: what is added to is the normed input. `multiplier` is m.
    """

    attention: AttentionSpec | None
    mlp: MLPSpec | None
    block: Literal["sequential", "parallel"] = "sequential"
    pre_attention: NormSpec | None = None
    post_attention: NormSpec | None = None
    pre_mlp: NormSpec | None = None
    post_mlp: NormSpec | None = None
    normed_residual: bool = False
    multiplier: float = 1.0
    dropout: float = 0.0


@dataclass(frozen=True, kw_only=True)
class SkipSpec:
    """A connection over blocks (Solar): before layers `keep` the stream is kept, before layers `blend` it becomes kept * t + stream * (1 - t)."""

    keep: tuple[int, ...]
    blend: tuple[int, ...]
    train: float
    evaluate: float


@dataclass(frozen=True, kw_only=True)
class HeadSpec:
    """Logits from the last hidden states: (h @ W^T + b) * multiplier, then softcap, then `masked` tokens set to the lowest number.

    `divide_hidden`: hidden states are divided by it before the product. `normalized`: rows of W are L2-normalised (Baichuan 2).
    `z_loss` is its weight in the training loss.
    """

    tied: bool = False
    bias: bool = False
    multiplier: float = 1.0
    divide_hidden: float = 1.0
    softcap: float | None = None
    normalized: bool = False
    masked: tuple[int, ...] = ()
    z_loss: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Names:
    """Module paths as the checkpoint has them; the built tree has the same.

    `base`, `embed`, `positions`, `layers`, `norm`, `head` count from the root; `attention`, `mlp` and the norms from a layer; the others from
    their part. A part that the checkpoint holds in one matrix is named by `qkv` or `gate_up`; for one that it holds in pieces those two name the
    built matrix. For a plain MLP the first matrix is `up`.
    """

    base: str = "model"
    embed: str = "model.embed_tokens"
    positions: str = "model.embed_positions"
    embed_norm: str = "model.embed_norm"
    layers: str = "model.layers"
    norm: str = "model.norm"
    head: str = "lm_head"
    attention: str = "self_attn"
    mlp: str = "mlp"
    pre_attention: str = "input_layernorm"
    post_attention: str = "post_self_attn_layernorm"
    pre_mlp: str = "post_attention_layernorm"
    post_mlp: str = "post_mlp_layernorm"
    q: str = "q_proj"
    k: str = "k_proj"
    v: str = "v_proj"
    o: str = "o_proj"
    qkv: str = "qkv"
    q_norm: str = "q_norm"
    k_norm: str = "k_norm"
    sinks: str = "sinks"
    linear_attention: str = "linear_attn"
    q_a: str = "q_a_proj"
    q_a_norm: str = "q_a_layernorm"
    q_b: str = "q_b_proj"
    kv_a: str = "kv_a_proj_with_mqa"
    kv_a_norm: str = "kv_a_layernorm"
    kv_b: str = "kv_b_proj"
    gate: str = "gate_proj"
    up: str = "up_proj"
    down: str = "down_proj"
    gate_up: str = "gate_up"
    linear_mlp: str = "linear_mlp"


@dataclass(frozen=True, kw_only=True)
class DecoderSpec:
    """A whole decoder: embedding, layers in order, final norm, head, and the names of its parts.

    `embed_multiplier` scales the embedded tokens; `embed_multiplier_rounded`: it is first rounded to their dtype (Gemma). `positions`: rows of a
    learned position table, with `position_offset` added to each index. `transposed`: the checkpoint holds linear weights as [in, out]
    (GPT-2's Conv1D). `causal` False sees both sides. `init_std` is the standard deviation of fresh weights.
    """

    vocab: int
    hidden: int
    layers: tuple[LayerSpec, ...]
    final_norm: NormSpec | None = field(default_factory=NormSpec)
    head: HeadSpec = field(default_factory=HeadSpec)
    names: Names = field(default_factory=Names)
    embed_multiplier: float = 1.0
    embed_multiplier_rounded: bool = False
    embed_dropout: float = 0.0
    embed_norm: NormSpec | None = None
    positions: int | None = None
    position_offset: int = 0
    padding_idx: int | None = None
    skips: tuple[SkipSpec, ...] = ()
    transposed: bool = False
    causal: bool = True
    init_std: float = 0.02

    def __post_init__(self) -> None:
        for name in ("vocab", "hidden"):
            if getattr(self, name) <= 0:
                raise Unsupported(f"{name} is {getattr(self, name)}")
        if not self.layers:
            raise Unsupported("the config has no layers")

    @property
    def windows(self) -> tuple[int | None, ...]:
        """The distinct attention windows, None for full attention, in order of appearance."""
        return tuple(
            dict.fromkeys(layer.attention.window for layer in self.layers if layer.attention is not None and layer.attention.kind != "linear")
        )

    @property
    def ropes(self) -> tuple[RopeSpec, ...]:
        """The distinct rotary tables, in order of appearance."""
        found = (layer.attention.rope for layer in self.layers if layer.attention is not None)
        return tuple(dict.fromkeys(rope for rope in found if rope is not None))


def round_up(value: float, multiple: int) -> int:
    """Return the next multiple that is not less than `value`."""
    return math.ceil(value / multiple) * multiple
