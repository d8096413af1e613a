"""EK-FAC for adapters (George et al. 2018, arXiv 1806.03884): H_l is diagonal in the eigenbases of a gradient's sides.

A token's part of a matrix's gradient is left x right^T (for A: s B^T delta and x; for B: delta and s A x). With the
eigenvectors U of the second moments of left over tokens, and W of right (the Kronecker factors of Martens and Grosse
2015, arXiv 1503.05671), and G_i pair i's gradient as a matrix:

    Lambda = mean_i (U^T G_i W)^2        H^-1 V = U [(U^T V W) / (Lambda + lambda)] W^T

lambda = damping x mean of Lambda. One side of an adapter's matrix is r wide, so that its eigenbasis costs nothing. The
factors are those of the pairs' own losses (empirical), not of labels drawn from the model.
"""

from __future__ import annotations

import numpy as np

from preftrace.attribute.methods._base import Block, Inverse, nothing

VERSION = 1
DAMPING = 0.1
"""Unless another is asked for."""


def invert(block: Block, damping: float | None) -> Inverse:
    """Divide by the corrected eigenvalues.

    Args:
        block: rows, queries and factors; a block without factors (a reward model's head) has those of its gradients.
        damping: lambda as a share of the mean corrected eigenvalue; None: `DAMPING`.
    """
    left, right = (np.linalg.eigh(np.asarray(f, np.float64))[1] for f in block.factors or _own(block))
    eigenvalues = _rotated_squares(block, left, right)
    lam = (DAMPING if damping is None else damping) * float(eigenvalues.mean())
    if lam <= 0:
        return nothing(block)
    query = left.T @ block.query.reshape(-1, *block.shape) @ right / (eigenvalues + lam)
    found = left @ query @ right.T
    return Inverse(found.reshape(len(block.query), -1).astype(block.query.dtype), lam)


def _rotated_squares(block: Block, left: np.ndarray, right: np.ndarray, batch: int = 1024) -> np.ndarray:
    """Lambda, `(a, b)`, a batch of pairs at a time."""
    total = np.zeros(block.shape)
    for at in range(0, len(block.rows), batch):
        rotated = left.T @ block.rows[at : at + batch].reshape(-1, *block.shape) @ right
        total += (rotated**2).sum(0)
    return total / len(block.rows)


def _own(block: Block) -> tuple[np.ndarray, np.ndarray]:
    """Second moments of the gradients' own sides."""
    rows = block.rows.reshape(-1, *block.shape).astype(np.float64)
    left, right = rows.transpose(0, 2, 1).reshape(-1, block.shape[0]), rows.reshape(-1, block.shape[1])
    return left.T @ left, right.T @ right
