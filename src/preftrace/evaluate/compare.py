"""What changed between two stages, item by item: `compare_stage` makes the comparisons of a study.

Differences are b - a on the items that both stages answered; an item without a value on either side is counted, not
guessed. *Claims* are the rows of the measure `trust`: their p values are adjusted by Holm over verticals x stage
pairs. A vertical's own metrics are its drill-down: adjusted by Benjamini-Hochberg within the vertical. The formulas,
and what they were measured to hold, are in docs/statistics.md.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from preftrace import artifacts
from preftrace.config import Config
from preftrace.errors import DataError
from preftrace.evaluate import statistics
from preftrace.evaluate.pairing import Evaluation, Evaluations, Paired, join, paired, read_evaluations
from preftrace.evaluate.pairing import find_evaluations as find_evaluations
from preftrace.evaluate.statistics import Estimate, Floats
from preftrace.types import StageRecord

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

VERSION = 1
TRUST = "trust"
TABLE = "comparisons.parquet"


class CompareConfig(Config):
    """How two stages are compared."""

    resamples: int = Field(10_000, ge=100, description="bootstrap resamples of the clusters")
    level: float = Field(0.95, gt=0, lt=1, description="coverage of the intervals")
    alpha: float = Field(0.05, gt=0, lt=1, description="an adjusted p value up to this is a change")
    power: float = Field(0.8, gt=0, lt=1, description="power at which the minimum detectable effect is stated")
    seed: int = Field(0, ge=0, description="seed of the resampling")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One measure of one vertical at two stages.

    Attributes:
        vertical: which vertical.
        a: the stage before.
        b: the stage after.
        measure: `trust`, or the name of one of the vertical's metrics.
        better: which direction of the measure is the trustworthy one.
        n_items: items with a value at both stages.
        n_clusters: clusters they are in.
        n_missing: items that lack a value at one stage or at both.
        mean_a: mean over the `n_items` at stage a.
        mean_b: the same at stage b.
        difference: mean_b - mean_a.
        low: lower end of the interval of the difference; NaN where it cannot be told.
        high: its upper end.
        p: two-sided, not adjusted; NaN where it cannot be told.
        p_adjusted: Holm over the claims, Benjamini-Hochberg within a vertical's metrics.
        test: where p comes from.
        mde: minimum detectable effect at the level alpha / (number of rows adjusted together); infinite where no
            change of any size could have been found, NaN where it cannot be told.
        verdict: in the direction of trust.
    """

    vertical: str
    a: str
    b: str
    measure: str
    better: Literal["higher", "lower"]
    n_items: int
    n_clusters: int
    n_missing: int
    mean_a: float
    mean_b: float
    difference: float
    low: float
    high: float
    p: float
    p_adjusted: float
    test: Literal["bootstrap", "mcnemar"]
    mde: float
    verdict: Literal["better", "worse", "no change found"]


class _Cell(NamedTuple):
    row: Comparison
    error: float
    bounded: bool


def compare_stage(evaluations: Evaluations, out: Path, config: CompareConfig | None = None) -> StageRecord:
    """Compare every two stages on every vertical that both have; the comparisons lie in `out`.

    Raises:
        DataError: a folder is no evaluation, or two evaluations cannot be compared.
    """
    config = config or CompareConfig()
    found = read_evaluations(evaluations)
    inputs = {f"{stage}/{name}": e.record.content for stage, by_name in found.items() for name, e in by_name.items()}
    settings = {**config.identity(), "stages": list(evaluations)}
    spec = artifacts.StageSpec("compare", "compare", VERSION, settings, inputs)

    def make(work: Path) -> dict[str, Any]:
        rows = _compare(found, config)
        artifacts.write_table(work / TABLE, _table(rows))
        return _summary(rows, found)

    return artifacts.run_stage(out, spec, make)


def compare(evaluations: Evaluations, config: CompareConfig | None = None) -> list[Comparison]:
    """The comparisons of `compare_stage`, without writing anything."""
    return _compare(read_evaluations(evaluations), config or CompareConfig())


def frame(comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """The comparisons as a data frame, one row each."""
    import pandas as pd

    return pd.DataFrame([asdict(c) for c in comparisons], columns=[f.name for f in fields(Comparison)])


def load_comparisons(folder: Path) -> list[Comparison]:
    """Read back what `compare_stage` wrote into `folder`."""
    return [Comparison(**row) for row in artifacts.read_table(folder / TABLE).to_pylist()]


def _pairs(found: Mapping[str, Mapping[str, Evaluation]]) -> list[tuple[str, str, str]]:
    """(vertical, a, b) of everything that can be compared, verticals first."""
    verticals = sorted({name for by_name in found.values() for name in by_name})
    return [(v, a, b) for v in verticals for a, b in combinations(found, 2) if v in found[a] and v in found[b]]


def _compare(found: Mapping[str, Mapping[str, Evaluation]], config: CompareConfig) -> list[Comparison]:
    triples = _pairs(found)
    if not triples:
        raise DataError(f"nothing to compare: the stages {', '.join(found)} have no vertical in common.")
    cells: list[_Cell] = []
    for vertical, a, b in triples:
        cells.extend(_cells(vertical, a, b, found[a][vertical], found[b][vertical], config))
    claims = [i for i, cell in enumerate(cells) if cell.row.measure == TRUST]
    families = [
        [i for i, cell in enumerate(cells) if cell.row.measure != TRUST and cell.row.vertical == vertical]
        for vertical in dict.fromkeys(v for v, _, _ in triples)
    ]
    rows: dict[int, Comparison] = dict(_judge(cells, claims, statistics.holm, config))
    for family in families:
        rows.update(_judge(cells, family, statistics.benjamini_hochberg, config))
    return [rows[i] for i in range(len(cells))]


def _judge(
    cells: Sequence[_Cell], family: Sequence[int], adjust: Callable[[Floats], Floats], config: CompareConfig
) -> dict[int, Comparison]:
    """The family's rows with adjusted p, minimum detectable effect and verdict."""
    p = np.array([cells[i].row.p for i in family], dtype=np.float64)
    tests = int(np.count_nonzero(~np.isnan(p)))
    judged = {}
    for i, adjusted in zip(family, adjust(p), strict=True):
        row = cells[i].row
        gain = row.difference if row.better == "higher" else -row.difference
        found = adjusted <= config.alpha and gain != 0
        judged[i] = replace(
            row,
            p_adjusted=float(adjusted),
            mde=_mde(cells[i], config.alpha / max(tests, 1), config.power),
            verdict=("better" if gain > 0 else "worse") if found else "no change found",
        )
    return judged


def _mde(cell: _Cell, alpha: float, power: float) -> float:
    groups = cell.row.n_clusters
    if groups < 2:
        return math.nan
    by_spread = statistics.minimum_detectable(cell.error, groups, alpha, power)
    if cell.row.test == "mcnemar" or (cell.bounded and cell.error == 0):
        return max(by_spread, statistics.fewest_changes(groups, alpha, power))
    return by_spread if cell.error > 0 else math.nan


def _cells(vertical: str, a: str, b: str, left: Evaluation, right: Evaluation, config: CompareConfig) -> list[_Cell]:
    """Trust first, then the vertical's metrics; p not adjusted yet."""
    where = f"{vertical}: {a} ({left.record.folder}) and {b} ({right.record.folder})"
    joined = join(left, right, where)
    metrics = {**left.record.summary["metrics"], **right.record.summary["metrics"]}
    measures: dict[str, Literal["higher", "lower"]] = {TRUST: "higher"}
    measures |= {name: metric["better"] for name, metric in metrics.items()}
    cells = []
    for measure, better in measures.items():
        if any(measure not in e.items.column_names for e in (left, right)):
            continue
        values = paired(left.items, right.items, joined, measure)
        if len(values.a) == 0 and measure == TRUST:
            raise DataError(f"{where} have no item with a trust score in common ({values.missing} missing).")
        if len(values.a):
            cells.append(_cell(_Key(vertical, a, b, measure, better), values, config))
    return cells


class _Key(NamedTuple):
    vertical: str
    a: str
    b: str
    measure: str
    better: Literal["higher", "lower"]

    def generator(self, seed: int) -> np.random.Generator:
        """Each cell draws on its own, so that a further vertical or stage changes no other cell."""
        return np.random.default_rng([seed, zlib.crc32("\x1f".join(self[:4]).encode())])


def _cell(key: _Key, values: Paired, config: CompareConfig) -> _Cell:
    both = np.concatenate([values.a, values.b])
    bounded = bool(np.all((both >= 0) & (both <= 1)))
    groups = len(set(values.clusters))
    binary = bounded and bool(np.all((both == 0) | (both == 1))) and groups == len(values.a) and groups > 1
    estimate = _estimate(values, binary, bounded, key.generator(config.seed), config)
    row = Comparison(
        **key._asdict(),
        n_items=len(values.a),
        n_clusters=groups,
        n_missing=values.missing,
        mean_a=float(values.a.mean()),
        mean_b=float(values.b.mean()),
        difference=estimate.difference,
        low=estimate.low,
        high=estimate.high,
        p=estimate.p,
        p_adjusted=math.nan,
        test="mcnemar" if binary else "bootstrap",
        mde=math.nan,
        verdict="no change found",
    )
    return _Cell(row, estimate.error, bounded)


def _estimate(
    values: Paired, binary: bool, bounded: bool, generator: np.random.Generator, config: CompareConfig
) -> Estimate:
    change = values.b - values.a
    if binary:
        gained, lost = int(np.count_nonzero(change > 0)), int(np.count_nonzero(change < 0))
        estimate = statistics.mcnemar(gained, lost, len(change), config.level)
    else:
        data = statistics.by_cluster(change, values.clusters)
        estimate = statistics.cluster_bootstrap(data, generator, config.resamples, config.level)
    if bounded and not np.any(change) and len(set(values.clusters)) > 1:
        bound = statistics.no_change_bound(len(set(values.clusters)), config.level)
        return estimate._replace(low=-bound, high=bound)
    if bounded and not math.isnan(estimate.low):
        return estimate._replace(low=max(estimate.low, -1.0), high=min(estimate.high, 1.0))
    return estimate


def _table(rows: Sequence[Comparison]) -> pa.Table:
    import pyarrow as pa

    kinds = {"str": pa.string(), "int": pa.int64(), "float": pa.float64()}
    schema = pa.schema([(f.name, kinds.get(str(f.type), pa.string())) for f in fields(Comparison)])
    return pa.Table.from_pylist([asdict(row) for row in rows], schema=schema)


def _summary(rows: Sequence[Comparison], found: Mapping[str, Mapping[str, Evaluation]]) -> dict[str, Any]:
    claims = [row for row in rows if row.measure == TRUST]
    verdicts = [row.verdict for row in claims]
    verticals = sorted({name for by_name in found.values() for name in by_name})
    return {
        "claims": len(claims),
        "better": verdicts.count("better"),
        "worse": verdicts.count("worse"),
        "unchanged": verdicts.count("no change found"),
        "not_evaluated": [f"{stage}/{v}" for stage in found for v in verticals if v not in found[stage]],
    }
