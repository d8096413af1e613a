"""The queries of a finished influence stage as numbers: M_v at any model that was trained like the stage's.

The items, answers and weights of a query are those that influence was computed for, whatever the model is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from preftrace import models
from preftrace.attribute.objectives import OBJECTIVES
from preftrace.attribute.pair_model import load_model
from preftrace.attribute.queries import Draw, Query, read_query
from preftrace.types import Checkpoint, StageRecord


class Part(NamedTuple):
    """What one item adds to M_v."""

    vertical: str
    item_id: str
    value: float


class QueryValues:
    """The queries of one influence stage.

    Args:
        influence: record of the finished influence stage.
        format: prompt format of the training.
        model: the starting model, whose tokenizer is used.
        evaluations: vertical -> folder of the evaluation that its query is read from.
        before: the same of the stage before, for queries that look back.
    """

    def __init__(
        self,
        influence: StageRecord,
        format: str,
        model: str,
        evaluations: Mapping[str, Path],
        before: Mapping[str, Path],
    ) -> None:
        settings, summary = influence.config, influence.summary
        self.loss, self.format, self.precision = summary["loss"], format, settings["precision"]
        through = summary["through"]
        most = self.loss["max_length"] if through else None
        beta = through["beta"] if through else None
        draw = Draw(settings["query"], settings["query_items"], settings["seed"], beta, most)
        tokenizer = models.load_tokenizer(model, format)
        self.queries = {
            name: read_query(evaluations[name], tokenizer, format, draw, before.get(name))
            for name in summary["verticals"]
        }

    def at(self, checkpoint: Checkpoint) -> list[Part]:
        """Every item's part of its vertical's query, at a model; M_v is their sum.

        A vertical whose query has no direction has none.
        """
        fields = {"model": checkpoint.model, "adapters": checkpoint.adapters}
        lm = load_model(fields, self.loss["kind"], self.format, self.precision)
        return [
            Part(name, item.item_id, value)
            for name, query in self.queries.items()
            for item, value in zip(query.items, item_values(lm, query, self.loss), strict=True)
        ]


def item_values(lm: models.LanguageModel, query: Query, loss: Mapping[str, Any]) -> list[float]:
    """What each item of a query adds to M_v at a model, by forward passes; M_v is the sum.

    Args:
        lm: a language model, or a reward model where the query is of a reward model's parameters.
        query: of one vertical.
        loss: the pair loss of the stage: its `kind`, and `beta` for dpo.
    """
    rows = [row for item in query.items for row in item.rows]
    values, found, start = torch.from_numpy(_row_values(lm, query, loss, rows)), [], 0
    for item in query.items:
        objective = OBJECTIVES[query.kind]([0] * len(item.rows), item.weights)
        found.append(float(objective(values[start : start + len(item.rows)])[0]) / query.divisor)
        start += len(item.rows)
    return found


def _row_values(
    lm: models.LanguageModel, query: Query, loss: Mapping[str, Any], rows: list[models.Encoded]
) -> np.ndarray:
    """What the objective is a function of, `(N,)`: rewards, log-probabilities, or beta times log-ratios."""
    if isinstance(lm, models.RewardModel):
        return models.row_rewards(lm, rows)
    values = models.completion_logprobs(lm, rows, temperature=query.temperature)
    if query.kind != "paper" or loss["kind"] != "dpo":
        return values
    with lm.model.disable_adapter():
        reference = models.completion_logprobs(lm, rows, temperature=query.temperature)
    ratios: np.ndarray = loss["beta"] * (values - reference)
    return ratios
