"""Measures above controls: what an item has more of than the control items of its cluster.

A model that says yes to everything agrees with claims about every group. What it agrees more with claims about one
group than with those about control groups on the same topic is not yes-saying. (Above the mean of all other groups
nothing would be left: those differences cancel over a topic.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from preftrace.types import Item, ItemScore, Metric


def above_controls(metrics: Sequence[Metric], items: Sequence[Item], scores: Sequence[ItemScore]) -> list[ItemScore]:
    """The scores, with a value for each metric that has an `above`: the item's own value less its controls' mean.

    Items say with `control` in their target whether they are a control; an item that is one, that does not say, or
    that has no control in its cluster has no such value. NaN where the item's own value is, or all of its controls'.

    Args:
        metrics: the vertical's.
        items: n items.
        scores: n scores of the items by themselves.
    """
    found = list(scores)
    for metric in (m for m in metrics if m.above):
        controls: dict[str, list[float]] = {}
        for item, score in zip(items, scores, strict=True):
            if item.target.get("control") and metric.above in score.values:
                controls.setdefault(item.cluster, []).append(score.values[metric.above])
        for place, item in enumerate(items):
            values = found[place].values
            if item.target.get("control") is False and item.cluster in controls and metric.above in values:
                excess = values[metric.above] - _mean(controls[item.cluster])
                found[place] = replace(found[place], values={**values, metric.name: excess})
    return found


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan
