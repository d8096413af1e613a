"""What both readers make of a log."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from preftrace import artifacts
from preftrace.errors import DataError
from preftrace.types import StageRecord

if TYPE_CHECKING:
    import pyarrow as pa


class Log(NamedTuple):
    """A log as an evaluation: its record, and one row for each item with a column for each measure."""

    record: StageRecord
    items: pa.Table


MARK = "preftrace"
LABELS = ("cluster", "crossed", "unit")


@dataclass(slots=True)
class Gathered:
    """One item: its prompt, its labels, and its values, one for each epoch, repeat or line that had them."""

    prompt: str
    labels: Mapping[str, str] = field(default_factory=dict)
    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, measures: Mapping[str, float]) -> None:
        """Keep one line's measures; one that is called as a column of ours gets a mark."""
        for name, value in measures.items():
            self.values.setdefault(column(name), []).append(value)


def column(measure: str) -> str:
    """The column of a measure."""
    return f"{measure} (score)" if measure in ("item_id", "prompt", *LABELS) else measure


def labels(said: Any) -> dict[str, str]:
    """The labels that our own exports put beside an item under the name `preftrace`; none of other tasks."""
    own = said.get(MARK) if isinstance(said, Mapping) else None
    return {name: own[name] for name in LABELS if isinstance(own.get(name), str)} if isinstance(own, Mapping) else {}


def number(value: Any) -> float | None:
    """A score as a number: 1, 0.5, true; null and infinities are missing (NaN); None where it is no single number."""
    if value is None:
        return math.nan
    if not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else math.nan
    except OverflowError:
        return math.nan


def build(
    path: Path,
    task: str,
    gathered: Mapping[str, Gathered],
    measures: Sequence[str],
    lower: frozenset[str] = frozenset(),
    config: Mapping[str, Any] | None = None,
) -> Log:
    """The evaluation that a log's items make. An item's value is the mean of those that are known, NaN without any.

    Args:
        path: the file.
        task: its task, which takes the place of a vertical.
        gathered: item id -> what was said of it.
        measures: names of the measures, the claim first.
        lower: measures of which less is better.
        config: what two logs must share, as a record of ours has it: see `pairing.join`.

    Raises:
        DataError: no item, or no measure.
    """
    import pyarrow as pa

    if not gathered or not measures:
        raise DataError(f"{path} holds no sample with a score. Write it with samples (lm-eval: --log_samples).")
    columns: dict[str, Any] = {
        "item_id": pa.array(list(gathered), pa.string()),
        "prompt": pa.array([one.prompt for one in gathered.values()], pa.string()),
    }
    for name in LABELS:
        if name == "cluster" or any(name in one.labels for one in gathered.values()):
            alone = {item: item if name == "cluster" else "" for item in gathered}
            told = [one.labels.get(name, alone[item]) for item, one in gathered.items()]
            columns[name] = pa.array(told, pa.string())
    for name in measures:
        values = [_mean(one.values[name]) if name in one.values else None for one in gathered.values()]
        columns[name] = pa.array(values, pa.float64())
    metrics = {name: {"label": name, "better": "lower" if name in lower else "higher"} for name in measures}
    content = artifacts.hash_json([artifacts.hash_file(path), sorted(lower)])
    record = StageRecord(
        kind="evaluate",
        name=f"{path.stem}/{task}",
        version=0,
        identity=content,
        config={"vertical": task, "options": {}, **(config or {})},
        inputs={},
        outputs={},
        content=content,
        summary={"metrics": metrics, "claim": measures[0], "scorer": None},
        created="",
        seconds=0.0,
        versions={},
        folder=path,
    )
    return Log(record, pa.table(columns))


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan
