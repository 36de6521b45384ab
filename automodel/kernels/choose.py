"""The table of ops of a built model: the chosen implementation, and for every other one the reason it was not chosen."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec

import torch
from torch import nn

OPS = ("attention", "sdpa", "norm", "rope", "mlp", "experts", "head")


@dataclass(frozen=True, kw_only=True)
class KernelRow:
    """One op: what runs, why, and what does not run with its reason."""

    op: str
    chosen: str
    why: str = ""
    others: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class KernelTable:
    """Rows by op; `table["attention"].chosen` is the name, `print(table)` shows all of it."""

    rows: tuple[KernelRow, ...]

    def __getitem__(self, op: str) -> KernelRow:
        for row in self.rows:
            if row.op == op:
                return row
        raise KeyError(f"no op {op!r}; this model has {', '.join(row.op for row in self.rows)}")

    def __iter__(self) -> Iterator[KernelRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        lines = []
        for row in self.rows:
            lines.append(f"{row.op:<10} {row.chosen}" + (f"  ({row.why})" if row.why else ""))
            lines += [f"{'':<10}   not {name}: {reason}" for name, reason in row.others.items()]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        body = ""
        for row in self.rows:
            others = "<br>".join(f"<b>{html.escape(name)}</b>: {html.escape(reason)}" for name, reason in row.others.items())
            cells = (html.escape(row.op), f"<b>{html.escape(row.chosen)}</b><br>{html.escape(row.why)}", others)
            body += "<tr>" + "".join(f'<td style="text-align:left">{cell}</td>' for cell in cells) + "</tr>"
        return f"<table><tr><th>op</th><th>runs</th><th>does not run</th></tr>{body}</table>"


def transformer_engine_reason(device: torch.device) -> str:
    """Say why Transformer Engine does not run in a transformers class on this device."""
    if find_spec("transformer_engine") is None:
        return "transformer_engine is not installed"
    if device.type != "cuda":
        return f"needs a CUDA device, this is {device.type}"
    return "only native models use it; this one is a transformers class"


def hf_rows(model: nn.Module, *, device: torch.device, liger: str | None, asked: Mapping[str, str]) -> list[KernelRow]:
    """Describe norm, rope, MLP, experts and head of a transformers model.

    Args:
        model: the built model; read by the class names of its modules.
        device: where it will run.
        liger: why Liger was not applied, or None when it was.
        asked: implementations asked for through BackendConfig.
    """
    engine = transformer_engine_reason(device)
    kinds = {
        "norm": ("Norm",),
        "rope": ("RotaryEmbedding",),
        "mlp": ("MLP", "FeedForward"),
        "experts": ("Experts", "SparseMoeBlock", "SparseMoE", "MoE"),
    }
    wishes = {"norm": "rms_norm", "rope": "rope", "mlp": "linear", "experts": "experts"}
    rows = []
    for op, endings in kinds.items():
        found = _first(model, endings)
        if found is None:
            continue
        others = {} if liger is None else {"liger": liger}
        if op in ("norm", "mlp", "experts"):
            others["te"] = engine
        wish = asked.get(wishes[op])
        if wish is not None and not wish.startswith("torch"):
            others[wish] = engine if wish == "te" else "asked for; only native models use it, this one is a transformers class"
        chosen = f"liger in {found}" if liger is None else found
        rows.append(KernelRow(op=op, chosen=chosen, why="" if liger is None else "the transformers module, in plain torch", others=others))
    why = "logits of the rows that the caller keeps (logits_to_keep), in plain torch"
    rows.append(
        KernelRow(
            op="head",
            chosen="torch" if liger is not None else "liger",
            why=why if liger is not None else "",
            others={"liger": liger} if liger else {},
        )
    )
    return rows


def _first(model: nn.Module, endings: tuple[str, ...]) -> str | None:
    for module in model.modules():
        name = type(module).__name__
        if name.endswith(endings):
            return name
    return None
