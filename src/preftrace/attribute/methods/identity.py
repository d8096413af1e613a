"""Gradient dot product: H = I, so that score_k = -grad M . g_k.

First-order TracIn at the final checkpoint (Pruthi et al. 2020, arXiv 2002.08484). The yardstick of the other methods.
"""

from __future__ import annotations

import numpy as np

from preftrace.attribute.methods._base import Block, Combination, Dots, Inverse

VERSION = 1


def combine(dots: Dots, damping: float | None) -> Combination:
    """The query's gradient itself; `damping` has no part in it."""
    return Combination(np.ones(len(dots.size)), None, None)


def invert(block: Block, damping: float | None) -> Inverse:
    """The same of one block."""
    return Inverse(block.query, None)
