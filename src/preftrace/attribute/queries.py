"""Queries: for each vertical a differentiable M_v(theta) in the trust direction, read from a finished evaluation.

Of a policy's own parameters:

- log-odds (verticals whose trust is made of their items' options): M = mean over items of
  log sum_{good} p(option) - log sum_{bad} p(option).
- score-function (verticals whose trust is made of sampled answers):
  grad E_{y ~ pi}[trust(y)] = E[(trust(y) - baseline) grad log pi(y | x)] (Williams 1992, REINFORCE), so
  M = mean over items of (1/k) sum_j (trust_j - baseline_j) log pi(y_j | x), with the weights held fixed. A sample's
  baseline is the mean trust of the item's other samples, or of the other items' samples where the item has one only:
  it never depends on the sample itself, so the estimate stays unbiased. log pi is that of the distribution that was
  sampled, temperature included.

Of the parameters of the reward model r that a policy was trained with, where the optimum of "reward minus
beta KL(pi, pi_ref)" is pi ~ pi_ref exp(r / beta), so that d E[f] = (1 / beta) Cov_{y ~ pi}(f, d r):

- covariance (sampled answers): f is trust, M = mean over items of
  (1 / beta) 1/(k - 1) sum_j (trust_j - mean trust of the item) r(x, y_j). An item with one sample says nothing.
- reward-gap (options): the same of the log-odds, M = mean over items of (1 / beta) (E[r | good] - E[r | bad]),
  where the options are weighed by their probabilities under the policy.

`margins.py` has the queries that compare two stages.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from preftrace import artifacts
from preftrace.models.prompts import Encoded, encode
from preftrace.types import prompt_from_json, text_id


class QueryItem(NamedTuple):
    """One item's part of a query.

    Attributes:
        item_id: the item.
        rows: prompt and answer of every option or sample.
        weights: one for each row; what they mean depends on the kind (see `objectives`).
    """

    item_id: str
    rows: tuple[Encoded, ...]
    weights: tuple[float, ...]


class Draw(NamedTuple):
    """Which query is read from an evaluation.

    Attributes:
        query: as in `AttributeConfig`.
        limit: most items, drawn by hash of seed and item id; None is all.
        seed: the study's.
        beta: of the policy's optimum pi ~ pi_ref exp(r / beta), where the query is of a reward model's parameters;
            None where it is of the policy's own.
        max_length: most tokens of a row, prompts cut from the left; None is no limit.
    """

    query: str
    limit: int | None
    seed: int
    beta: float | None = None
    max_length: int | None = None


class Query(NamedTuple):
    """The query of one vertical.

    Attributes:
        kind: a key of `objectives.OBJECTIVES`.
        items: items with a part in the gradient.
        total: items, or pairs of answers, that were looked at (those whose gradient is zero by construction included).
        divisor: what the sum over the items is divided by: `total`, or the sum of their weights.
        temperature: of the log-probabilities.
        note: why there is no signal, or empty.
    """

    kind: str
    items: tuple[QueryItem, ...]
    total: int
    divisor: float
    temperature: float
    note: str


class Answers:
    """An evaluation's items, options and samples, of the items that are drawn.

    Args:
        folder: an evaluation's folder.
        tokenizer: the model's.
        format: the study's prompt format.
        draw: which items.
    """

    def __init__(self, folder: Path, tokenizer: Any, format: str, draw: Draw) -> None:
        self.tokenizer, self.format, self.draw = tokenizer, format, draw
        self.record = artifacts.read_json(folder / artifacts.RECORD)
        items = artifacts.read_table(folder / "items.parquet").to_pylist()
        order = sorted(items, key=lambda item: text_id(str(draw.seed), item["item_id"]))
        self.items = {item["item_id"]: item for item in (order if draw.limit is None else order[: draw.limit])}
        self.options = self._table(folder / "options.parquet")
        self.samples = [
            s for s in self._table(folder / "generations.parquet") if _known(s["trust"]) and s["response_ids"]
        ]
        # Greedy answers are scored as if drawn at temperature 1: the model's own distribution.
        self.temperature = float(self.record["config"]["options"].get("temperature") or 1.0)

    def _table(self, path: Path) -> list[dict[str, Any]]:
        return [row for row in artifacts.read_table(path).to_pylist() if row["item_id"] in self.items]

    def option_row(self, option: Mapping[str, Any]) -> Encoded:
        """Tokens of an option. A reward is read at the end token, as in training; log-odds are of the option alone."""
        prompt = prompt_from_json(self.items[option["item_id"]]["prompt_json"])
        ended = self.draw.beta is not None
        return encode(self.tokenizer, prompt, option["text"], self.format, self.draw.max_length, eos=ended)

    def sample_row(self, sample: Mapping[str, Any]) -> Encoded:
        """Tokens of a sampled answer, those that were sampled."""
        prompt = self.tokenizer(sample["prompt"], add_special_tokens=self.format == "raw")["input_ids"]
        most = self.draw.max_length
        room = len(prompt) if most is None else max(most - len(sample["response_ids"]), 1)
        return Encoded(tuple(prompt[-room:]), tuple(sample["response_ids"]), room < len(prompt))


def read_query(folder: Path, tokenizer: Any, format: str, draw: Draw, before: Path | None = None) -> Query:
    """The query of a finished evaluation.

    Args:
        folder: an evaluation's folder.
        tokenizer: the model's.
        format: the study's prompt format.
        draw: which form, and which items.
        before: the same evaluation of the stage before, for `margin` and `paper`.
    """
    answers = Answers(folder, tokenizer, format, draw)
    if draw.query in ("margin", "paper"):
        from preftrace.attribute.margins import margin_query

        assert before is not None, "a margin compares two stages"
        return margin_query(answers, Answers(before, tokenizer, format, draw))
    through = draw.beta is not None
    if answers.options and (draw.query == "log-odds" or answers.record["summary"]["trust_from"] == "options"):
        return _reward_gap(answers) if through else _log_odds(answers)
    return _covariance(answers) if through else _score_function(answers)


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
    sums = {group: sum(values) for group, values in by_item.items()}
    weights = []
    for group, value in zip(groups, trust, strict=True):
        k = len(by_item[group])
        others, n = (total - value, count - 1) if k == 1 else (sums[group] - value, k - 1)
        weights.append((value - others / n) / k if n else 0.0)
    return weights


def covariance_weights(groups: Sequence[str], trust: Sequence[float]) -> list[float]:
    """(trust_j - mean trust of the item) / (k - 1), and 0 for an item's only sample.

    The sum over an item's samples of weight x value is the unbiased estimate of Cov(trust, value).
    """
    by_item: dict[str, list[float]] = {}
    for group, value in zip(groups, trust, strict=True):
        by_item.setdefault(group, []).append(value)
    means = {group: sum(values) / len(values) for group, values in by_item.items()}
    return [
        (value - means[group]) / max(len(by_item[group]) - 1, 1) for group, value in zip(groups, trust, strict=True)
    ]


def gap_weights(logprobs: Sequence[float], good: Sequence[bool]) -> list[float]:
    """p(option | good) for the good options and -p(option | bad) for the others, from log-probabilities.

    Returns:
        One weight an option; those above 0 sum to 1, the others to -1.
    """
    weights = [0.0] * len(good)
    for side, sign in ((True, 1.0), (False, -1.0)):
        mine = [i for i, is_good in enumerate(good) if is_good == side]
        top = max(logprobs[i] for i in mine)
        total = sum(math.exp(logprobs[i] - top) for i in mine)
        for i in mine:
            weights[i] = sign * math.exp(logprobs[i] - top) / total
    return weights


def _known(value: float | None) -> bool:
    return value is not None and not math.isnan(value)


def _two_sided(answers: Answers) -> dict[str, list[dict[str, Any]]]:
    """Options by item, of the items that have a good and a bad one."""
    found: dict[str, list[dict[str, Any]]] = {}
    for option in answers.options:
        found.setdefault(option["item_id"], []).append(option)
    return {i: options for i, options in found.items() if len({o["good"] for o in options}) == 2}


def _log_odds(answers: Answers) -> Query:
    found = tuple(
        QueryItem(i, tuple(map(answers.option_row, options)), tuple(1.0 if o["good"] else -1.0 for o in options))
        for i, options in _two_sided(answers).items()
    )
    return Query("log-odds", found, len(found), len(found), 1.0, "" if found else "no item has a good and a bad option")


def _reward_gap(answers: Answers) -> Query:
    assert answers.draw.beta is not None
    found = []
    for i, options in _two_sided(answers).items():
        if all(_known(o["logprob"]) for o in options):
            weights = gap_weights([o["logprob"] for o in options], [o["good"] for o in options])
            scaled = tuple(weight / answers.draw.beta for weight in weights)
            found.append(QueryItem(i, tuple(map(answers.option_row, options)), scaled))
    note = "" if found else "no item has a good and a bad option"
    return Query("reward-gap", tuple(found), len(found), len(found), 1.0, note)


def _score_function(answers: Answers) -> Query:
    samples = answers.samples
    weights = leave_one_out([s["item_id"] for s in samples], [s["trust"] for s in samples])
    found = _weighted(answers, weights)
    note = "" if found else f"every one of {len(samples)} judged samples has the same trust, so there is no direction"
    total = len({s["item_id"] for s in samples})
    return Query("score-function", found, total, total, answers.temperature, note)


def _covariance(answers: Answers) -> Query:
    assert answers.draw.beta is not None
    ids = [s["item_id"] for s in answers.samples]
    several = {i for i in ids if ids.count(i) > 1}
    weights = covariance_weights(ids, [s["trust"] for s in answers.samples])
    found = _weighted(answers, [weight / answers.draw.beta for weight in weights])
    note = "" if found else f"no item of {len(set(ids))} has samples of different trust, so there is no direction"
    return Query("covariance", found, len(several), len(several), 1.0, note)


def _weighted(answers: Answers, weights: Sequence[float]) -> tuple[QueryItem, ...]:
    """The items with a sample whose weight is not 0."""
    parts: dict[str, list[tuple[Encoded, float]]] = {}
    for sample, weight in zip(answers.samples, weights, strict=True):
        if weight != 0:
            parts.setdefault(sample["item_id"], []).append((answers.sample_row(sample), weight))
    return tuple(QueryItem(i, tuple(r for r, _ in p), tuple(w for _, w in p)) for i, p in parts.items())
