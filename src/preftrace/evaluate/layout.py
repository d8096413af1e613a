"""Which items move together: clusters, a second way that crosses them, and units that count as one item.

A *unit* is asked in several ways (the spellings of one kind of personal data): the mean over its ways is one value, so
that what has more spellings has no more weight. *Ways* are what is resampled; a way that says nothing is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from preftrace.evaluate import crossed, statistics
from preftrace.evaluate.statistics import Estimate, Floats

if TYPE_CHECKING:
    import pyarrow as pa


class Layout(NamedTuple):
    """Labels of n items: `clusters`, `crossed` and `units`, "" where an item has none of the latter two."""

    clusters: list[str]
    crossed: list[str]
    units: list[str]

    def take(self, rows: Sequence[int]) -> Layout:
        """The labels of some items."""
        return Layout(*([labels[i] for i in rows] for labels in self))


def concatenate(layouts: Sequence[Layout]) -> Layout:
    """The labels of several sets of items, one after the other."""
    return Layout(*(list(chain.from_iterable(labels)) for labels in zip(*layouts, strict=True)))


class Ways(NamedTuple):
    """Clusters one way (`second` is empty), or two ways that truly cross; n labels each."""

    first: list[str]
    second: list[str]

    @property
    def counts(self) -> tuple[int, int]:
        """How many clusters there are of each; 0 second ones where there is one way."""
        return len(set(self.first)), len(set(self.second))

    @property
    def fewest(self) -> int:
        """The number of clusters that limits what can be said."""
        first, second = self.counts
        return min(first, second) if second else first


def read_layout(items: pa.Table) -> Layout:
    """The layout of an items table; `crossed` and `unit` may be absent."""
    columns = [
        items.column(name).to_pylist() if name in items.column_names else [""] * items.num_rows
        for name in ("cluster", "crossed", "unit")
    ]
    return Layout(*columns)


def collapse(values: Floats, layout: Layout) -> tuple[Floats, Layout]:
    """Average (n, m) values within units; an item without a unit stays. Units in order of their first item."""
    if not any(layout.units):
        return values, layout
    names = [unit or f"\x1f{i}" for i, unit in enumerate(layout.units)]
    place = {name: i for i, name in enumerate(dict.fromkeys(names))}
    index = np.array([place[name] for name in names])
    sums = np.zeros((len(place), values.shape[1]))
    np.add.at(sums, index, values)
    firsts = np.unique(index, return_index=True)[1]
    return sums / np.bincount(index)[:, None], layout.take(firsts.tolist())


def ways(layout: Layout) -> Ways:
    """The ways to resample: one where the second says nothing, or where one lies within the other (the coarser)."""
    clusters = layout.clusters
    if not any(layout.crossed):
        return Ways(clusters, [])
    second = [name or f"\x1f{own}" for name, own in zip(layout.crossed, clusters, strict=True)]
    counts, cells = (len(set(clusters)), len(set(second))), len(set(zip(clusters, second, strict=True)))
    if counts[1] < 2 or (cells == counts[1] and counts[0] > 1):
        return Ways(clusters, [])
    if counts[0] < 2 or cells == counts[0]:
        return Ways(second, [])
    return Ways(clusters, second)


def estimate(values: Floats, by: Ways, generator: np.random.Generator, resamples: int, level: float) -> Estimate:
    """Mean of (n,) values with its interval and p: by Student's t two ways, by the bootstrap one way."""
    if by.second:
        data = crossed.by_cell(values, by.first, by.second)
        return crossed.two_way_test(data, level)
    return statistics.cluster_bootstrap(statistics.by_cluster(values, by.first), generator, resamples, level)


def standard_error(values: Floats, by: Ways) -> float:
    """Standard error of the mean of (n,) values, NaN with one cluster."""
    if by.second:
        return crossed.two_way_error(crossed.by_cell(values, by.first, by.second))
    return statistics.cluster_error(statistics.by_cluster(values, by.first))


def freedom(values: Floats, by: Ways) -> float:
    """Degrees of freedom of the standard error."""
    if by.second:
        return crossed.freedom(crossed.by_cell(values, by.first, by.second))
    return by.fewest - 1
