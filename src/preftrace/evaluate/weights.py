"""Means in which items weigh differently, as plain means: the linearised ratio (Cochran, 1977, section 6.5)."""

from __future__ import annotations

import numpy as np


def linearised(values: np.ndarray, applies: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Values whose plain mean over known items is the weighted mean R, with the standard error of that ratio.

    u_i = R + w_i (v_i - R) / mean(w), R = sum_i w_i v_i / sum_i w_i. A measure with equal weights is left as it is.

    Args:
        values: `(n, m)` float, measure j of item i; NaN where missing.
        applies: `(n, m)` bool, whether measure j applies to item i at all.
        weights: `(n, m)` float, above 0.
    """
    found = values.copy()
    for j in range(values.shape[1]):
        known = applies[:, j] & ~np.isnan(values[:, j])
        v, w = values[known, j], weights[known, j]
        if len(w) and np.any(w != w[0]):
            ratio = np.sum(w * v) / np.sum(w)
            found[known, j] = ratio + w * (v - ratio) / np.mean(w)
    return found
