"""The work of the influence stage: the queries of all verticals, the passes over the pairs, the table of scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from preftrace import artifacts, models
from preftrace.attribute import ensemble, recovery, store_build, stored
from preftrace.attribute.baselines._base import score_all
from preftrace.attribute.influence import Job
from preftrace.attribute.inputs import prepare
from preftrace.attribute.layers import layers_table
from preftrace.attribute.queries import Draw, Query, read_query
from preftrace.attribute.scores import scores_table
from preftrace.attribute.sides import add_sides, side_scores
from preftrace.attribute.streaming import DIRECTIONS, WORKERS, Passes, Scored
from preftrace.attribute.tokens import token_table
from preftrace.engines import engine_of
from preftrace.models.packing import packed_length
from preftrace.types import Checkpoint


def make(job: Job, work: Path) -> dict[str, Any]:
    """Do the work of one influence stage in the folder `work` and return its summary."""
    pairs, model = prepare(job, work)
    queries = _queries(job, work, job.checkpoint)
    baselines = score_all(job, model, {name: d.query for name, d in queries.items()}, work)
    stage, vectors = job.record.folder.name, _vectors(queries)
    scored = _scored(job, model, len(pairs), work, vectors) if vectors else _nothing(job, len(pairs))
    scores = _along(job, model, len(pairs), work, scored.scores)
    for column, name in enumerate(job.evaluations):
        if not queries[name].query.items:
            scores = {method: _blank(values, column) for method, values in scores.items()}
    verticals = list(job.evaluations)
    table = scores_table(pairs, stage, verticals, scores | baselines, job.config.baselines)
    passes = Passes(model, len(pairs), job.config, work, stage, job.resources, job.seed)
    if job.config.sides:
        table = add_sides(table, verticals, side_scores(passes, job.config.methods))
    artifacts.write_table(work / "scores.parquet", table)
    if job.config.show_tokens:
        tokens = token_table(passes, pairs, scores, verticals, job.config.show_tokens)
        artifacts.write_table(work / "tokens.parquet", tokens)
    directed = {name: column for column, name in enumerate(verticals) if queries[name].query.items}
    parts = {method: part for method, part in scored.layers.items() if method in job.config.methods}
    layers = layers_table(pairs, stage, directed, parts, scored.layer_names)
    artifacts.write_table(work / "layers.parquet", layers)
    found = recovery.measure(table, artifacts.read_table(work / "_pairs.parquet"))
    artifacts.write_table(work / "recovery.parquet", found)
    return {
        "methods": list(job.config.methods),
        "baselines": list(job.config.baselines),
        "verticals": verticals,
        "pairs": len(pairs),
        "loss": job.loss,
        "through": job.through,
        "declared": job.declared,
        "queries": {name: queries[name].summary() for name in job.evaluations},
        "lambda": scored.damping,
        "parameters": scored.parameters,
        "missing": scored.missing,
        "layers": list(scored.layer_names),
        "layers_of_pairs": len(set(layers["pair_id"].to_pylist())),
    }


def _scored(job: Job, model: Mapping[str, Any], pairs: int, work: Path, vectors: Mapping[str, np.ndarray]) -> Scored:
    """Scores of the methods that look at the finished model, and their directions in `DIRECTIONS`."""
    config = ensemble.at_end(job.config)
    if config.mode == "streaming":
        return Passes(model, pairs, config, work, job.record.folder.name, job.resources, job.seed).score(vectors)
    directions: dict[str, np.ndarray] = {}
    scored = stored.score(store_build.build(job), vectors, config.methods, config.damping, directions)
    artifacts.write_tensors(work / DIRECTIONS, directions)
    return scored


def _along(
    job: Job, model: Mapping[str, Any], pairs: int, work: Path, scores: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The scores of every method asked for, in that order: those that look along the training are still missing."""

    def directions(checkpoint: Checkpoint, folder: Path) -> Mapping[str, np.ndarray]:
        return _vectors(_queries(job, folder, checkpoint))

    # A store gives identity in its own projected basis: the average is of whole gradients.
    end = scores.get(ensemble.METHOD) if job.config.mode == "streaming" else None
    found = dict(scores)
    for method in job.config.methods:
        if method not in found:
            found[method] = ensemble.average(job, model, pairs, work, directions, end)
    return {method: found[method] for method in job.config.methods}


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


def _queries(job: Job, work: Path, checkpoint: Checkpoint) -> dict[str, _Direction]:
    tokenizer = models.load_tokenizer(job.checkpoint.model, job.format)
    return {name: _direction(job, work, name, checkpoint, tokenizer) for name in job.evaluations}


def _direction(job: Job, work: Path, name: str, checkpoint: Checkpoint, tokenizer: Any) -> _Direction:
    most = None if job.beta is None else job.loss["max_length"]
    draw = Draw(job.config.query, job.config.query_items, job.seed, job.beta, most)
    folder, before = job.evaluations[name], job.before.get(name)
    query = read_query(folder, tokenizer, job.format, draw, before)
    sizes = [packed_length(item.rows) for item in query.items]
    # An item is one example of the batch: its rows stay together, so its size counts as its length.
    batches = [{"items": sorted(batch)} for batch in _item_batches(sizes, job.config.batch_tokens)]
    init = {
        "checkpoint": asdict(checkpoint),
        "evaluations": [str(place) for place in (folder, before) if place is not None],
        "loss": job.loss,
        "format": job.format,
        "precision": job.precision,
        "draw": draw._asdict(),
        "layers": list(job.config.layers),
    }
    label = f"query {name} of {job.record.folder.name}"
    engine, out = engine_of(job.resources), work / "_queries" / name
    parts = engine.map_shards(f"{WORKERS}:QueryWorker", init, batches, out, job.resources, label)
    total: dict[str, np.ndarray] = {}
    for part in parts:
        for block, value in artifacts.read_tensors(part / "query.safetensors").items():
            total[block] = total.get(block, 0.0) + value / query.divisor
    if not all(np.isfinite(value).all() for value in total.values()):
        note = f"the gradient of its query is not finite in precision {job.precision}: try another"
        return _Direction(query._replace(items=(), note=note), {})
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
