"""What a baseline is given, and the scores of all those that are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from preftrace import artifacts, models
from preftrace.attribute.influence import Job
from preftrace.attribute.queries import Query
from preftrace.models.prompts import Encoded
from preftrace.registry import BASELINES


class Answer(NamedTuple):
    """An answer of a vertical's query: above 0 its weight says how trustworthy it is, below 0 how untrustworthy."""

    row: Encoded
    weight: float


@dataclass(frozen=True, slots=True)
class Given:
    """What the baselines of one influence stage look at.

    Attributes:
        job: the stage.
        model: arguments of `pair_model.PairModel`.
        work: folder of the working files; `_pairs.parquet` in it holds the n pairs.
        answers: vertical -> the answers of its query; the Q verticals that have a direction.
    """

    job: Job
    model: Mapping[str, Any]
    work: Path
    answers: Mapping[str, tuple[Answer, ...]]

    @property
    def sides(self) -> tuple[str, ...]:
        """The answers that the loss looks at: chosen alone, or chosen and rejected."""
        from preftrace.attribute.pair_model import SIDES

        return SIDES[self.job.loss["kind"]]

    def pairs(self) -> list[dict[str, Any]]:
        """The pairs with their texts, in the order of the scores."""
        rows: list[dict[str, Any]] = artifacts.read_table(self.work / "_pairs.parquet").to_pylist()
        return rows

    def tokenizer(self) -> Any:
        """The model's."""
        return models.load_tokenizer(self.job.checkpoint.model, self.job.format)


def score_all(job: Job, model: Mapping[str, Any], queries: Mapping[str, Query], work: Path) -> dict[str, np.ndarray]:
    """Scores of the pairs by every baseline of the stage's settings.

    Args:
        job: the stage.
        model: arguments of `pair_model.PairModel`.
        queries: vertical -> its query, in the order of the columns.
        work: folder of the working files, where the pairs are.

    Returns:
        Baseline -> `(n, Q)`, above 0 where the pair helps; NaN for a vertical whose query has no direction.
    """
    directed = [column for column, query in enumerate(queries.values()) if query.items]
    given = Given(job, model, work, {name: signed(query) for name, query in queries.items() if query.items})
    pairs = artifacts.read_table(work / "_pairs.parquet").num_rows
    found = {}
    for name in job.config.baselines:
        found[name] = np.full((pairs, len(queries)), np.nan)
        if directed:
            found[name][:, directed] = BASELINES.load(name).score(given)
    return found


def signed(query: Query) -> tuple[Answer, ...]:
    """Every answer of a query with its weight in the direction of trust, divided as the query is.

    The weights are the query's own, with two exceptions. Those of `log-odds` only mark the good options: here each of
    them has an equal share of 1 in its item, and each of the others of -1. Those of `paper` are `margin`'s, change of
    trust for the new answer and minus it for the old: the slope of its softplus takes a gradient's pass to know, and is
    left out.
    """
    found = []
    for item in query.items:
        weights = item.weights
        if query.kind == "log-odds":
            good = sum(weight > 0 for weight in weights)
            weights = tuple(1 / good if w > 0 else -1 / (len(weights) - good) for w in weights)
        found += [Answer(row, w / query.divisor) for row, w in zip(item.rows, weights, strict=True)]
    return tuple(found)


def contrast(sides: np.ndarray) -> np.ndarray:
    """From `(s, n, ...)` values of the pairs' answers to `(n, ...)`: chosen minus rejected, or chosen alone."""
    value: np.ndarray = sides[0] - sides[1] if len(sides) == 2 else sides[0]
    return value
