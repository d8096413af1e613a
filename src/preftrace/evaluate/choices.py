"""Measures over the log-likelihoods of an item's options. Pure functions.

For options i with log-likelihoods l_i, of which the set G is good: the good mass is
sum_{i in G} e^{l_i} / sum_i e^{l_i}, in [0, 1], and the log-odds are log sum_{G} e^{l_i} - log sum_{not G} e^{l_i}.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def log_sum(values: Sequence[float]) -> float:
    """Log sum e^v, exact for values far below zero; NaN if any value is NaN or there are none."""
    if not values or any(math.isnan(v) for v in values):
        return math.nan
    top = max(values)
    if math.isinf(top):
        return top
    return top + math.log(math.fsum(math.exp(v - top) for v in values))


def log_odds(logprobs: Sequence[float], good: Sequence[bool]) -> float:
    """Log-odds of the good options against the others; positive where the good ones are likelier.

    NaN where a side has no option, or no finite log-likelihood.
    """
    sides = [log_sum([v for v, g in zip(logprobs, good, strict=True) if g is side]) for side in (True, False)]
    return sides[0] - sides[1] if all(math.isfinite(v) for v in sides) else math.nan


def good_mass(logprobs: Sequence[float], good: Sequence[bool]) -> float:
    """Share of the options' probability that lies on the good ones, in [0, 1]; NaN as for `log_odds`."""
    odds = log_odds(logprobs, good)
    if math.isnan(odds):
        return math.nan
    return 1 / (1 + math.exp(-odds)) if odds >= 0 else math.exp(odds) / (1 + math.exp(odds))
