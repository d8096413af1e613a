"""What a method is given and what it returns."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Dots(NamedTuple):
    """What the first pass over the pairs leaves of a shard of m pairs. L blocks (the trained matrices), Q queries.

    Attributes:
        query: `(m, L, Q)` a_ilq = g_il . grad M_q on block l.
        norm2: `(m, L)` ||g_il||^2.
        total: `(L,)` sum of norm2 over all n pairs.
        size: `(L,)` numbers in each block.
        pairs: n.
    """

    query: np.ndarray
    norm2: np.ndarray
    total: np.ndarray
    size: np.ndarray
    pairs: int


class Combination(NamedTuple):
    """H^-1 grad M on block l as `own[l] grad M_q - sum_i pairs[i, l, q] g_il`.

    Attributes:
        own: `(L,)`.
        pairs: `(m, L, Q)` for the shard's pairs, or None where no pair's gradient takes part.
        damping: `(L,)` lambda of each block, or None.
    """

    own: np.ndarray
    pairs: np.ndarray | None
    damping: np.ndarray | None
