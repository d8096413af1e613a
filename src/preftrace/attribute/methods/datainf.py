"""DataInf: the closed form that swaps the mean and the inverse (Kwon et al. 2024, arXiv 2310.00902, eq. 5).

On each block l, with lambda_l = 0.1 (1/n) sum_i ||g_il||^2 / d_l (their section 3.3) and v = grad M:

    (1/n) sum_i (g_i g_i^T + lambda I)^-1 v = (1/lambda) v - (1 / (n lambda)) sum_i (v . g_i) / (lambda + ||g_i||^2) g_i

by the Sherman-Morrison identity. A block whose gradients are all zero has no curvature to speak of and is left out.
"""

from __future__ import annotations

import numpy as np

from preftrace.attribute.methods._base import Block, Combination, Dots, Inverse, nothing

VERSION = 1
DAMPING = 0.1
"""The paper's, unless another is asked for."""


def combine(dots: Dots, damping: float | None) -> Combination:
    """Coefficients of the closed form.

    Args:
        dots: the first pass's numbers of a shard.
        damping: lambda as a share of the mean squared entry; None: `DAMPING`.
    """
    lam = (DAMPING if damping is None else damping) * dots.total / dots.pairs / dots.size
    alive = lam > 0
    safe = np.where(alive, lam, 1.0)
    own = np.where(alive, 1.0 / safe, 0.0)
    pairs = own[None, :, None] / dots.pairs * dots.query / (safe + dots.norm2)[:, :, None]
    return Combination(own, pairs, lam)


def invert(block: Block, damping: float | None) -> Inverse:
    """The same closed form on the rows of one block, with the norms of the whole gradients."""
    lam = (DAMPING if damping is None else damping) * float(block.norm2.mean()) / block.size
    if lam <= 0:
        return nothing(block)
    weights = block.query @ block.rows.T / (lam + block.norm2) / len(block.rows)
    return Inverse((block.query - weights @ block.rows) / lam, lam)
