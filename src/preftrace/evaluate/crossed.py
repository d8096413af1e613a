"""Statistics of differences that are clustered two ways at once, such as topic x group, in numpy.

Items that share a topic move together, and so do items that share a group. The variance of the mean is that of Cameron,
Gelbach and Miller (Journal of Business and Economic Statistics 29:238, 2011): by one way, plus by the other, minus by
cell; never below the larger of the two ways. The interval is the symmetric studentised pigeonhole bootstrap: both ways
are drawn with replacement and independently, and a cell counts as often as its two ways together (Owen, Annals of
Applied Statistics 1:386, 2007). Its percentiles alone are too narrow or too wide, depending on where the spread lies;
dividing each resample by its own standard error mends both, which docs/statistics.md measures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from preftrace.evaluate.statistics import CHUNK_CELLS, NO_SPREAD, Estimate, Floats, studentised


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
    """Of the mean `theta` in each resample, (c,) each: clustered by the first way, by the second, and by cell."""

    theta: Floats
    first: Floats
    second: Floats
    cell: Floats

    @property
    def error(self) -> Floats:
        """The two-way standard error (c,)."""
        larger = np.maximum(self.first, self.second)
        return np.sqrt(np.maximum(self.first + self.second - self.cell, larger))


def variances(rows: Floats, columns: Floats, data: Cells) -> Variances:
    """The mean difference and its variances in resamples; NaN where a resample holds no item.

    Args:
        rows: (c, G), how often each first cluster was drawn.
        columns: (c, H), how often each second one was.
        data: the cells.
    """
    sums, sizes = data
    (groups, others), n = sums.shape, ((rows @ sizes) * columns).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        theta = ((rows @ sums) * columns).sum(1) / n
        first = (rows * (columns @ sums.T - theta[:, None] * (columns @ sizes.T)) ** 2).sum(1) * groups / (groups - 1)
        second = (columns * (rows @ sums - theta[:, None] * (rows @ sizes)) ** 2).sum(1) * others / (others - 1)
        squares = [((rows @ product) * columns).sum(1) for product in (sums * sums, sums * sizes, sizes * sizes)]
        cell = squares[0] - 2 * theta * squares[1] + theta**2 * squares[2]
        return Variances(theta, first / n**2, second / n**2, cell / n**2)


def observed(data: Cells) -> Variances:
    """The mean difference and its variances, (1,) each."""
    return variances(np.ones((1, data.sums.shape[0])), np.ones((1, data.sums.shape[1])), data)


def two_way_error(data: Cells) -> float:
    """Two-way standard error of the mean difference."""
    return float(observed(data).error[0])


def freedom(data: Cells) -> float:
    """Degrees of freedom of the two ways' variances together, between min(G, H) - 1 and G + H - 2.

    (a + b)^2 / (a^2 / (G - 1) + b^2 / (H - 1)) for variances a and b (Satterthwaite, Biometrics Bulletin 2:110, 1946).
    """
    (groups, others), seen = data.sums.shape, observed(data)
    a, b = float(seen.first[0]), float(seen.second[0])
    if a == b == 0:
        return min(groups, others) - 1.0
    return float((a + b) ** 2 / (a**2 / (groups - 1) + b**2 / (others - 1)))


def pigeonhole_bootstrap(data: Cells, generator: np.random.Generator, resamples: int, level: float = 0.95) -> Estimate:
    """Interval and two-sided p of the mean difference over items, both ways resampled; at least two of each.

    As `statistics.cluster_bootstrap` in all else: the floors (Student's with `freedom` degrees of freedom), p, and what
    is said where nothing changed or everything changed alike.
    """
    groups, others = data.sums.shape
    fewest = min(groups, others)
    if fewest < 2:
        raise ValueError(f"two-way clusters need two of each, not {groups} and {others}")
    if not np.any(data.sums):
        return Estimate(0.0, math.nan, math.nan, 1.0, 0.0)
    difference, error = float(data.sums.sum() / data.sizes.sum()), two_way_error(data)
    if error <= NO_SPREAD * abs(difference):
        return Estimate(difference, difference, difference, max(1 / (1 + resamples), 0.5 ** (fewest - 1)), 0.0)
    residuals = data.sums - difference * data.sizes
    floor = float(max(np.abs(residuals.sum(way)).max() for way in (0, 1)) / data.sizes.sum())
    t = []
    for size in _chunks(resamples, data.sums.size):
        rows = generator.multinomial(groups, np.full(groups, 1 / groups), size).astype(np.float64)
        columns = generator.multinomial(others, np.full(others, 1 / others), size).astype(np.float64)
        found = variances(rows, columns, data)
        drawn = ~np.isnan(found.theta)
        t.append(np.abs(found.theta[drawn] - difference) / np.maximum(found.error[drawn], floor))
    return studentised(difference, error, np.concatenate(t), freedom(data), level)


def _chunks(resamples: int, cells: int) -> list[int]:
    step = max(1, CHUNK_CELLS // cells)
    return [min(step, resamples - start) for start in range(0, resamples, step)]
