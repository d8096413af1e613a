"""Intervals of means over items that come in clusters: the percentile cluster bootstrap.

Clusters are drawn with replacement; a resample's mean is the sum over its items divided by their number (Davison and
Hinkley, Bootstrap Methods, 1997, section 3.8). Vectorised over resamples and over measures, which share the draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

RESAMPLES = 10_000
CHUNK = 2_000_000
LEVEL = 0.95


class Interval(NamedTuple):
    """A mean over items, its 95% interval, the items it is over and the items that are missing."""

    value: float
    low: float
    high: float
    n: int
    missing: int


def cluster_intervals(
    values: np.ndarray, applies: np.ndarray, clusters: Sequence[str], seed: int, resamples: int = RESAMPLES
) -> list[Interval]:
    """Means of several measures over items, with 95% intervals that respect clusters.

    Where every cluster has the same mean and that is 0 or 1, a bootstrap sees no spread; the exact binomial bound for
    that many clusters stands in (Clopper and Pearson 1934), so that 0 of 30 is not shown as certainly 0.

    Args:
        values: `(n, m)` float, measure j of item i; NaN where missing.
        applies: `(n, m)` bool, whether measure j applies to item i at all.
        clusters: n labels.
        seed: of the resampling.
        resamples: number of resamples.

    Returns:
        m intervals. With fewer than two clusters the bounds are NaN; with no items the value is NaN too.
    """
    known = applies & ~np.isnan(values)
    labels = np.unique(np.asarray(clusters, dtype=object).astype(str), return_inverse=True)[1]
    count = int(labels.max()) + 1 if len(labels) else 0
    sums = np.zeros((count, values.shape[1]))
    sizes = np.zeros((count, values.shape[1]))
    np.add.at(sums, labels, np.where(known, values, 0.0))
    np.add.at(sizes, labels, known)
    means = _resampled_means(sums, sizes, np.random.default_rng(seed), resamples)
    return [
        _interval(values[known[:, j], j], sums[:, j], sizes[:, j], means[:, j], int((applies & ~known)[:, j].sum()))
        for j in range(values.shape[1])
    ]


def _resampled_means(sums: np.ndarray, sizes: np.ndarray, rng: np.random.Generator, resamples: int) -> np.ndarray:
    count = len(sums)
    means = np.full((resamples, sums.shape[1]), np.nan)
    if count < 2:
        return means
    step = max(1, CHUNK // count)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        weights = rng.multinomial(count, np.full(count, 1 / count), size=size).astype(float)
        totals = weights @ sizes
        np.divide(weights @ sums, totals, out=means[start : start + size], where=totals > 0)
    return means


def _interval(known: np.ndarray, sums: np.ndarray, sizes: np.ndarray, means: np.ndarray, missing: int) -> Interval:
    if not len(known):
        return Interval(np.nan, np.nan, np.nan, 0, missing)
    value = float(known.mean())
    clusters = int((sizes > 0).sum())
    if clusters < 2:
        return Interval(value, np.nan, np.nan, len(known), missing)
    if value in (0.0, 1.0) and bool((known == value).all()):
        bound = (1 - LEVEL) / 2
        edge = 1 - bound ** (1 / clusters)
        low, high = (0.0, edge) if value == 0 else (1 - edge, 1.0)
        return Interval(value, low, high, len(known), missing)
    low, high = np.nanquantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, float(low), float(high), len(known), missing)
