"""What fidelity found, as tables and as the record that users hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from preftrace import artifacts
from preftrace.attribute.fidelity import Agreement
from preftrace.types import StageRecord

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

MEAN = "mean"
"""The rows over all verticals that have an LDS."""


@dataclass(frozen=True, slots=True)
class FidelityResult:
    """How well the scores of one stage's pairs predict training again.

    Attributes:
        record: of the finished stage; its summary says who is ahead, in `verdict`.
    """

    record: StageRecord

    def frame(self) -> pd.DataFrame:
        """LDS: a row for each method or baseline, vertical (and their mean) and measure, with a 95% interval."""
        return self._table("lds")

    def removal(self) -> pd.DataFrame:
        """Leave-group-out: a row for each method, vertical, side and measure."""
        return self._table("removal")

    def subsets(self) -> pd.DataFrame:
        """What was trained again: a row for each subset and group, with the ids of the pairs it leaves out."""
        return self._table("subsets")

    def values(self) -> pd.DataFrame:
        """The query (and the trust) of every vertical at every model that was trained again."""
        return self._table("values")

    def recovery(self) -> pd.DataFrame:
        """How well methods and baselines find planted pairs; empty where none is planted."""
        return self._table("recovery")

    @property
    def verdict(self) -> str:
        """One sentence: whether an influence method beats the baselines; "" where that cannot be told."""
        return str(self.record.summary["verdict"])

    def _table(self, name: str) -> pd.DataFrame:
        frame: pd.DataFrame = artifacts.read_table(self.record.folder / f"{name}.parquet").to_pandas()
        return frame


def lds_table(
    found: Mapping[str, Mapping[str, Agreement]],
    verticals: Sequence[str],
    baselines: Sequence[str],
    count: int,
) -> pa.Table:
    """LDS as rows.

    Args:
        found: measure -> method -> LDS.
        verticals: names of the columns.
        baselines: which of the methods are baselines.
        count: how many subsets.

    Returns:
        Columns method, baseline, vertical (`mean` over those that have one), measure (`query` or `trust`), lds, low,
        high, rank (1 is best, among those of a vertical and a measure), verticals (that the row is over), subsets.
    """
    import pyarrow as pa

    rows = []
    for measure, by_method in found.items():
        for column, vertical in enumerate([*verticals, MEAN]):
            values = {method: float(a.value[column]) for method, a in by_method.items()}
            for method, a in by_method.items():
                low, high = a.interval(column)
                known = not np.isnan(values[method])
                rank = 1 + sum(value > values[method] for value in values.values()) if known else None
                row = {"method": method, "baseline": method in baselines, "vertical": vertical, "measure": measure}
                row |= {"lds": values[method], "low": low, "high": high, "rank": rank}
                rows.append(row | {"verticals": a.verticals if vertical == MEAN else int(known), "subsets": count})
    text = {"method": pa.string(), "baseline": pa.bool_(), "vertical": pa.string(), "measure": pa.string()}
    numbers = {"lds": pa.float64(), "low": pa.float64(), "high": pa.float64(), "rank": pa.int64()}
    counts = {"verticals": pa.int64(), "subsets": pa.int64()}
    return pa.Table.from_pylist(rows, schema=pa.schema(text | numbers | counts))


def removal_schema() -> pa.Schema:
    """Columns of `removal.parquet`.

    `side` is `helpful` or `harmful`; `removed` pairs were left out; `predicted` and `change` are of the measure, whose
    interval is over the vertical's items (clusters); `random`, `random_low`, `random_high` are the mean change of the
    `controls` random groups and where one more would lie; `outside` says whether `change` is outside of that.
    """
    import pyarrow as pa

    names = ("predicted", "change", "low", "high", "random", "random_low", "random_high")
    text = [(name, pa.string()) for name in ("method", "vertical", "side", "measure")]
    numbers = [(name, pa.float64()) for name in names]
    return pa.schema([*text, ("removed", pa.int64()), *numbers, ("controls", pa.int64()), ("outside", pa.bool_())])
