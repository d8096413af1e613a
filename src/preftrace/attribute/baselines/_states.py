"""Vectors of answers, shard by shard: of the queries' answers their weighted sum, of pairs chosen minus rejected."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from preftrace import artifacts
from preftrace.attribute.baselines._base import Given, contrast
from preftrace.attribute.pair_model import PairModel
from preftrace.engines import engine_of
from preftrace.engines._base import Shard, ShardOutput
from preftrace.errors import ModelError
from preftrace.models.loading import LanguageModel
from preftrace.models.logprobs import row_batches
from preftrace.models.packing import backbone, inputs, keys_of, pack
from preftrace.models.prompts import Encoded
from preftrace.registry import BASELINES

WORKER = "preftrace.attribute.baselines._states:StateWorker"
SHARDS = 32
"""Shards of the pairs, at most."""
SMALLEST_SHARD = 8
QUERY_SHARD = 256
"""Answers of a query in one shard."""
ROUNDING = 1e-6
"""A direction this small, relative to what it is a sum of, is rounding."""


class Products(NamedTuple):
    """Of Q directions d: `values` `(n, Q)`, the pairs' differences . d, and `norms` `(Q,)`, ||d||; NaN where d is 0."""

    values: np.ndarray
    norms: np.ndarray


def products(given: Given, baseline: str) -> Products:
    """The pairs' vectors on the queries' directions, by the `vectors` of a baseline.

    One map over all shards, queries and pairs alike, so that a worker loads the model once.
    """
    job, queries = given.job, given.work / "_baseline_queries.parquet"
    _write_queries(given, queries)
    rest = {"queries": str(queries), "model": given.model}
    init = {"baseline": baseline, "layer": job.config.activation_layer, **rest}
    out, title = given.work / "_baselines" / baseline, f"{baseline} of {job.record.folder.name}"
    todo = _shards(given)
    parts = engine_of(job.resources).map_shards(WORKER, init, todo, out, job.resources, title)
    verticals = list(given.answers)
    columns: list[np.ndarray] = [np.zeros(1)] * len(verticals)
    sizes = np.zeros(len(verticals))
    for shard, part in zip(todo, parts, strict=True):
        if "vertical" in shard:
            column, found = verticals.index(shard["vertical"]), artifacts.read_tensors(part / "direction.safetensors")
            columns[column] = columns[column] + found["sum"]
            sizes[column] += found["size"][0]
    direction = np.stack(columns, axis=1)
    direction[:, np.linalg.norm(direction, axis=0) <= ROUNDING * sizes] = np.nan
    pairs = [part for shard, part in zip(todo, parts, strict=True) if "vertical" not in shard]
    values = [artifacts.read_tensors(part / "pairs.safetensors")["difference"] @ direction for part in pairs]
    return Products(np.concatenate(values), np.linalg.norm(direction, axis=0))


class StateWorker:
    """Vectors of answers by a baseline's `vectors`: `direction.sum` `(d,)` of a query's, `pairs.difference` `(n, d)`.

    `direction.size` is the sum of the lengths of what `direction.sum` is a sum of.

    Args:
        baseline: its name.
        layer: as in `AttributeConfig.activation_layer`.
        queries: a Parquet file with the columns vertical, prompt_ids, answer_ids, weight.
        model: arguments of `PairModel`.
    """

    def __init__(self, baseline: str, layer: int | None, queries: str, model: Mapping[str, Any]) -> None:
        self.vectors, self.layer = BASELINES.load(baseline).vectors, layer
        self.pairs = PairModel(**model)
        self.queries: dict[str, list[tuple[Encoded, float]]] = {}
        for row in artifacts.read_table(Path(queries)).to_pylist():
            encoded = Encoded(tuple(row["prompt_ids"]), tuple(row["answer_ids"]), False)
            self.queries.setdefault(row["vertical"], []).append((encoded, row["weight"]))

    def run(self, shard: Shard) -> ShardOutput:
        """One shard: `start`, `stop`, of the answers of `vertical`'s query, or of the pairs where none is named."""
        start, stop = shard["start"], shard["stop"]
        if "vertical" in shard:
            rows, weights = zip(*self.queries[shard["vertical"]][start:stop], strict=True)
            found, weight = self._vectors(rows), np.array(weights)
            size = np.abs(weight) @ np.linalg.norm(found, axis=1)
            return {"direction": {"sum": weight @ found, "size": np.array([size])}}
        pairs = self.pairs.rows(start, stop)
        found = self._vectors([*itertools.chain(*pairs)])
        return {"pairs": {"difference": contrast(found.reshape(len(pairs), len(pairs[0]), -1).swapaxes(0, 1))}}

    def _vectors(self, rows: Sequence[Encoded]) -> np.ndarray:
        found: np.ndarray = self.vectors(self.pairs.lm, rows, self.layer, self.pairs.batch_tokens)
        return found


def mean_embeddings(lm: LanguageModel, rows: Sequence[Encoded]) -> np.ndarray:
    """`(n, d)` mean input embeddings of the answers' tokens, in float32 at least; 0 for an answer without any."""
    table = lm.model.get_input_embeddings()
    with torch.inference_mode():
        found = [_wide(table(torch.tensor([row.answer_ids], device=lm.device).long()))[0] for row in rows]
        means = [state.sum(0) / max(len(state), 1) for state in found]
        value: np.ndarray = torch.stack(means).cpu().numpy()
    return value


def mean_states(lm: LanguageModel, rows: Sequence[Encoded], layer: int | None, batch_tokens: int) -> np.ndarray:
    """`(n, d)` mean hidden states at the answers' tokens, in float32 at least; 0 for an answer without any.

    Args:
        lm: the model.
        rows: n prompts and answers.
        layer: 0 is the input embeddings, k the output of layer k (the last one's is normalised); None: the middle.
        batch_tokens: padded tokens in one forward pass.

    Raises:
        ModelError: the model has no such layer.
    """
    found: dict[int, np.ndarray] = {}
    for batch in row_batches(lm, rows, batch_tokens):
        with torch.inference_mode(), lm.autocast():
            means = _batch_means(lm, [rows[i] for i in batch], layer)
        found.update(zip(batch, means.cpu().numpy(), strict=True))
    return np.stack([found[i] for i in range(len(rows))])


def _batch_means(lm: LanguageModel, rows: Sequence[Encoded], layer: int | None) -> torch.Tensor:
    packed = pack(rows, keys_of(lm, rows), lm.pad_id).to(lm.device)
    states = backbone(lm)(**inputs(lm, packed), use_cache=False, output_hidden_states=True).hidden_states
    chosen = (len(states) - 1) // 2 if layer is None else layer
    if chosen >= len(states):
        raise ModelError(f"activation_layer {chosen}: the model's last layer is {len(states) - 1}")
    # An answer's tokens are the last ones up to its end.
    sizes = torch.tensor([len(row.answer_ids) for row in rows], device=lm.device)
    first = torch.repeat_interleave(packed.last - sizes + 1, sizes)
    place = first + torch.cat([torch.arange(len(row.answer_ids), device=lm.device) for row in rows])
    own = _wide(states[chosen][packed.home[packed.row], place])
    sums = torch.zeros(len(rows), own.shape[1], dtype=own.dtype, device=own.device).index_add(0, packed.row, own)
    return sums / sizes.clamp(min=1)[:, None]


def _wide(values: torch.Tensor) -> torch.Tensor:
    return values if values.dtype == torch.float64 else values.float()


def _shards(given: Given) -> list[dict[str, Any]]:
    """The queries' answers and the pairs; the partition does not depend on who computes it."""
    pairs = artifacts.read_table(given.work / "_pairs.parquet").num_rows
    size = max(SMALLEST_SHARD, math.ceil(pairs / SHARDS))
    found: list[dict[str, Any]] = []
    for vertical, answers in given.answers.items():
        starts = range(0, len(answers), QUERY_SHARD)
        found += [{"vertical": vertical, "start": i, "stop": min(i + QUERY_SHARD, len(answers))} for i in starts]
    return [*found, *({"start": i, "stop": min(i + size, pairs)} for i in range(0, pairs, size))]


def _write_queries(given: Given, path: Path) -> None:
    import pyarrow as pa

    every = [(vertical, answer) for vertical, answers in given.answers.items() for answer in answers]
    columns = {
        "vertical": pa.array([vertical for vertical, _ in every], pa.string()),
        "prompt_ids": pa.array([answer.row.prompt_ids for _, answer in every], pa.list_(pa.int64())),
        "answer_ids": pa.array([answer.row.answer_ids for _, answer in every], pa.list_(pa.int64())),
        "weight": pa.array([answer.weight for _, answer in every], pa.float64()),
    }
    artifacts.write_table(path, pa.table(columns))
