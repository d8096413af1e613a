"""Whether a reward model is as sure as it is right: expected against observed wins on held-out pairs.

Under Bradley and Terry's model the answer with the higher reward is the preferred one with probability sigma(|gap|),
between one half and 1. Pairs are binned by that number, as many in each bin as can be; in a calibrated model each
bin's share of right pairs is its mean expectation. Binning and expected calibration error: Guo et al. (2017, arXiv
1706.04599, equations 2 and 3). Intervals: Wilson (1927), "Probable inference".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

MOST_BINS = 5
LEAST_PAIRS = 8
Z = 1.959963984540054
"""Of a two-sided 95% interval."""


class Bin(NamedTuple):
    """Pairs of like confidence: how many, mean expected and observed share of right ones, and its 95% interval."""

    n: int
    expected: float
    share: float
    low: float
    high: float


class Calibration(NamedTuple):
    """A reward model on held-out pairs.

    Attributes:
        bins: from the least sure to the surest; one alone says nothing about calibration.
        whole: all pairs as one bin.
        error: expected calibration error in [0, 1]: mean over pairs of |share - expected| of their bin.
        log_loss: mean of softplus(-(chosen - rejected)) in nats; guessing gives log 2.
        lost: pairs left out because a reward is not a finite number.
    """

    bins: tuple[Bin, ...]
    whole: Bin
    error: float
    log_loss: float
    lost: int


def calibration(rewards: Sequence[tuple[float, float]]) -> Calibration | None:
    """Calibration of `(chosen, rejected)` rewards; None where no pair has two finite ones.

    A pair with equal rewards counts as half right: the model calls it even. Pairs of equal confidence share a bin.
    """
    gaps = [chosen - rejected for chosen, rejected in rewards if math.isfinite(chosen) and math.isfinite(rejected)]
    if not gaps:
        return None
    wins = sorted((_win_probability(abs(gap)), 1.0 if gap > 0 else 0.5 if gap == 0 else 0.0) for gap in gaps)
    bins = tuple(_bin(part) for part in _parts(wins))
    error = sum(b.n * abs(b.share - b.expected) for b in bins) / len(gaps)
    log_loss = sum(max(-gap, 0.0) + math.log1p(math.exp(-abs(gap))) for gap in gaps) / len(gaps)
    return Calibration(bins, _bin(wins), error, log_loss, len(rewards) - len(gaps))


def wilson(right: float, n: int) -> tuple[float, float]:
    """95% interval of a share, from the number of right ones among n."""
    share, spread = right / n, Z * Z / n
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(share * (1 - share) * spread + spread * spread / 4) / (1 + spread)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def _win_probability(gap: float) -> float:
    return 1 / (1 + math.exp(-gap))


def _parts(wins: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """Up to MOST_BINS parts of at least LEAST_PAIRS, as even as ties allow; fewer pairs are one part."""
    count = min(MOST_BINS, max(len(wins) // LEAST_PAIRS, 1))
    parts: list[list[tuple[float, float]]] = [[]]
    taken = 0
    for _, alike in groupby(wins, key=lambda win: win[0]):
        if len(parts[-1]) >= LEAST_PAIRS and taken >= len(parts) * len(wins) / count:
            parts.append([])
        parts[-1] += list(alike)
        taken = sum(len(part) for part in parts)
    if len(parts) > 1 and len(parts[-1]) < LEAST_PAIRS:
        parts[-2:] = [parts[-2] + parts[-1]]
    return parts


def _bin(wins: Sequence[tuple[float, float]]) -> Bin:
    n, right = len(wins), sum(win for _, win in wins)
    return Bin(n, sum(p for p, _ in wins) / n, right / n, *wilson(right, n))
