"""What changed between two stages, item by item: `compare_stage` makes the comparisons of a study.

Differences are b - a on the items that both stages answered; an item without a value on either side is counted, not
guessed. *Claims* are the rows of the measure `trust` (of another harness's log: of its first measure): their p values
are adjusted by Holm over verticals x stage pairs. A vertical's other measures are its drill-down: adjusted by
Benjamini-Hochberg within the vertical. Where both stages were trained with several seeds, the seeds are replicates and
the rows are about the methods. The formulas, and what they were measured to hold, are in docs/statistics.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from preftrace import artifacts
from preftrace.errors import DataError
from preftrace.evaluate import statistics
from preftrace.evaluate.comparison import TRUST as TRUST
from preftrace.evaluate.comparison import CompareConfig as CompareConfig
from preftrace.evaluate.comparison import Comparison as Comparison
from preftrace.evaluate.measure import Cell, Place, cells
from preftrace.evaluate.pairing import Evaluation, Evaluations, read_evaluations
from preftrace.evaluate.pairing import find_evaluations as find_evaluations
from preftrace.evaluate.statistics import Floats
from preftrace.types import StageRecord

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

VERSION = 3
TABLE = "comparisons.parquet"
Found = Mapping[str, Mapping[str, Evaluation]]
"""stage -> vertical -> evaluation."""


def compare_stage(
    evaluations: Evaluations | Sequence[Evaluations], out: Path, config: CompareConfig | None = None
) -> StageRecord:
    """Compare every two stages on every vertical that both have; the comparisons lie in `out`.

    Args:
        evaluations: those of each stage; or several of these, with the same stages, one for each seed.
        out: the comparison's folder.
        config: how they are compared.

    Raises:
        DataError: a folder is no evaluation, or two evaluations cannot be compared.
    """
    config = config or CompareConfig()
    replicates = _read(evaluations)
    inputs = {
        (f"seed {number}/" if len(replicates) > 1 else "") + f"{stage}/{name}": evaluation.record.content
        for number, found in enumerate(replicates)
        for stage, by_name in found.items()
        for name, evaluation in by_name.items()
    }
    settings = {**config.identity(), "stages": list(replicates[0])}
    spec = artifacts.StageSpec("compare", "compare", VERSION, settings, inputs)

    def make(work: Path) -> dict[str, Any]:
        rows = compare_found(replicates, config)
        artifacts.write_table(work / TABLE, _table(rows))
        return _summary(rows, replicates[0])

    return artifacts.run_stage(out, spec, make)


def compare(evaluations: Evaluations | Sequence[Evaluations], config: CompareConfig | None = None) -> list[Comparison]:
    """The comparisons of `compare_stage`, without writing anything."""
    return compare_found(_read(evaluations), config or CompareConfig())


def frame(comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """The comparisons as a data frame, one row each."""
    import pandas as pd

    return pd.DataFrame([asdict(c) for c in comparisons], columns=[f.name for f in fields(Comparison)])


def load_comparisons(folder: Path) -> list[Comparison]:
    """Read back what `compare_stage` wrote into `folder`."""
    rows = artifacts.read_table(folder / TABLE).to_pylist()
    return [Comparison(**{"claim": row["measure"] == TRUST, **row}) for row in rows]


def _read(evaluations: Evaluations | Sequence[Evaluations]) -> list[Found]:
    several = [evaluations] if isinstance(evaluations, Mapping) else list(evaluations)
    if not several:
        raise DataError("nothing to compare: no evaluations were named.")
    return [read_evaluations(one) for one in several]


def _places(replicates: Sequence[Found]) -> list[Place]:
    """Everything that all replicates can compare, verticals first."""
    stages = list(replicates[0])
    verticals = sorted({name for found in replicates for by_name in found.values() for name in by_name})
    return [
        Place(v, a, b)
        for v in verticals
        for a, b in combinations(stages, 2)
        if all(v in found[a] and v in found[b] for found in replicates)
    ]


def compare_found(replicates: Sequence[Found], config: CompareConfig) -> list[Comparison]:
    """The comparisons of evaluations that are in memory: one mapping for each seed."""
    places = _places(replicates)
    if not places:
        raise DataError(f"nothing to compare: the stages {', '.join(replicates[0])} have no vertical in common.")
    found: list[Cell] = []
    for place in places:
        pairs = [(one[place.a][place.vertical], one[place.b][place.vertical]) for one in replicates]
        found.extend(cells(place, pairs, config))
    claims = [i for i, cell in enumerate(found) if cell.row.claim]
    families = [
        [i for i, cell in enumerate(found) if not cell.row.claim and cell.row.vertical == vertical]
        for vertical in dict.fromkeys(place.vertical for place in places)
    ]
    rows: dict[int, Comparison] = dict(_judge(found, claims, statistics.holm, config))
    for family in families:
        rows.update(_judge(found, family, statistics.benjamini_hochberg, config))
    return [rows[i] for i in range(len(found))]


def _judge(
    found: Sequence[Cell], family: Sequence[int], adjust: Callable[[Floats], Floats], config: CompareConfig
) -> dict[int, Comparison]:
    """The family's rows with adjusted p, minimum detectable effect and verdict."""
    p = np.array([found[i].row.p for i in family], dtype=np.float64)
    tests = int(np.count_nonzero(~np.isnan(p)))
    judged = {}
    for i, adjusted in zip(family, adjust(p), strict=True):
        row = found[i].row
        gain = row.difference if row.better == "higher" else -row.difference
        changed = adjusted <= config.alpha and gain != 0
        judged[i] = replace(
            row,
            p_adjusted=float(adjusted),
            mde=_mde(found[i], config.alpha / max(tests, 1), config.power),
            verdict=("better" if gain > 0 else "worse") if changed else "no change found",
        )
    return judged


def _mde(cell: Cell, alpha: float, power: float) -> float:
    if cell.groups < 2 or not cell.parts:
        return math.nan
    by_spread = statistics.minimum_detectable(cell.parts, alpha, power)
    if cell.row.test == "mcnemar" or (cell.bounded and by_spread == 0):
        return max(by_spread, statistics.fewest_changes(cell.groups, alpha, power))
    return by_spread if by_spread > 0 else math.nan


def _table(rows: Sequence[Comparison]) -> pa.Table:
    import pyarrow as pa

    kinds = {
        "str": pa.string(),
        "int": pa.int64(),
        "float": pa.float64(),
        "bool": pa.bool_(),
        "float | None": pa.float64(),
    }
    schema = pa.schema([(f.name, kinds.get(str(f.type), pa.string())) for f in fields(Comparison)])
    return pa.Table.from_pylist([asdict(row) for row in rows], schema=schema)


def _summary(rows: Sequence[Comparison], found: Found) -> dict[str, Any]:
    claims = [row for row in rows if row.claim]
    verdicts = [row.verdict for row in claims]
    verticals = sorted({name for by_name in found.values() for name in by_name})
    return {
        "claims": len(claims),
        "better": verdicts.count("better"),
        "worse": verdicts.count("worse"),
        "unchanged": verdicts.count("no change found"),
        "not_evaluated": [f"{stage}/{v}" for stage in found for v in verticals if v not in found[stage]],
    }
