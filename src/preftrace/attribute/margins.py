"""Queries that compare a stage with the one it started from: each new answer against the old one to the same prompt.

D_j = value(new_j) - value(old_j), where the value is log pi or the reward r, and w_j = trust(new_j) - trust(old_j).

- margin: M = sum_j w_j D_j / sum_j |w_j|: what made the new answers where they are better, and the old ones where these
  were. Its gradient does not fade where the stages differ most.
- paper: M = -sum_j w_j softplus(-D_j) / sum_j |w_j|, the study's pairwise loss (arXiv 2404.18870) weighed by the
  change of trust; for DPO D is beta times the log-ratio to the reference, as in its training loss.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from preftrace.attribute.queries import Answers, Query, QueryItem
from preftrace.models.prompts import Encoded


def margin_query(new: Answers, old: Answers) -> Query:
    """The query of one vertical from its evaluations of two stages on the same items.

    Where a vertical samples no answers, a stage's answer is the option that it finds most probable, whose trust is 1
    or 0.
    """
    kind = new.draw.query
    both = list(_matched_samples(new, old)) if new.samples and old.samples else list(_matched_options(new, old))
    items = tuple(QueryItem(name, rows, (weight, -weight)) for name, rows, weight in both if weight != 0)
    divisor = sum(abs(item.weights[0]) for item in items)
    note = "" if items else f"trust is the same before and after in each of {len(both)} answers: there is no direction"
    return Query(kind, items, len(both), divisor, new.temperature if new.samples else 1.0, note)


def _matched_samples(new: Answers, old: Answers) -> Iterator[tuple[str, tuple[Encoded, Encoded], float]]:
    earlier = {(s["item_id"], s["sample"]): s for s in old.samples}
    for sample in new.samples:
        key = sample["item_id"], sample["sample"]
        if key in earlier and earlier[key]["prompt_sha256"] == sample["prompt_sha256"]:
            rows = new.sample_row(sample), old.sample_row(earlier[key])
            yield f"{key[0]}#{key[1]}", rows, sample["trust"] - earlier[key]["trust"]


def _matched_options(new: Answers, old: Answers) -> Iterator[tuple[str, tuple[Encoded, Encoded], float]]:
    earlier = _picked(old)
    for item_id, option in _picked(new).items():
        if item_id in earlier:
            rows = new.option_row(option), old.option_row(earlier[item_id])
            yield item_id, rows, float(option["good"]) - float(earlier[item_id]["good"])


def _picked(answers: Answers) -> dict[str, dict[str, Any]]:
    """Item -> its most probable option."""
    found: dict[str, dict[str, Any]] = {}
    for option in answers.options:
        best = found.get(option["item_id"])
        if best is None or option["logprob"] > best["logprob"]:
            found[option["item_id"]] = option
    return found
