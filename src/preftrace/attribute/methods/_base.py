"""What a method is given and what it returns.

Every method of one model has `invert`, which works on the rows of a store, one trained matrix at a time. Those that can
be written as sums over the pairs have `combine` too, which the streaming passes use: then no gradient is ever kept.
"""

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


class Block(NamedTuple):
    """One trained matrix over n pairs, in the basis that the store keeps: a row is a matrix a x b, D = a b.

    Attributes:
        rows: `(n, D)` float32, the pairs' gradients.
        query: `(Q, D)` grad M_q.
        norm2: `(n,)` exact ||g_i||^2, of the whole gradient.
        size: numbers in the whole matrix.
        shape: (a, b).
        factors: `(a, a)` and `(b, b)`, second moments of a gradient's two sides over tokens; None where there are none.
    """

    rows: np.ndarray
    query: np.ndarray
    norm2: np.ndarray
    size: int
    shape: tuple[int, int]
    factors: tuple[np.ndarray, np.ndarray] | None


class Inverse(NamedTuple):
    """What a method makes of a block.

    Attributes:
        vectors: `(Q, D)` H^-1 grad M_q.
        damping: lambda; 0 for a block without gradient, which is left out; None for a method without any.
    """

    vectors: np.ndarray
    damping: float | None


def mean_eigenvalue(block: Block) -> float:
    """Mean of the eigenvalues of (1/n) sum_i g_i g_i^T that are not 0: mean ||g_i||^2 / min(n, numbers in a row)."""
    return float(block.norm2.mean() / min(block.rows.shape))


def nothing(block: Block) -> Inverse:
    """For a block whose gradients are all zero."""
    return Inverse(np.zeros_like(block.query), 0.0)
