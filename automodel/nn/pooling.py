"""One vector for a row of hidden states: how embedding models such as GritLM and sentence encoders pool.

B rows, T tokens, N hidden width.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Pooling = Literal["mean", "weightedmean", "cls", "lasttoken"]


def pool(hidden: Tensor, mask: Tensor, *, kind: Pooling = "mean", skip: int | Tensor = 0, normalize: bool = True) -> Tensor:
    """Return one vector [B, N] for each row, of length 1 unless told otherwise.

    GritLM: `hidden = model.model(ids, attention_mask=mask, is_causal=False).last_hidden_state`, then the mean without the instruction's tokens
    (gritlm/gritlm.py of its authors).

    Args:
        hidden: [B, T, N], after the final norm.
        mask: [B, T], 1 for tokens and 0 for padding on either side.
        kind: "mean"; "weightedmean", where the n-th counted token weighs n; "cls", the first counted token; "lasttoken", the last.
        skip: how many tokens from the start of each row, padding not counted, are left out: the instruction. A number, or [B].
        normalize: divide by the L2 norm.

    Raises:
        ValueError: the kind is unknown, or a row has no token left.
    """
    place = mask.long().cumsum(1)
    left_out = skip[:, None] if isinstance(skip, Tensor) else skip
    counted = mask.bool() & (place > left_out)
    if not bool(counted.any(1).all()):
        raise ValueError(f"row {int((~counted.any(1)).nonzero()[0])} has no token to pool: it is padding, or skip is its whole length")
    rank = counted.long().cumsum(1) * counted
    weights = {
        "mean": counted,
        "weightedmean": rank,
        "cls": rank == 1,
        "lasttoken": counted & (rank == rank.amax(1, keepdim=True)),
    }.get(kind)
    if weights is None:
        raise ValueError(f"pooling {kind!r}; mean, weightedmean, cls or lasttoken")
    # Sums of many tokens lose digits in half precision.
    share = weights.float() / weights.float().sum(1, keepdim=True)
    pooled = torch.einsum("bt,btn->bn", share, hidden.float())
    return (F.normalize(pooled, dim=-1) if normalize else pooled).to(hidden.dtype)
