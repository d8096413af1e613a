"""Two evaluations side by side: which items both stages answered, and with what values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from preftrace import artifacts
from preftrace.errors import DataError
from preftrace.evaluate import logs
from preftrace.evaluate.layout import Layout, collapse, read_layout
from preftrace.evaluate.statistics import Floats
from preftrace.types import StageRecord

if TYPE_CHECKING:
    import pyarrow as pa

Evaluations = Mapping[str, Mapping[str, Path]]
"""stage -> vertical -> folder of the finished evaluation; the stages' order says which is before and which after."""
ALIKE = ("protocol", "samples", "max_new_tokens", "temperature", "num_beams")
"""Settings that two evaluations must share."""


class Evaluation(NamedTuple):
    """A finished evaluation: its record, and its items.parquet."""

    record: StageRecord
    items: pa.Table


class Joined(NamedTuple):
    """Items that both evaluations hold.

    Attributes:
        left: their rows in the first, (n,).
        right: their rows in the second, (n,).
        layout: their clusters.
        alone: how many items only one of the two holds.
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    layout: Layout
    alone: int


class Paired(NamedTuple):
    """One measure on the items where both stages have a value, units as one: (n,) each, and how many lack one."""

    a: Floats
    b: Floats
    layout: Layout
    missing: int


def find_evaluations(folder: Path) -> dict[str, Path]:
    """The folder of each vertical: of one stage's folder (one subfolder a vertical), or of a single evaluation.

    Of another harness's logs (`logs`) it is the file of each task: of one file, or of all below a folder.

    Raises:
        DataError: there is no finished evaluation.
    """
    if folder.is_file():
        return logs.find(folder)
    record = artifacts.read_record(folder)
    if record is not None and record.kind == "evaluate":
        return {_vertical(record): folder}
    below = sorted(p.parent for p in folder.glob(f"*/{artifacts.RECORD}") if not p.parent.name.endswith(".partial"))
    found = [record for record in map(artifacts.read_record, below) if record is not None and record.kind == "evaluate"]
    if not found:
        if others := logs.find(folder):
            return others
        raise DataError(
            f"{folder} holds no finished evaluation. Name a folder such as RUN/evaluate/STAGE or "
            "RUN/evaluate/STAGE/VERTICAL, or a log of lm-eval (samples_*.jsonl) or Inspect (.eval, .json)."
        )
    return {_vertical(record): record.folder for record in found}


def _vertical(record: StageRecord) -> str:
    return record.name.rsplit("/", 1)[-1]


def read_evaluations(evaluations: Evaluations) -> dict[str, dict[str, Evaluation]]:
    """The records and items of finished evaluations, stage -> vertical.

    Raises:
        DataError: a folder holds none.
    """
    found: dict[str, dict[str, Evaluation]] = {}
    for stage, folders in evaluations.items():
        found[stage] = {}
        for vertical, folder in sorted(folders.items()):
            if folder.is_file():
                found[stage][vertical] = Evaluation(*logs.read(folder))
                continue
            record = artifacts.read_record(folder)
            if record is None or record.kind != "evaluate":
                raise DataError(f"{folder} holds no finished evaluation of {vertical} at {stage}. Evaluate it first.")
            found[stage][vertical] = Evaluation(record, artifacts.read_table(folder / "items.parquet"))
    return found


def join(left: Evaluation, right: Evaluation, where: str) -> Joined:
    """Rows of the items that both have.

    Raises:
        DataError: no item in common, or they were not asked and scored alike; `where` says which.
    """
    scorers = [e.record.summary.get("scorer") for e in (left, right)]
    if scorers[0] != scorers[1]:
        raise DataError(f"{where} were scored by {scorers[0]} and by {scorers[1]}. Score both with the same scorer.")
    versions = [_judged_by(e.record) for e in (left, right)]
    if versions[0] != versions[1]:
        raise DataError(
            f"{where} were judged by different versions of preftrace's code ({versions[0]} and {versions[1]}). "
            "Evaluate both with the same one."
        )
    options = [e.record.config.get("options", {}) for e in (left, right)]
    for name in ALIKE:
        if options[0].get(name) != options[1].get(name):
            values = f"{name} {options[0].get(name)} and {options[1].get(name)}"
            raise DataError(f"{where} were answered with {values}. Evaluate both with the same settings.")
    ids = [e.items.column("item_id").to_pylist() for e in (left, right)]
    position = {item: i for i, item in enumerate(ids[1])}
    shared = [(i, position[item]) for i, item in enumerate(ids[0]) if item in position]
    if not shared:
        raise DataError(f"{where} have no item in common. Compare evaluations of the same items.")
    prompts = [e.items.column("prompt").to_pylist() for e in (left, right)]
    for i, j in shared:
        if prompts[0][i] != prompts[1][j]:
            raise DataError(f"{where} asked item {ids[0][i]} in different words. Use one format for both.")
    index = np.array(shared, dtype=np.int64)
    alone = len(set(ids[0]) | set(ids[1])) - len(shared)
    return Joined(index[:, 0], index[:, 1], read_layout(left.items).take(index[:, 0].tolist()), alone)


def _judged_by(record: StageRecord) -> list[Any]:
    """VERSION of the runner and of the vertical whose code judged the answers."""
    versions: list[Any] = record.config.get(
        "judged_by_versions", [record.version, record.config.get("vertical_version")]
    )
    return list(versions)


def paired(left: pa.Table, right: pa.Table, joined: Joined, measure: str) -> Paired:
    """The measure's values at both stages. Null on both sides means that it does not apply: not missing."""
    columns = []
    for table, rows in ((left, joined.left), (right, joined.right)):
        column = table.column(measure).take(rows)
        applies = ~column.is_null().to_numpy(zero_copy_only=False)
        columns.append((column.to_numpy(zero_copy_only=False).astype(np.float64), applies))
    (a, applies_a), (b, applies_b) = columns
    known = ~np.isnan(a) & ~np.isnan(b)
    missing = int(np.count_nonzero((applies_a | applies_b) & ~known)) + joined.alone
    values, layout = collapse(
        np.stack([a[known], b[known]], axis=1), joined.layout.take(np.flatnonzero(known).tolist())
    )
    return Paired(values[:, 0], values[:, 1], layout, missing)
