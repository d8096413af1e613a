"""Paired statistics on clustered differences, in numpy: no files, no verticals.

Letters: G clusters; `sums` and `sizes` are (G,): a cluster's sum of paired differences and its number of items. The
estimate is the mean over items, sum(sums) / sum(sizes). Clusters, never single items, are what is resampled.

The interval is the symmetric studentised bootstrap (Hall, The Bootstrap and Edgeworth Expansion, 1992, section 3.6; for
clusters Cameron, Gelbach and Miller, 10.1162/rest.90.3.414), with three departures that docs/statistics.md measures:

1. A resample's standard error is never taken to be smaller than what the single furthest cluster would give alone.
   Where few clusters changed, resamples that hold none of them have no spread at all, and their t would be infinite.
2. The quantile of |t| is never taken to be smaller than Student's with G - 1 degrees of freedom.
3. The standard error is scaled to be unbiased where a cluster's items move together (`balance`): large clusters pull
   the mean towards themselves, so that few clusters of unequal size spread less about it than about the truth.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
CHUNK_CELLS = 4_000_000
"""Resamples are drawn in chunks of about this many (resample, cluster) counts."""

NO_SPREAD = 1e-7
"""A standard error up to this share of the difference is rounding (the squares cancel), not spread."""


class Clusters(NamedTuple):
    """Differences summed by cluster: `sums` and `sizes`, each (G,) float64."""

    sums: Floats
    sizes: Floats


class Part(NamedTuple):
    """A standard error, and the degrees of freedom of its t."""

    error: float
    freedom: float


class Estimate(NamedTuple):
    """A mean difference, in the measure's unit.

    Attributes:
        difference: mean over items, b - a.
        low: lower end of the interval; NaN where it cannot be told.
        high: its upper end.
        p: two-sided, in (0, 1]; NaN where it cannot be told.
        error: standard error of the difference; 0 where no item changed, NaN with one cluster.
    """

    difference: float
    low: float
    high: float
    p: float
    error: float


def by_cluster(differences: Floats, clusters: Sequence[str]) -> Clusters:
    """Sum `differences` (n,) within each cluster; clusters in order of name, so that the items' order is immaterial."""
    names = np.asarray(clusters, dtype=str)
    order = np.lexsort((differences, names))
    _, index = np.unique(names[order], return_inverse=True)
    sums = np.bincount(index, weights=differences[order])
    return Clusters(sums.astype(np.float64), np.bincount(index).astype(np.float64))


def resample_counts(generator: np.random.Generator, clusters: int, resamples: int) -> Iterator[NDArray[np.int64]]:
    """Yield chunks (c, G) of how often each cluster is in each of `resamples` draws of G with replacement."""
    step = max(1, CHUNK_CELLS // clusters)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = generator.integers(0, clusters, (rows, clusters))
        flat = (drawn + np.arange(rows)[:, None] * clusters).ravel()
        yield np.bincount(flat, minlength=rows * clusters).reshape(rows, clusters)


def ratio_and_error(counts: NDArray[np.int64], data: Clusters) -> tuple[Floats, Floats]:
    """Mean difference (c,) and its linearised cluster standard error (c,) in each resample.

    se^2 = G/(G-1) * sum_g w_g (S_g - theta N_g)^2 / (sum_g w_g N_g)^2, with w_g how often cluster g was drawn
    (Cochran, Sampling Techniques, 1977, equation 6.13).
    """
    sums, sizes = data
    columns = np.stack([sizes, sums, sums * sums, sums * sizes, sizes * sizes], axis=1)
    n, s, ss, sn, nn = (counts @ columns).T
    theta = s / n
    spread = np.maximum(ss - 2 * theta * sn + theta**2 * nn, 0.0)
    groups = len(sums)
    return theta, np.sqrt(spread * groups / (groups - 1)) / n


def cluster_bootstrap(data: Clusters, generator: np.random.Generator, resamples: int, level: float = 0.95) -> Estimate:
    """Interval and two-sided p of the mean difference by resampling clusters.

    p = (1 + #{|t*| >= |t|}) / (1 + resamples), or Student's where that is larger; up to the resamples' granularity it
    is below 1 - level exactly when the interval leaves out 0. One cluster gives NaN. No change at all gives p = 1 and
    NaN ends (`no_change_bound` says what can be said then). The same change in every cluster has no spread: its
    interval is that point, and p is the sign test's.
    """
    groups = len(data.sums)
    difference = float(data.sums.sum() / data.sizes.sum())
    if groups < 2:
        return Estimate(difference, math.nan, math.nan, math.nan, math.nan)
    if not np.any(data.sums):
        return Estimate(0.0, math.nan, math.nan, 1.0, 0.0)
    error = cluster_error(data)
    if error <= NO_SPREAD * abs(difference):
        return Estimate(difference, difference, difference, max(1 / (1 + resamples), 0.5 ** (groups - 1)), 0.0)
    floor = float(np.abs(data.sums - difference * data.sizes).max() / data.sizes.sum())
    t = np.concatenate(
        [
            np.abs(theta - difference) / np.maximum(spread, floor)
            for theta, spread in (ratio_and_error(c, data) for c in resample_counts(generator, groups, resamples))
        ]
    )
    return studentised(difference, error, t, groups - 1, level)


def studentised(difference: float, error: float, t: Floats, freedom: float, level: float) -> Estimate:
    """Interval and p from the |t| of resamples (B,), neither narrower nor smaller than Student's with `freedom`."""
    from scipy import special

    observed = abs(difference) / error
    p = (1 + int(np.count_nonzero(t >= observed))) / (1 + len(t))
    student = float(special.stdtrit(freedom, (1 + level) / 2))
    half = max(float(np.quantile(t, level, method="higher")), student) * error
    p = max(p, 2 * float(special.stdtr(freedom, -observed)))
    return Estimate(difference, difference - half, difference + half, p, error)


def cluster_error(data: Clusters) -> float:
    """Standard error of the mean difference, scaled by `balance`; NaN with one cluster."""
    groups = len(data.sums)
    if groups < 2:
        return math.nan
    plain = float(ratio_and_error(np.ones((1, groups), np.int64), data)[1][0])
    return plain * math.sqrt(balance(data.sizes) * (groups - 1) / groups)


def balance(sizes: Floats) -> float:
    """What sum_g (S_g - theta N_g)^2 is multiplied by to be unbiased for the variance of sum_g S_g; sizes (G,).

    Under Var S_g ~ N_g^2, items of a cluster moving together: sum N_g^2 / sum N_g^2 (1 - 2 N_g/N + sum N_h^2 / N^2).
    G / (G - 1) where all sizes are equal (Bell and McCaffrey, Survey Methodology 28, 2002, for the mean).
    """
    share, square = sizes / sizes.sum(), sizes * sizes
    return float(square.sum() / (square * (1 - 2 * share + share @ share)).sum())


def no_change_bound(groups: int, level: float = 0.95) -> float:
    """Largest share of clusters that may change when none of `groups` did: 1 - ((1 - level) / 2)^(1 / groups).

    The rule of three at a two-sided level. For a measure within [0, 1] it also bounds the mean difference.
    """
    return 1.0 - float(((1 - level) / 2) ** (1 / groups))


def minimum_detectable(parts: Sequence[Part], alpha: float, power: float) -> float:
    """Smallest true difference found with probability `power` at two-sided level `alpha`, by Student's t.

    (t[1 - alpha/2] + t[power]) * standard error, with G - 1 degrees of freedom for G clusters (Miller, arXiv
    2411.00640, section 5); of an error in several parts, the root of the sum of their squares.
    """
    from scipy import special

    quantiles = [[float(special.stdtrit(f, q)) for q in (1 - alpha / 2, power)] for _, f in parts]
    return math.hypot(*(sum(two) * part.error for two, part in zip(quantiles, parts, strict=True)))


def fewest_changes(groups: int, alpha: float, power: float) -> float:
    """Smallest share of clusters, all changing one way, that an exact sign test finds with probability `power`.

    The test needs m = ceil(1 - log2(alpha)) changes; P(Binomial(G, d) >= m) = power gives d = Beta(m, G-m+1)'s
    quantile. Infinite where G < m: no change whatever could be found.
    """
    from scipy import stats

    needed = math.ceil(1 - math.log2(alpha))
    return float(stats.beta.ppf(power, needed, groups - needed + 1)) if needed <= groups else math.inf


def holm(p: Floats) -> Floats:
    """Holm's adjusted p values (1979): family-wise error. NaN stays NaN and does not count as a test."""
    order, sorted_p = _sorted(p)
    count = len(sorted_p)
    return _unsorted(p, order, np.maximum.accumulate(sorted_p * (count - np.arange(count))))


def benjamini_hochberg(p: Floats) -> Floats:
    """Benjamini and Hochberg's adjusted p values (1995): false discovery rate. NaN as in `holm`."""
    order, sorted_p = _sorted(p)
    count = len(sorted_p)
    scaled = sorted_p * count / np.arange(1, count + 1)
    return _unsorted(p, order, np.minimum.accumulate(scaled[::-1])[::-1])


def _sorted(p: Floats) -> tuple[NDArray[np.int64], Floats]:
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    return order, p[order]


def _unsorted(p: Floats, order: NDArray[np.int64], adjusted: Floats) -> Floats:
    result = np.full(len(p), np.nan)
    result[order] = np.minimum(adjusted, 1.0)
    return result
