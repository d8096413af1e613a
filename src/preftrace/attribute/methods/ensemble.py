"""Gradient dot products averaged over checkpoints that the stage kept from its training (TracInCP).

    score_k = -sum_i w_i grad M(theta_i) . grad loss_k(theta_i)        w_i = eta_i / sum_j eta_j

theta_1, theta_2, ... are the kept checkpoints and the finished model, eta_i the learning rate of the step that ended in
theta_i (Pruthi et al. 2020, arXiv 2002.08484, section 3). They sum with eta_i; the weighted mean differs by a factor
and has the unit of `identity`, which it is where there is one checkpoint. No H: the model moves between the terms, so
that `attribute/ensemble.py` makes them, one checkpoint after the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

VERSION = 1
CHECKPOINTS = True
"""Looks at more than the finished model: the stage must have kept checkpoints."""


def weights(rates: Sequence[float]) -> np.ndarray:
    """Share of each checkpoint, `(c,)`, at least 0, their sum is 1.

    Args:
        rates: learning rates, at least 0, not all 0.
    """
    eta = np.asarray(rates, dtype=np.float64)
    shares: np.ndarray = eta / eta.sum()
    return shares
