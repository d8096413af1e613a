"""Rates of items that are independent of each other: Wilson's interval, McNemar's test, Newcombe's interval."""

from __future__ import annotations

import math
from typing import NamedTuple

from preftrace.evaluate.statistics import Estimate


class Table(NamedTuple):
    """Items measured 0/1 twice: 1 both times, 0 then 1, 1 then 0, and 0 both times."""

    both: int
    gained: int
    lost: int
    neither: int


def wilson(count: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Score interval of a rate, `count` of `n` (Wilson 1927; Newcombe, Statistics in Medicine 17:857, 1998, 3)."""
    from scipy import stats

    z = float(stats.norm.ppf((1 + level) / 2))
    rate, denominator = count / n, 1 + z * z / n
    middle = (rate + z * z / (2 * n)) / denominator
    half = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n)) / denominator
    return max(middle - half, 0.0), min(middle + half, 1.0)


def mcnemar(table: Table, level: float = 0.95) -> Estimate:
    """Change of a rate.

    p is McNemar's exact test: two-sided binomial on the discordant items. The interval is Newcombe's square-and-add of
    the two Wilson intervals with their correlation (Statistics in Medicine 17:2635, 1998, method 10), always holding
    the estimate. The error is that of Bonett and Price (2012, 10.3102/1076998611411915), one item added to each
    discordant cell, so that it is never 0.
    """
    from scipy import stats

    both, gained, lost, _ = table
    n = sum(table)
    difference = (gained - lost) / n
    p = float(stats.binomtest(gained, gained + lost, 0.5).pvalue) if gained + lost else 1.0
    up, down = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    error = math.sqrt((up + down - (up - down) ** 2) / (n + 2))
    before, after = (both + lost) / n, (both + gained) / n
    (low_a, high_a), (low_b, high_b) = wilson(both + lost, n, level), wilson(both + gained, n, level)
    phi = correlation(table)
    return Estimate(
        difference,
        difference - _combined(after - low_b, high_a - before, phi),
        difference + _combined(high_b - after, before - low_a, phi),
        p,
        error,
    )


def _combined(one: float, other: float, phi: float) -> float:
    return math.sqrt(max(one * one - 2 * phi * one * other + other * other, 0.0))


def correlation(table: Table) -> float:
    """Phi of the two measurements in [-1, 1], with Newcombe's continuity correction where positive; 0 if unknown."""
    both, gained, lost, neither = table
    margins = (both + lost) * (gained + neither) * (both + gained) * (lost + neither)
    if not margins:
        return 0.0
    excess = both * neither - gained * lost
    shrunk = excess if excess < 0 else max(excess - sum(table) / 2, 0.0)
    return float(shrunk / math.sqrt(margins))
