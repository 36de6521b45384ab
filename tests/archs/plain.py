"""Decoders written out from their descriptions, one line after the other, to check the switches that no stored output touches.

They take a config.json as it is and the tensors of a checkpoint, one row of tokens, in float32, and share no code with the library.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Tensors = Mapping[str, Tensor]


def linear(x: Tensor, t: Tensors, name: str) -> Tensor:
    return x @ t[f"{name}.weight"].T + t.get(f"{name}.bias", 0.0)


def layer_norm(x: Tensor, t: Tensors, name: str, eps: float) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], t[f"{name}.weight"], t[f"{name}.bias"], eps)


def rms_norm(x: Tensor, t: Tensors, name: str, eps: float) -> Tensor:
    return x * (x.pow(2).mean(-1, keepdim=True) + eps).rsqrt() * t[f"{name}.weight"]


def softmaxed(q: Tensor, k: Tensor, v: Tensor, scale: float, seen: Tensor, bias: Tensor | float = 0.0, clamp: float = math.inf) -> Tensor:
    """Return [T, heads * D] for q [T, heads, D] and k, v [T, kv_heads, D]; `seen` is [T, T] or [heads, T, T]."""
    group = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(group, dim=1).transpose(0, 1) for x in (k, v))
    scores = (q.transpose(0, 1) @ k.mT * scale).clamp(-clamp, clamp) + bias
    return (scores.masked_fill(~seen, -torch.inf).softmax(-1) @ v).transpose(0, 1).flatten(1)


def triangle(length: int) -> Tensor:
    return torch.ones(length, length, dtype=torch.bool).tril()


def halves(x: Tensor, angles: Tensor, factor: float = 1.0) -> Tensor:
    """Rotate dimension i with i + D/2; x is [T, heads, D], angles [T, D/2]."""
    cos, sin = factor * angles.cos()[:, None], factor * angles.sin()[:, None]
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def chatglm(c: Mapping[str, Any], t: Tensors, ids: Tensor) -> Tensor:
    heads, d, eps = c["num_attention_heads"], c["kv_channels"], c.get("layernorm_epsilon", 1e-5)
    norm = (lambda x, name: rms_norm(x, t, name, eps)) if c.get("rmsnorm", True) else (lambda x, name: layer_norm(x, t, name, eps))
    ratio = c.get("rope_ratio", 1.0)
    base, places = 10000.0 * ratio, torch.arange(len(ids)).float()
    if c.get("rope_ratio_divides_positions"):
        base, places = 10000.0, places / ratio
    half = d // 2
    angles = places[:, None] * base ** (-torch.arange(0, half, 2) / half)

    def rotated(x: Tensor) -> Tensor:
        pairs = torch.view_as_complex(x[..., :half].reshape(*x.shape[:-1], -1, 2)) * torch.polar(torch.ones_like(angles), angles)[:, None]
        return torch.cat([torch.view_as_real(pairs).flatten(-2), x[..., half:]], -1)

    x = t["transformer.embedding.word_embeddings.weight"][ids]
    for i in range(c["num_layers"]):
        p = f"transformer.encoder.layers.{i}."
        y = norm(x, p + "input_layernorm")
        qkv = linear(y, t, p + "self_attention.query_key_value")
        if c.get("multi_query_attention"):
            n = c["multi_query_group_num"]
            q, k, v = (part.unflatten(-1, (-1, d)) for part in qkv.split([heads * d, n * d, n * d], -1))
        else:
            q, k, v = qkv.unflatten(-1, (heads, 3 * d)).split(d, -1)
        out = linear(softmaxed(rotated(q), rotated(k), v, d**-0.5, triangle(len(ids))), t, p + "self_attention.dense")
        x = (y if c.get("apply_residual_connection_post_layernorm") else x) + out
        y = norm(x, p + "post_attention_layernorm")
        a, b = linear(y, t, p + "mlp.dense_h_to_4h").chunk(2, -1)
        out = linear(F.silu(a) * b, t, p + "mlp.dense_4h_to_h")
        x = (y if c.get("apply_residual_connection_post_layernorm") else x) + out
    if c.get("post_layer_norm", True):
        x = norm(x, "transformer.encoder.final_layernorm")
    return linear(x, t, "transformer.output_layer")


def jais(c: Mapping[str, Any], t: Tensors, ids: Tensor) -> Tensor:
    heads, length = c["n_head"], len(ids)
    d = c["n_embd"] // heads
    conv = lambda x, name: x @ t[f"{name}.weight"] + t[f"{name}.bias"]  # noqa: E731
    x = t["transformer.wte.weight"][ids]
    bias: Tensor | float = 0.0
    if c.get("position_embedding_type") == "learned":
        x = x + t["transformer.wpe.weight"][:length]
    else:
        slopes = torch.tensor([2.0 ** (-8 * (i + 1) / heads) for i in range(heads)])[:, None, None]
        bias = -slopes * (torch.arange(length)[:, None] - torch.arange(length)).abs()
        scaling = c.get("alibi_scaling") or {}
        bias = bias / scaling.get("factor", max(1.0, length / scaling.get("train_seq_len", length)))
    x = x * c.get("embeddings_scale", c.get("mup_embeddings_scale", 1.0))
    by_d = c.get("scale_qk_dot_by_d", c.get("mup_scale_qk_dot_by_d", False))
    for i in range(c["n_layer"]):
        p = f"transformer.h.{i}."
        q, k, v = (part.unflatten(-1, (heads, d)) for part in conv(layer_norm(x, t, p + "ln_1", 1e-5), p + "attn.c_attn").chunk(3, -1))
        scale = 1 / d if by_d else d**-0.5
        if c.get("scale_attn_by_inverse_layer_idx"):
            scale /= i + 1
        x = x + conv(softmaxed(q, k, v, scale, triangle(length), bias), p + "attn.c_proj")
        y = layer_norm(x, t, p + "ln_2", 1e-5)
        swiglu = c.get("activation_function", "swiglu") == "swiglu"
        y = conv(y, p + "mlp.c_fc") * F.silu(conv(y, p + "mlp.c_fc2")) if swiglu else F.gelu(conv(y, p + "mlp.c_fc"), approximate="tanh")
        x = x + conv(y, p + "mlp.c_proj")
    logits = layer_norm(x, t, "transformer.ln_f", 1e-5) @ t.get("lm_head.weight", t["transformer.wte.weight"]).T
    return logits * c.get("width_scale", c.get("mup_output_alpha", 1.0) * c.get("mup_width_scale", 1.0))


def phi3small(c: Mapping[str, Any], t: Tensors, ids: Tensor) -> Tensor:
    heads, kv, length = c["num_attention_heads"], c["num_key_value_heads"], len(ids)
    d = c["hidden_size"] // heads
    inverse, factor = 1.0 / 1e6 ** (torch.arange(0, d, 2) / d), 1.0
    if scaling := c.get("rope_scaling"):
        trained = scaling["original_max_position_embeddings"]
        kind = "long" if length > trained else "short"
        usual = math.sqrt(1 + math.log(c["max_position_embeddings"] / trained) / math.log(trained)) if kind == "long" else 1.0
        factor = scaling[f"{kind}_mscale"] if scaling[f"{kind}_mscale"] > 0 else usual
        inverse = inverse / torch.tensor(scaling[f"{kind}_factor"])
    angles = torch.arange(length)[:, None] * c.get("rope_position_scale", 1.0) * inverse
    x = t["model.embed_tokens.weight"][ids] * 10.0
    scale = 1 / d if c.get("mup_use_scaling", True) else d**-0.5
    size, local, stride = (c[f"blocksparse_{name}"] for name in ("block_size", "num_local_blocks", "vert_stride"))
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        seen = triangle(length).expand(heads, length, length).clone()
        every = c.get("dense_attention_every_n_layers", 2)
        if not (every and (i + 1) % every == 0):
            for h in range(heads):
                shift = 0 if c.get("blocksparse_homo_head_pattern") else h * max(1, int(stride / heads))
                for r in range(length):
                    for j in range(r + 1):
                        row, column = r // size, j // size
                        seen[h, r, j] = row - column < local or (column + shift + 1) % stride == 0
        qkv = linear(layer_norm(x, t, p + "input_layernorm", 1e-5), t, p + "self_attn.query_key_value").unflatten(-1, (kv, -1, d))
        q, k, v = qkv[:, :, :-2].flatten(1, 2), qkv[:, :, -2], qkv[:, :, -1]
        x = x + linear(softmaxed(halves(q, angles, factor), halves(k, angles, factor), v, scale, seen), t, p + "self_attn.dense")
        u = linear(layer_norm(x, t, p + "post_attention_layernorm", 1e-5), t, p + "mlp.up_proj")
        limit = c.get("gegelu_limit", 20.0)
        gate, up = u[..., ::2].clamp(max=limit), u[..., 1::2].clamp(-limit, limit)
        x = x + linear(gate * torch.sigmoid(1.702 * gate) * (up + 1), t, p + "mlp.down_proj")
    return layer_norm(x, t, "model.final_layernorm", 1e-5) @ t.get("lm_head.weight", t["model.embed_tokens.weight"]).T / 8.0


def decilm(c: Mapping[str, Any], t: Tensors, ids: Tensor) -> Tensor:
    """Without RoPE scaling."""
    heads, length, eps = c["num_attention_heads"], len(ids), c.get("rms_norm_eps", 1e-6)
    d = c["hidden_size"] // heads
    angles = torch.arange(length)[:, None] * c.get("rope_theta", 10000.0) ** (-torch.arange(0, d, 2) / d)
    x = t["model.embed_tokens.weight"][ids]
    for i, block in enumerate(c["block_configs"]):
        p, attention, ffn = f"model.layers.{i}.", block["attention"], block["ffn"]
        if not attention.get("no_op"):
            y = rms_norm(x, t, p + "input_layernorm", eps)
            if attention.get("replace_with_linear"):
                x = x + y @ t[p + "self_attn.linear_attn.weight"].T
            else:
                q, k, v = (linear(y, t, p + f"self_attn.{name}_proj").unflatten(-1, (-1, d)) for name in "qkv")
                seen, window = triangle(length), attention.get("window_length")
                if window is not None:
                    seen &= ~triangle(length).tril(-window)
                    seen[:, : attention.get("num_sink_tokens") or 0] = True
                x = x + linear(softmaxed(halves(q, angles), halves(k, angles), v, d**-0.5, seen), t, p + "self_attn.o_proj")
        if not ffn.get("no_op"):
            y = rms_norm(x, t, p + "post_attention_layernorm", eps)
            if ffn.get("replace_with_linear"):
                x = x + y @ t[p + "mlp.linear_mlp.weight"].T
            else:
                y = F.silu(linear(y, t, p + "mlp.gate_proj")) * linear(y, t, p + "mlp.up_proj")
                x = x + linear(y, t, p + "mlp.down_proj")
    return rms_norm(x, t, "model.norm", eps) @ t["lm_head.weight"].T


def aquila(c: Mapping[str, Any], t: Tensors, ids: Tensor) -> Tensor:
    """Without RoPE scaling."""
    heads, length, eps = c["num_attention_heads"], len(ids), c.get("rms_norm_eps", 1e-6)
    d = c["hidden_size"] // heads
    angles = torch.arange(length)[:, None] * 10000.0 ** (-torch.arange(0, d, 2) / d)
    x = t["model.embed_tokens.weight"][ids]
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        y = rms_norm(x, t, p + "input_layernorm", eps)
        q, k, v = (linear(y, t, p + f"self_attn.{name}_proj").unflatten(-1, (-1, d)) for name in "qkv")
        mixed = softmaxed(halves(q, angles), halves(k, angles), v, d**-0.5, triangle(length), clamp=1024.0)
        x = x + linear(mixed, t, p + "self_attn.o_proj")
        y = rms_norm(x, t, p + "post_attention_layernorm", eps)
        x = x + linear(F.silu(linear(y, t, p + "mlp.gate_proj")) * linear(y, t, p + "mlp.up_proj"), t, p + "mlp.down_proj")
    return rms_norm(x, t, "model.norm", eps) @ t["lm_head.weight"].T


def stablelm_alpha(c: Mapping[str, Any], t: Tensors, ids: Tensor) -> Tensor:
    heads, length = c["num_heads"], len(ids)
    d = c["hidden_size"] // heads
    turned = int(d * c.get("rotary_pct", 0.25))
    angles = torch.arange(length)[:, None] * 10000.0 ** (-torch.arange(0, turned, 2) / turned)
    rotated = lambda x: torch.cat([halves(x[..., :turned], angles), x[..., turned:]], -1)  # noqa: E731
    x = t["transformer.embed.weight"][ids]
    for i in range(c["num_hidden_layers"]):
        p = f"transformer.layers.{i}."
        y = layer_norm(x, t, p + "norm", 1e-5)
        q, k, v = (part.unflatten(-1, (heads, d)) for part in linear(y, t, p + "attention.qkv_proj").chunk(3, -1))
        a, b = linear(y, t, p + "mlp.gate_proj").chunk(2, -1)
        fed = F.silu(a) * b if c.get("gate_half") == "first" else a * F.silu(b)
        mixed = softmaxed(rotated(q), rotated(k), v, d**-0.5, triangle(length))
        x = x + linear(mixed, t, p + "attention.out_proj") + linear(fed, t, p + "mlp.out_proj")
    return linear(layer_norm(x, t, "transformer.final_norm", 1e-5), t, "lm_head")


DECODERS = {"aquila": aquila, "stablelm_alpha": stablelm_alpha, "chatglm": chatglm, "jais": jais, "phi3small": phi3small, "nemotron-nas": decilm}
