"""A stage trained several times, each with a seed of its own: what can be said of the method, not of one checkpoint.

Letters: k seeds; d_s the mean difference of seed s over its items; S^2 their variance; V the (clustered) variance of
the mean over the items, all seeds together; G clusters. The estimate is the mean of d_s. Both the seeds and the items
are draws: another seed would have given another checkpoint, and other items another mean. The interval puts the two
paired t intervals together by their squares (Zou and Donner, Statistics in Medicine 27:1693, 2008):

    half^2 = t[k - 1]^2 S^2 / k + t[G - 1]^2 V

With few seeds S^2 is barely known, and the interval is as wide as that makes it: Student's quantile is 12.7 at k = 2.
One t with Satterthwaite's degrees of freedom is narrower, and held the truth in only 87 to 94% of cases at k = 2 and 3.
The part of S^2 that is the items' own noise is in V too, so that the interval errs on the wide side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from preftrace.errors import DataError
from preftrace.evaluate.layout import Ways, standard_error
from preftrace.evaluate.statistics import Estimate, Floats, Part
from preftrace.types import StageRecord


class OverSeeds(NamedTuple):
    """The mean difference over seeds; `spread` is the standard deviation of d_s, `parts` what its error is made of."""

    estimate: Estimate
    spread: float
    parts: tuple[Part, ...]


def over_seeds(differences: Sequence[Floats], by: Ways, level: float = 0.95) -> OverSeeds:
    """Mean difference over k >= 2 seeds with its interval and two-sided p (the level at which an end is 0).

    Args:
        differences: one (n_s,) array for each seed.
        by: the ways of all items, seed after seed: sum of n_s labels. Items that several seeds share have one label.
        level: coverage of the interval.

    Returns:
        NaN ends and p where the items are one cluster, and NaN ends where nothing varies (p = 1 where nothing changed).
    """
    k = len(differences)
    means = np.array([d.mean() for d in differences])
    difference, spread = float(means.mean()), float(means.std(ddof=1))
    total = sum(len(d) for d in differences)
    # Each seed has the same weight, however many of its items have a value.
    residuals = np.concatenate([(d - m) * total / (k * len(d)) for d, m in zip(differences, means, strict=True)])
    items = standard_error(residuals, by)
    if math.isnan(items):
        return OverSeeds(Estimate(difference, math.nan, math.nan, math.nan, math.nan), spread, ())
    parts = (Part(spread / math.sqrt(k), k - 1), Part(items, by.fewest - 1))
    error = math.hypot(*(part.error for part in parts))
    if error == 0:
        p = 1.0 if difference == 0 else math.nan
        return OverSeeds(Estimate(difference, math.nan, math.nan, p, 0.0), spread, ())
    half = _half(parts, 1 - level)
    return OverSeeds(
        Estimate(difference, difference - half, difference + half, _p(parts, abs(difference)), error), spread, parts
    )


def _half(parts: Sequence[Part], alpha: float) -> float:
    from scipy import special

    return math.hypot(*(float(special.stdtrit(part.freedom, 1 - alpha / 2)) * part.error for part in parts))


def _p(parts: Sequence[Part], distance: float) -> float:
    from scipy import optimize

    least = 1e-12
    if _half(parts, least) <= distance:
        return least
    return float(optimize.brentq(lambda alpha: _half(parts, alpha) - distance, least, 1.0))


def check_distinct(replicates: Sequence[tuple[StageRecord, StageRecord]]) -> None:
    """That the seeds made different checkpoints.

    Raises:
        DataError: two replicates are of the same two checkpoints, so that nothing was drawn anew between them.
    """
    seen: dict[tuple[str, ...], StageRecord] = {}
    for pair in replicates:
        key = tuple(record.inputs.get("model", record.content) for record in pair)
        if key in seen:
            raise DataError(
                f"{seen[key].folder} and {pair[1].folder} are of the same checkpoints: a seed counts once. "
                "Name runs that were trained with different seeds."
            )
        seen[key] = pair[1]
