"""The damped block inverse itself: H_l = (1/n) sum_i g_il g_il^T + lambda_l I, the empirical Fisher matrix of a block.

lambda_l = damping x the mean of H's eigenvalues that are not 0. With V the rows of grad M and G the rows of gradients:

    V H^-1 = V (G^T G / n + lambda I)^-1                                       D x D, by Cholesky, where D <= n
           = (V - (V G^T) (G G^T + n lambda I)^-1 G) / lambda                  n x n (Woodbury), where n < D

It is the quantity that DataInf (arXiv 2310.00902) approximates; on projected rows it is exact in their basis.
"""

from __future__ import annotations

import numpy as np

from preftrace.attribute.methods._base import Block, Inverse, mean_eigenvalue, nothing

VERSION = 2
DAMPING = 3.0
"""Unless another is asked for: with little of it the inverse fits the pairs' noise (docs/LOG.md, fidelity)."""


def invert(block: Block, damping: float | None) -> Inverse:
    """Solve for every query, in float64.

    Args:
        block: rows and queries.
        damping: lambda as a share of the mean eigenvalue; None: `DAMPING`.
    """
    lam = (DAMPING if damping is None else damping) * mean_eigenvalue(block)
    if lam <= 0:
        return nothing(block)
    solve = _by_cholesky if block.rows.shape[1] <= len(block.rows) else _by_woodbury
    found = solve(block.rows.astype(np.float64), block.query.astype(np.float64), lam)
    return Inverse(found.astype(block.query.dtype), lam)


def _by_cholesky(g: np.ndarray, v: np.ndarray, lam: float) -> np.ndarray:
    return _solve(g.T @ g / len(g), lam, v.T).T


def _by_woodbury(g: np.ndarray, v: np.ndarray, lam: float) -> np.ndarray:
    inner = _solve(g @ g.T, lam * len(g), (v @ g.T).T)
    return np.asarray((v - inner.T @ g) / lam)


def _solve(matrix: np.ndarray, shift: float, right: np.ndarray) -> np.ndarray:
    from scipy.linalg import cho_factor, cho_solve

    matrix[np.diag_indices_from(matrix)] += shift
    return np.asarray(cho_solve(cho_factor(matrix, lower=True), right))
