"""From what the model said to judged rows: gather shards, score, judge, and lay out the tables and the summary."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from preftrace import artifacts
from preftrace.engines._base import gather_tables
from preftrace.evaluate import scoring
from preftrace.evaluate.base import EMPTY, Said, Vertical, has_scorer
from preftrace.evaluate.controls import above_controls
from preftrace.evaluate.intervals import Interval, cluster_intervals
from preftrace.evaluate.layout import Layout
from preftrace.evaluate.scoring import Scorer
from preftrace.evaluate.weights import linearised
from preftrace.models.prompts import prompt_hash
from preftrace.types import OUTCOMES, Item, ItemScore, Judgement, Metric, prompt_to_json

if TYPE_CHECKING:
    import pyarrow as pa


UNJUDGED = ItemScore(math.nan, {})


@dataclass(frozen=True, slots=True)
class Answered:
    """One item and all that the model said to it.

    Attributes:
        item: the item.
        prompt: as rendered for the model.
        responses: one mapping for each sample: sample, seed, response, response_ids, finished.
        options: one mapping for each option, in order: option, logprob, tokens.
        scores: the scorer's number for each response; NaN where there is none.
        judgements: one for each response.
        score: the item's result; UNJUDGED at first.
    """

    item: Item
    prompt: str
    responses: tuple[Mapping[str, Any], ...]
    options: tuple[Mapping[str, Any], ...]
    scores: tuple[float, ...] = ()
    judgements: tuple[Judgement, ...] = ()
    score: ItemScore = UNJUDGED


def gather(items: Sequence[Item], folders: Sequence[Path]) -> list[Answered]:
    """What all shards hold, in the order of `items`."""
    prompts = {row["item_id"]: row["prompt"] for row in gather_tables(folders, "prompts").to_pylist()}
    responses = by_item(gather_tables(folders, "responses").to_pylist(), "sample")
    options = by_item(gather_tables(folders, "logprobs").to_pylist(), "option")
    return [
        Answered(item, prompts[item.id], tuple(responses.get(item.id, ())), tuple(options.get(item.id, ())))
        for item in items
    ]


def judge(
    module: Vertical,
    answered: Sequence[Answered],
    scorer: Scorer | None,
    folder: Path | None = None,
    known: Mapping[str, float] | None = None,
) -> list[Answered]:
    """Score every response, judge it, and score every item. Needs no model: a new scorer only needs this.

    Scores are kept in `folder` as they come, and those that are `known` are taken as they are.
    """
    texts = [row["response"] for one in answered for row in one.responses]
    scores = iter(scoring.score_all(scorer, texts, folder, known) if scorer else [math.nan] * len(texts))
    judged = [_judge_item(module, one, [next(scores) for _ in one.responses]) for one in answered]
    related = above_controls(module.METRICS, [one.item for one in judged], [one.score for one in judged])
    return [replace(one, score=score) for one, score in zip(judged, related, strict=True)]


def _judge_item(module: Vertical, one: Answered, scores: list[float]) -> Answered:
    texts = [row["response"] for row in one.responses]
    judgements = [module.judge(one.item, text, score) for text, score in zip(texts, scores, strict=True)]
    logprobs = [row["logprob"] for row in one.options]
    said = Said(texts, scores, judgements, logprobs)
    result = module.score(one.item, said)
    if texts:
        result = replace(result, values={**result.values, EMPTY.name: said.empty})
    return replace(one, scores=tuple(scores), judgements=tuple(judgements), score=result)


def by_item(found: Iterable[dict[str, Any]], key: str) -> dict[str, list[dict[str, Any]]]:
    """Rows by their item, each item's in the order of the column `key`."""
    grouped: dict[str, list[dict[str, Any]]] = {}
    for row in found:
        grouped.setdefault(row["item_id"], []).append(row)
    return {item_id: sorted(group, key=lambda row: row[key]) for item_id, group in grouped.items()}


def applicable(module: Vertical, answered: Sequence[Answered]) -> list[Metric]:
    """The vertical's metrics, without those of a measure that no item was asked by; the first one is the default.

    Where answers were drawn, the share of empty ones comes last.
    """
    default = next((metric.measure for metric in module.METRICS if metric.measure), "")
    asked = {one.item.target.get("measure", default) for one in answered}
    found = [metric for metric in module.METRICS if not metric.measure or metric.measure in asked]
    return [*found, EMPTY] if any(one.responses for one in answered) else found


def items_table(module: Vertical, answered: Sequence[Answered]) -> pa.Table:
    """One row for each item: trust and a column for each metric (null: does not apply; NaN: missing)."""
    import pyarrow as pa

    columns = {
        "item_id": pa.array([one.item.id for one in answered], pa.string()),
        "cluster": pa.array([one.item.cluster for one in answered], pa.string()),
        "prompt": pa.array([one.prompt for one in answered], pa.string()),
        "prompt_json": pa.array([prompt_to_json(one.item.prompt) for one in answered], pa.string()),
        "target": pa.array([_target(one.item) for one in answered], pa.string()),
        "trust": pa.array([one.score.trust for one in answered], pa.float64()),
    }
    for name in ("crossed", "unit"):
        if any(getattr(one.item, name) for one in answered):
            columns[name] = pa.array([getattr(one.item, name) for one in answered], pa.string())
    for metric in applicable(module, answered):
        columns[metric.name] = pa.array([one.score.values.get(metric.name) for one in answered], pa.float64())
    return pa.table(columns)


def generations_table(answered: Sequence[Answered]) -> pa.Table:
    """One row for each response."""
    import pyarrow as pa

    kinds = {
        "item_id": pa.string(),
        "cluster": pa.string(),
        "sample": pa.int64(),
        "seed": pa.int64(),
        "prompt": pa.string(),
        "prompt_sha256": pa.string(),
        "response": pa.string(),
        "response_ids": pa.list_(pa.int32()),
        "finished": pa.bool_(),
        "score": pa.float64(),
        "outcome": pa.string(),
        "trust": pa.float64(),
    }
    found = [
        {
            **row,
            "cluster": one.item.cluster,
            "prompt": one.prompt,
            "prompt_sha256": prompt_hash(one.prompt),
            "score": score,
            "outcome": judgement.outcome,
            "trust": judgement.trust,
        }
        for one in answered
        for row, score, judgement in zip(one.responses, one.scores, one.judgements, strict=True)
    ]
    return pa.Table.from_pylist(found, schema=pa.schema(kinds))


def options_table(answered: Sequence[Answered]) -> pa.Table:
    """One row for each option."""
    import pyarrow as pa

    kinds = {
        "item_id": pa.string(),
        "option": pa.int64(),
        "text": pa.string(),
        "good": pa.bool_(),
        "logprob": pa.float64(),
        "tokens": pa.int64(),
    }
    found = [
        {**row, "text": one.item.options[row["option"]].text, "good": one.item.options[row["option"]].good}
        for one in answered
        for row in one.options
    ]
    return pa.Table.from_pylist(found, schema=pa.schema(kinds))


def summary(module: Vertical, answered: Sequence[Answered], seed: int) -> dict[str, Any]:
    """Trust and metrics with intervals, outcomes of all responses, and the hash of all rendered prompts."""
    measured = applicable(module, answered)
    names = [metric.name for metric in measured]
    known = [{"trust": one.score.trust, **one.score.values} for one in answered]
    applies = np.array([[name in row for name in ("trust", *names)] for row in known])
    values = np.array([[row.get(name, math.nan) for name in ("trust", *names)] for row in known])
    weights = np.array([[one.score.weights.get(name, 1.0) for name in ("trust", *names)] for one in answered])
    values = linearised(values, applies, weights)
    trust, *metrics = cluster_intervals(values, applies, _layout([one.item for one in answered]), seed)
    outcomes = [judgement.outcome for one in answered for judgement in one.judgements]
    return {
        "trust": _plain(trust),
        "trust_from": module.TRUST_FROM if any(one.options for one in answered) else "samples",
        "metrics": {
            metric.name: {**_plain(interval), "label": metric.label, "better": metric.better}
            for metric, interval in zip(measured, metrics, strict=True)
        },
        "outcomes": {outcome: outcomes.count(outcome) for outcome in OUTCOMES},
        "clusters": len({one.item.cluster for one in answered}),
        "unscored": sum(math.isnan(score) for one in answered for score in one.scores) if has_scorer(module) else 0,
        "prompts": artifacts.hash_json([prompt_hash(one.prompt) for one in answered]),
        "generated_tokens": _tokens([row["response_ids"] for one in answered for row in one.responses]),
    }


def _tokens(ids: Sequence[Sequence[int] | None]) -> int | None:
    """How many tokens were drawn; None where a backend did not tell them."""
    return None if any(own is None for own in ids) else sum(len(own or ()) for own in ids)


def _layout(items: Sequence[Item]) -> Layout:
    return Layout([i.cluster for i in items], [i.crossed for i in items], [i.unit for i in items])


def _plain(interval: Interval) -> dict[str, Any]:
    return dict(interval._asdict())


def _target(item: Item) -> str:
    return json.dumps(item.target, ensure_ascii=False, sort_keys=True)
