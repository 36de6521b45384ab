"""Deterministic orders: a permutation that depends on its keys only, on every platform and numpy version."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def permutation(count: int, *keys: int) -> NDArray[np.int64]:
    """Return the numbers 0 to count - 1 in an order that is a function of the keys (non-negative integers).

    Raw PCG64 output is used because numpy promises that it never changes; it makes no such promise for `Generator.permutation`.
    """
    return np.argsort(np.random.PCG64(list(keys)).random_raw(count), kind="stable")
