"""Gradient dot products averaged over checkpoints that the stage kept from its training (TracInCP).

    score_k = -sum_i w_i grad M(theta_i) . grad loss_k(theta_i)        w_i = eta_i / sum_j eta_j

theta_1, theta_2, ... are the kept checkpoints and the finished model (Pruthi et al. 2020, arXiv 2002.08484, section 3).
Their eta_i is the rate between the checkpoints i - 1 and i, the same at every step; here it is the sum of the rates of
those steps: theta_i stands for the stretch of training that ends in it, so that one at the end of a schedule that goes
down to 0 counts too. They sum with eta_i; the weighted mean differs by a factor and has the unit of `identity`, which
it is where there is one checkpoint. No H: the model moves between the terms, so that `attribute/ensemble.py` makes
them, one checkpoint after the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

VERSION = 2
CHECKPOINTS = True
"""Looks at more than the finished model: the stage must have kept checkpoints."""


def weights(rates: Sequence[float]) -> np.ndarray:
    """Share of each checkpoint, `(c,)`, at least 0, their sum is 1.

    Args:
        rates: sum of the learning rates of the stretch that ends in each checkpoint, at least 0, not all 0.
    """
    eta = np.asarray(rates, dtype=np.float64)
    shares: np.ndarray = eta / eta.sum()
    return shares
