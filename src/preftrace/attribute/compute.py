"""The work of the influence stage: the queries of all verticals, the passes over the pairs, the table of scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from preftrace import artifacts, models
from preftrace.attribute import recovery
from preftrace.attribute.baselines._base import score_all
from preftrace.attribute.influence import Job
from preftrace.attribute.inputs import prepare
from preftrace.attribute.queries import Draw, Query, read_query
from preftrace.attribute.scores import scores_table
from preftrace.attribute.streaming import WORKERS, Passes, Scored
from preftrace.engines import engine_of
from preftrace.models.packing import packed_length


def make(job: Job, work: Path) -> dict[str, Any]:
    """Do the work of one influence stage in the folder `work` and return its summary."""
    pairs, model = prepare(job, work)
    queries = _queries(job, work)
    baselines = score_all(job, model, {name: d.query for name, d in queries.items()}, work)
    passes = Passes(model, len(pairs), job.config, work, job.record.folder.name, job.resources)
    vectors = _vectors(queries)
    scored = passes.score(vectors) if vectors else _nothing(job, len(pairs))
    scores = scored.scores
    for column, name in enumerate(job.evaluations):
        if not queries[name].query.items:
            scores = {method: _blank(values, column) for method, values in scores.items()}
    verticals = list(job.evaluations)
    table = scores_table(pairs, job.record.folder.name, verticals, scores | baselines, job.config.baselines)
    artifacts.write_table(work / "scores.parquet", table)
    found = recovery.measure(table, artifacts.read_table(work / "_pairs.parquet"))
    artifacts.write_table(work / "recovery.parquet", found)
    return {
        "methods": list(job.config.methods),
        "baselines": list(job.config.baselines),
        "verticals": verticals,
        "pairs": len(pairs),
        "loss": job.loss,
        "through": job.through,
        "queries": {name: queries[name].summary() for name in job.evaluations},
        "lambda": scored.damping,
        "parameters": scored.parameters,
        "missing": scored.missing,
    }


def _nothing(job: Job, pairs: int) -> Scored:
    """No vertical has a direction: every score is missing, and the record's queries say why."""
    blank = np.full((pairs, len(job.evaluations)), np.nan)
    return Scored(dict.fromkeys(job.config.methods, blank), {}, 0, 0)


def _blank(values: np.ndarray, column: int) -> np.ndarray:
    values = values.copy()
    values[:, column] = np.nan
    return values


@dataclass(frozen=True, slots=True)
class _Direction:
    """A vertical's query and its gradient, block -> `(numel,)`."""

    query: Query
    gradient: Mapping[str, np.ndarray]

    def summary(self) -> dict[str, Any]:
        signal = bool(self.query.items)
        return {"items": self.query.total, "kind": self.query.kind, "signal": signal, "note": self.query.note}


def _queries(job: Job, work: Path) -> dict[str, _Direction]:
    tokenizer = models.load_tokenizer(job.checkpoint.model, job.format)
    return {name: _direction(job, work, name, folder, tokenizer) for name, folder in job.evaluations.items()}


def _direction(job: Job, work: Path, name: str, folder: Path, tokenizer: Any) -> _Direction:
    most = None if job.beta is None else job.loss["max_length"]
    draw = Draw(job.config.query, job.config.query_items, job.seed, job.beta, most)
    before = job.before.get(name)
    query = read_query(folder, tokenizer, job.format, draw, before)
    sizes = [packed_length(item.rows) for item in query.items]
    # An item is one example of the batch: its rows stay together, so its size counts as its length.
    batches = [{"items": sorted(batch)} for batch in _item_batches(sizes, job.config.batch_tokens)]
    init = {
        "checkpoint": asdict(job.checkpoint),
        "evaluation": str(folder),
        "before": None if before is None else str(before),
        "loss": job.loss,
        "format": job.format,
        "precision": job.precision,
        "draw": draw._asdict(),
    }
    label = f"query {name} of {job.record.folder.name}"
    engine, out = engine_of(job.resources), work / "_queries" / name
    parts = engine.map_shards(f"{WORKERS}:QueryWorker", init, batches, out, job.resources, label)
    total: dict[str, np.ndarray] = {}
    for part in parts:
        for block, value in artifacts.read_tensors(part / "query.safetensors").items():
            total[block] = total.get(block, 0.0) + value / query.divisor
    return _Direction(query, total)


def _item_batches(sizes: Sequence[int], batch_tokens: int) -> list[list[int]]:
    batches: list[list[int]] = []
    room = 0
    for i in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        if not batches or sizes[i] > room:
            batches.append([])
            room = batch_tokens
        batches[-1].append(i)
        room -= sizes[i]
    return batches


def _vectors(queries: Mapping[str, _Direction]) -> dict[str, np.ndarray]:
    """Block -> `(Q, numel)`, a row of zeros for a vertical without signal; empty where none has any."""
    known = [d.gradient for d in queries.values() if d.gradient]
    if not known:
        return {}
    zeros = {block: np.zeros_like(value) for block, value in known[0].items()}
    return {b: np.stack([(d.gradient or zeros)[b] for d in queries.values()]) for b in sorted(zeros)}
