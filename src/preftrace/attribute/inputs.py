"""What every pass over a stage's pairs begins with: the pairs it trained on, its reference, its model's settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from preftrace import artifacts
from preftrace.attribute.influence import Job
from preftrace.attribute.streaming import REFERENCE
from preftrace.errors import ArtifactError, DataError


def prepare(job: Job, work: Path) -> tuple[list[str], dict[str, Any]]:
    """Put what the passes read into the folder `work`; the pairs' ids and the arguments of `PairModel`.

    Raises:
        DataError: the stage trained on none of the pairs.
        ArtifactError: the stage trained on pairs that are not there.
    """
    pairs = trained_pairs(job, work)
    keep_reference(job, work, pairs)
    model = {
        "checkpoint": asdict(job.checkpoint),
        "pairs": str(work / "_pairs.parquet"),
        "loss": job.loss,
        "format": job.format,
        "precision": job.precision,
        "batch_tokens": job.config.batch_tokens,
        "layers": list(job.config.layers),
    }
    return pairs, model


def trained_pairs(job: Job, work: Path) -> list[str]:
    """Ids of the pairs the stage trained on, in the order of the data; their texts go to `_pairs.parquet`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    tokens = artifacts.read_table(job.source.folder / "tokens.parquet")
    used = tokens.filter(tokens["used"])["pair_id"].combine_chunks()
    table = artifacts.read_table(job.pairs / "pairs.parquet")
    table = table.filter(pc.and_(pc.equal(table["split"], "train"), pc.is_in(table["id"], value_set=used)))
    if table.num_rows == 0:
        raise DataError(f"{job.source.folder} trained on no pair of {job.pairs}: they are from different runs.")
    if table.num_rows != pa.compute.count_distinct(used).as_py():
        raise ArtifactError(
            f"{job.source.folder} trained on pairs that {job.pairs} does not hold; run the study again."
        )
    artifacts.write_table(work / "_pairs.parquet", table)
    ids: list[str] = table["id"].to_pylist()
    return ids


def keep_reference(job: Job, work: Path, pairs: Sequence[str]) -> None:
    """Take over what DPO's training computed of its reference, where it left it, so that the pass is not needed."""
    path = job.source.folder / "reference.parquet"
    if path.is_file():
        known = {row["pair_id"]: (row["chosen"], row["rejected"]) for row in artifacts.read_table(path).to_pylist()}
        artifacts.write_tensors(work / REFERENCE, {"values": np.array([known[pair] for pair in pairs])})
