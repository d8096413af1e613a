"""Queries: for each vertical a differentiable M_v(theta) in the trust direction, read from a finished evaluation.

- log-odds (verticals whose trust is made of their items' options): M = mean over items of
  log sum_{good} p(option) - log sum_{bad} p(option).
- score function (verticals whose trust is made of sampled answers):
  grad E_{y ~ pi}[trust(y)] = E[(trust(y) - baseline) grad log pi(y | x)] (Williams 1992, REINFORCE), so
  M = mean over items of (1/k) sum_j (trust_j - baseline_j) log pi(y_j | x), with the weights held fixed. A sample's
  baseline is the mean trust of the item's other samples, or of the other items' samples where the item has one only:
  it never depends on the sample itself, so the estimate stays unbiased. log pi is that of the distribution that was
  sampled, temperature included.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from preftrace import artifacts
from preftrace.models.prompts import Encoded, encode
from preftrace.types import prompt_from_json, text_id


class QueryItem(NamedTuple):
    """One item's part of a query.

    Attributes:
        item_id: the item.
        rows: prompt and answer of every option or sample.
        weights: one for each row: +1 a good option, -1 a bad one; or trust minus baseline over k.
    """

    item_id: str
    rows: tuple[Encoded, ...]
    weights: tuple[float, ...]


class Draw(NamedTuple):
    """Which query is read from an evaluation.

    Attributes:
        query: `metric` or `log-odds`, as in `AttributeConfig`.
        limit: most items, drawn by hash of seed and item id; None is all.
        seed: the study's.
    """

    query: str
    limit: int | None
    seed: int


class Query(NamedTuple):
    """The query of one vertical.

    Attributes:
        kind: `log-odds` or `score-function`.
        items: items with a part in the gradient.
        total: items the mean is over (those whose gradient is zero by construction included).
        temperature: of the log-probabilities.
        note: why there is no signal, or empty.
    """

    kind: str
    items: tuple[QueryItem, ...]
    total: int
    temperature: float
    note: str


def read_query(folder: Path, tokenizer: Any, format: str, draw: Draw) -> Query:
    """The query of a finished evaluation.

    Args:
        folder: an evaluation's folder.
        tokenizer: the model's.
        format: the study's prompt format.
        draw: which form, and which items.
    """
    record = artifacts.read_json(folder / artifacts.RECORD)
    items = artifacts.read_table(folder / "items.parquet").to_pylist()
    order = sorted(items, key=lambda item: text_id(str(draw.seed), item["item_id"]))
    kept = {item["item_id"]: item for item in (order if draw.limit is None else order[: draw.limit])}
    options = [o for o in artifacts.read_table(folder / "options.parquet").to_pylist() if o["item_id"] in kept]
    if options and (draw.query == "log-odds" or record["summary"]["trust_from"] == "options"):
        return _log_odds(kept, options, tokenizer, format)
    samples = [g for g in artifacts.read_table(folder / "generations.parquet").to_pylist() if g["item_id"] in kept]
    # Greedy answers are scored as if drawn at temperature 1: the model's own distribution.
    return _score_function(samples, tokenizer, format, record["config"]["options"]["temperature"] or 1.0)


def log_odds(groups: Sequence[int], weights: Sequence[float]) -> Callable[[torch.Tensor], torch.Tensor]:
    """The objective log sum_{good} p - log sum_{bad} p of each example, from `(N,)` log-probabilities to `(n,)`."""

    def objective(logprobs: torch.Tensor) -> torch.Tensor:
        group = torch.tensor(groups, device=logprobs.device)
        good = torch.tensor(weights, device=logprobs.device) > 0
        return torch.stack(
            [
                logprobs[(group == i) & good].logsumexp(0) - logprobs[(group == i) & ~good].logsumexp(0)
                for i in range(max(groups) + 1)
            ]
        )

    return objective


def weighted_sum(groups: Sequence[int], weights: Sequence[float]) -> Callable[[torch.Tensor], torch.Tensor]:
    """The objective sum_j w_j log pi(y_j) of each example, from `(N,)` log-probabilities to `(n,)`."""

    def objective(logprobs: torch.Tensor) -> torch.Tensor:
        weight = torch.tensor(weights, dtype=logprobs.dtype, device=logprobs.device)
        group = torch.tensor(groups, device=logprobs.device)
        return torch.zeros(max(groups) + 1, dtype=logprobs.dtype, device=logprobs.device).index_add(
            0, group, weight * logprobs
        )

    return objective


OBJECTIVES = {"log-odds": log_odds, "score-function": weighted_sum}


def leave_one_out(groups: Sequence[str], trust: Sequence[float]) -> list[float]:
    """Trust minus its baseline, over the samples of the item: the weights of the score function.

    Args:
        groups: the item of each sample.
        trust: in [0, 1], no NaN.

    Returns:
        One weight a sample. All 0 where every sample has the same trust, or there is one sample in all.
    """
    total, count = sum(trust), len(trust)
    by_item: dict[str, list[float]] = {}
    for group, value in zip(groups, trust, strict=True):
        by_item.setdefault(group, []).append(value)
    weights = []
    for group, value in zip(groups, trust, strict=True):
        mine = by_item[group]
        alone = len(mine) == 1
        others, n = (total - value, count - 1) if alone else (sum(mine) - value, len(mine) - 1)
        weights.append((value - others / n) / len(mine) if n else 0.0)
    return weights


def _log_odds(items: Mapping[str, Any], options: Sequence[Mapping[str, Any]], tokenizer: Any, format: str) -> Query:
    rows: dict[str, list[tuple[Encoded, float]]] = {}
    for option in options:
        prompt = prompt_from_json(items[option["item_id"]]["prompt_json"])
        row = encode(tokenizer, prompt, option["text"], format, eos=False)
        rows.setdefault(option["item_id"], []).append((row, 1.0 if option["good"] else -1.0))
    both = {i: parts for i, parts in rows.items() if len({weight for _, weight in parts}) == 2}
    found = tuple(QueryItem(i, tuple(r for r, _ in parts), tuple(w for _, w in parts)) for i, parts in both.items())
    return Query("log-odds", found, len(found), 1.0, "" if found else "no item has a good and a bad option")


def _score_function(samples: Sequence[Mapping[str, Any]], tokenizer: Any, format: str, temperature: float) -> Query:
    valid = [s for s in samples if s["trust"] is not None and not math.isnan(s["trust"]) and s["response_ids"]]
    weights = leave_one_out([s["item_id"] for s in valid], [s["trust"] for s in valid])
    parts: dict[str, list[tuple[Encoded, float]]] = {}
    for sample, weight in zip(valid, weights, strict=True):
        if weight != 0:
            prompt_ids = tokenizer(sample["prompt"], add_special_tokens=format == "raw")["input_ids"]
            row = Encoded(tuple(prompt_ids), tuple(sample["response_ids"]), False)
            parts.setdefault(sample["item_id"], []).append((row, weight))
    found = tuple(QueryItem(i, tuple(r for r, _ in p), tuple(w for _, w in p)) for i, p in parts.items())
    note = "" if found else f"every one of {len(valid)} judged samples has the same trust, so there is no direction"
    return Query("score-function", found, len({s["item_id"] for s in valid}), temperature, note)
