"""Statistics of differences that are clustered two ways at once, such as topic x group, in numpy.

Items that share a topic move together, and so do items that share a group. The variance of the mean is that of Cameron,
Gelbach and Miller (Journal of Business and Economic Statistics 29:238, 2011): by one way, plus by the other, minus by
cell; never below the larger of the two ways. The interval and p are Student's, with the degrees of freedom of the two
ways together. Resampling both ways beside it made the interval too wide where neither way moves the items, and no
better elsewhere but for strongly skewed ways: docs/statistics.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from preftrace.evaluate.statistics import NO_SPREAD, Estimate, Floats


class Cells(NamedTuple):
    """Differences summed by cell: `sums` and `sizes`, each (G, H) float64; empty cells are 0 in both."""

    sums: Floats
    sizes: Floats


def by_cell(differences: Floats, clusters: Sequence[str], crossed: Sequence[str]) -> Cells:
    """Sum `differences` (n,) within each (cluster, crossed); ways in order of name, whatever the items' order."""
    first, second = np.asarray(clusters, dtype=str), np.asarray(crossed, dtype=str)
    order = np.lexsort((differences, second, first))
    _, row = np.unique(first[order], return_inverse=True)
    _, column = np.unique(second[order], return_inverse=True)
    shape = (int(row.max()) + 1, int(column.max()) + 1)
    flat = row * shape[1] + column
    cells = shape[0] * shape[1]
    sums = np.bincount(flat, weights=differences[order], minlength=cells).astype(np.float64)
    sizes = np.bincount(flat, minlength=cells).astype(np.float64)
    return Cells(sums.reshape(shape), sizes.reshape(shape))


class Variances(NamedTuple):
    """Of the mean difference: clustered by the first way, by the second, and by cell."""

    first: float
    second: float
    cell: float


def variances(data: Cells) -> Variances:
    """The three one-way variances of the mean difference; at least two clusters of each way."""
    (groups, others), n = data.sums.shape, data.sizes.sum()
    residuals = data.sums - data.sums.sum() / n * data.sizes
    first = float((residuals.sum(1) ** 2).sum()) * groups / (groups - 1)
    second = float((residuals.sum(0) ** 2).sum()) * others / (others - 1)
    return Variances(*(float(part / n**2) for part in (first, second, (residuals**2).sum())))


def two_way_error(data: Cells) -> float:
    """Two-way standard error of the mean difference; that by cell where both ways cancel to nothing."""
    first, second, cell = variances(data)
    larger = max(first, second)
    return math.sqrt(max(first + second - cell, larger) if larger > NO_SPREAD * cell else cell)


def freedom(data: Cells) -> float:
    """Degrees of freedom of the two ways' variances together, between min(G, H) - 1 and G + H - 2.

    (a + b)^2 / (a^2 / (G - 1) + b^2 / (H - 1)) for variances a and b (Satterthwaite, Biometrics Bulletin 2:110, 1946).
    """
    (groups, others), (a, b, _) = data.sums.shape, variances(data)
    if a == b == 0:
        return float(min(groups, others) - 1)
    return float((a + b) ** 2 / (a**2 / (groups - 1) + b**2 / (others - 1)))


def two_way_test(data: Cells, level: float = 0.95) -> Estimate:
    """Mean difference over items with its interval and two-sided p; at least two clusters of each way.

    As `statistics.cluster_bootstrap` where nothing changed or everything changed alike.
    """
    from scipy import special

    groups, others = data.sums.shape
    fewest = min(groups, others)
    if fewest < 2:
        raise ValueError(f"two-way clusters need two of each, not {groups} and {others}")
    if not np.any(data.sums):
        return Estimate(0.0, math.nan, math.nan, 1.0, 0.0)
    difference, error = float(data.sums.sum() / data.sizes.sum()), two_way_error(data)
    if error <= NO_SPREAD * abs(difference):
        return Estimate(difference, difference, difference, 0.5 ** (fewest - 1), 0.0)
    degrees = freedom(data)
    half = float(special.stdtrit(degrees, (1 + level) / 2)) * error
    p = 2 * float(special.stdtr(degrees, -abs(difference) / error))
    return Estimate(difference, difference - half, difference + half, p, error)
