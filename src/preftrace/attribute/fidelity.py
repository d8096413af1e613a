"""Fidelity: do scores predict what training on other pairs would have made? Pure maths on arrays.

Linear datamodeling score (Park et al. 2023, arXiv 2303.14186, section 2.3; the linear datamodels are Ilyas et al.'s,
arXiv 2202.00622). A stage is trained again on m random subsets S of its n pairs. Scores s_vk predict

    M_v(S) ~ constant + (1/n) sum_{k in S} s_vk

so more weight on a pair with a score above 0 raises M. LDS is Spearman's rank correlation over the subsets between
that sum and the query at the model trained on S: 1 for scores that order all subsets rightly, 0 for chance. All subsets
have the same size, so what their common number of steps does to M is in the constant.

Leave-group-out: the k pairs of the highest (or lowest) score are left out, against random groups of k pairs with the
same lengths. Predicted change: -(1/n) sum over the group of s_vk.

Letters: n pairs, m subsets, V verticals, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

LEVEL = 0.95
BINS = 4
"""Random groups have as many pairs from each quarter of the lengths as the group that they are held against."""


def subsets(pairs: int, count: int, fraction: float, seed: int) -> np.ndarray:
    """Which pairs are in each of `count` random subsets, `(count, pairs)` bool; each holds round(fraction x pairs).

    More subsets of the same seed begin with the same ones.
    """
    size = min(max(round(fraction * pairs), 1), pairs)
    members = np.zeros((count, pairs), dtype=bool)
    for number, row in enumerate(members):
        row[np.random.default_rng([seed, number]).permutation(pairs)[:size]] = True
    return members


def predictions(members: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """`(m, V)` (1/n) sum_{k in S} s_vk from members `(m, n)` and scores `(n, V)`.

    A pair without a score counts as 0; a vertical without any is NaN.
    """
    found: np.ndarray = members.astype(float) @ np.nan_to_num(scores) / members.shape[1]
    found[:, np.isnan(scores).all(0)] = np.nan
    return found


def rank_correlation(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Spearman's correlation along the last axis, ties at their mean rank; NaN where a side is NaN or all alike."""
    from scipy.stats import rankdata

    unknown = np.isnan(x).any(-1) | np.isnan(y).any(-1)
    a, b = (rankdata(np.nan_to_num(side), axis=-1) for side in (x, y))
    a, b = (side - side.mean(-1, keepdims=True) for side in (a, b))
    size = np.sqrt((a**2).sum(-1) * (b**2).sum(-1))
    found = np.divide((a * b).sum(-1), size, out=np.full(size.shape, np.nan), where=size > 0)
    found[unknown] = np.nan
    return np.asarray(found)


class Agreement(NamedTuple):
    """LDS of one method. The last of the V + 1 columns is the mean over the verticals that have one.

    Attributes:
        value: `(V + 1,)` in [-1, 1], NaN where there is none.
        resampled: `(R, V + 1)` the same with the subsets drawn again with replacement.
    """

    value: np.ndarray
    resampled: np.ndarray

    @property
    def verticals(self) -> int:
        """How many verticals the mean is over."""
        return int((~np.isnan(self.value[:-1])).sum())

    def interval(self, column: int) -> tuple[float, float]:
        """The 95% percentile interval of a column."""
        return percentile_interval(self.resampled[:, column])


def agreement(predicted: np.ndarray, actual: np.ndarray, draws: np.ndarray) -> Agreement:
    """LDS of predictions `(m, V)` of the queries `(m, V)`.

    Args:
        predicted: by `predictions`.
        actual: M_v at the models that were trained on the subsets.
        draws: `(R, m)` numbers of subsets, from `resample`; the same for methods that are to be compared.
    """
    plain = rank_correlation(predicted.T, actual.T)
    again = np.stack([rank_correlation(predicted[draws, v], actual[draws, v]) for v in range(actual.shape[1])], 1)
    # A vertical whose plain value is missing takes no part in any resample's mean.
    again[:, np.isnan(plain)] = np.nan
    return Agreement(np.append(plain, _mean(plain[None])), np.concatenate([again, _mean(again)[:, None]], 1))


def resample(count: int, resamples: int, seed: int) -> np.ndarray:
    """`(resamples, count)` numbers in [0, count): each row draws `count` subsets with replacement."""
    return np.random.default_rng(seed).integers(0, count, (resamples, count))


def percentile_interval(values: np.ndarray) -> tuple[float, float]:
    """Ends of the 95% percentile interval of resampled values; NaN where none is known."""
    known = values[~np.isnan(values)]
    if not len(known):
        return math.nan, math.nan
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _mean(values: np.ndarray) -> np.ndarray:
    known = ~np.isnan(values)
    total = np.where(known, values, 0.0).sum(-1)
    mean: np.ndarray = np.divide(total, known.sum(-1), out=np.full(len(values), np.nan), where=known.any(-1))
    return mean


class Contest(NamedTuple):
    """The best influence method against the best baseline, by the mean LDS over the verticals.

    Attributes:
        method: the best influence method.
        baseline: the best baseline.
        difference: LDS of the method - LDS of the baseline.
        low: lower end of the difference's 95% interval, from the same resampled subsets.
        high: its upper end.
    """

    method: str
    baseline: str
    difference: float
    low: float
    high: float

    def words(self) -> str:
        """One sentence that says who is ahead, and whether that is clear."""
        by = f"difference of LDS {self.difference:+.3f} ({self.low:+.3f} to {self.high:+.3f})"
        if not self.difference > 0:
            return f"No influence method beats the best baseline: {self.method} against {self.baseline}, {by}."
        if self.low > 0:
            return f"{self.method} beats every baseline; against {self.baseline}, the best of them: {by}."
        return f"{self.method} is ahead of {self.baseline}, the best baseline, but not clearly: {by}."


def contest(found: Mapping[str, Agreement], baselines: Sequence[str]) -> Contest | None:
    """Hold the best method against the best baseline; None where one side has no LDS.

    Only those with an LDS for as many verticals as any has take part: means over fewer verticals are of another thing.
    The best of several is picked by its value, so that its lead is a little too large.
    """
    most = max((a.verticals for a in found.values()), default=0)
    whole = {name: a for name, a in found.items() if a.verticals == most and not np.isnan(a.value[-1])}
    sides = [[name for name in whole if (name in baselines) == side] for side in (False, True)]
    if not all(sides):
        return None
    method, baseline = (max(names, key=lambda name: float(whole[name].value[-1])) for names in sides)
    a, b = whole[method], whole[baseline]
    low, high = percentile_interval(a.resampled[:, -1] - b.resampled[:, -1])
    return Contest(method, baseline, float(a.value[-1] - b.value[-1]), low, high)


def extreme(scores: np.ndarray, count: int, harmful: bool) -> np.ndarray:
    """Positions, in order, of the `count` pairs with the lowest (harmful) or highest of the scores `(n,)`.

    Pairs without a score are never among them; ties go to the earlier pair.
    """
    known = np.flatnonzero(~np.isnan(scores))
    order = np.argsort(scores[known] if harmful else -scores[known], kind="stable")
    return np.sort(known[order[:count]])


def matched(lengths: np.ndarray, group: np.ndarray, draws: int, seed: Sequence[int]) -> list[np.ndarray]:
    """Random groups with as many pairs from each quarter of the lengths as `group` has.

    Args:
        lengths: `(n,)` tokens of the pairs.
        group: positions of its pairs.
        draws: how many groups.
        seed: whole numbers, one or more.

    Returns:
        Positions of each group's pairs, in order. They are drawn from all pairs, those of `group` too.
    """
    quarter = np.argsort(np.argsort(lengths, kind="stable"), kind="stable") * BINS // len(lengths)
    found = []
    for number in range(draws):
        draw = np.random.default_rng([*seed, number])
        parts = [
            draw.choice(np.flatnonzero(quarter == b), (quarter[group] == b).sum(), replace=False) for b in range(BINS)
        ]
        found.append(np.sort(np.concatenate(parts)))
    return found


class Spread(NamedTuple):
    """What leaving out random groups does to a query: mean, and the 95% interval that one more group would lie in."""

    mean: float
    low: float
    high: float

    def outside(self, change: float) -> bool:
        """Whether a change is none that a random group would make."""
        return not self.low <= change <= self.high


def prediction_interval(changes: np.ndarray) -> Spread:
    """Mean of r changes and mean -+ t[r - 1] sd sqrt(1 + 1/r): Student's interval for one more of them."""
    from scipy import stats

    r, mean = len(changes), float(np.mean(changes))
    half = float(stats.t.ppf((1 + LEVEL) / 2, r - 1) * np.std(changes, ddof=1) * math.sqrt(1 + 1 / r))
    return Spread(mean, mean - half, mean + half)
