"""What a comparison says, one row for each measure of each vertical at two stages, and its settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from preftrace.config import Config

TRUST = "trust"


class CompareConfig(Config):
    """How two stages are compared."""

    resamples: int = Field(10_000, ge=100, description="bootstrap resamples of the clusters")
    level: float = Field(0.95, gt=0, lt=1, description="coverage of the intervals")
    alpha: float = Field(0.05, gt=0, lt=1, description="an adjusted p value up to this is a change")
    power: float = Field(0.8, gt=0, lt=1, description="power at which the minimum detectable effect is stated")
    seed: int = Field(0, ge=0, description="seed of the resampling")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One measure of one vertical at two stages.

    Attributes:
        vertical: which vertical.
        a: the stage before.
        b: the stage after.
        measure: `trust`, or the name of one of the vertical's metrics.
        better: which direction of the measure is the trustworthy one.
        n_items: items with a value at both stages; items of one unit count once.
        n_clusters: clusters they are in.
        n_missing: items that lack a value at one stage or at both.
        mean_a: mean over the `n_items` at stage a.
        mean_b: the same at stage b.
        difference: mean_b - mean_a.
        low: lower end of the interval of the difference; NaN where it cannot be told.
        high: its upper end.
        p: two-sided, not adjusted; NaN where it cannot be told.
        p_adjusted: Holm over the claims, Benjamini-Hochberg within a vertical's other measures.
        test: where p comes from.
        mde: minimum detectable effect at the level alpha / (number of rows adjusted together); infinite where no
            change of any size could have been found, NaN where it cannot be told.
        verdict: in the direction of trust.
        claim: whether this is the vertical's headline, or one of its other measures.
        n_crossed: second clusters, where items are crossed two ways; else 0.
        n_seeds: times that both stages were trained, each with a seed of its own. With 1 the interval and p are about
            these two checkpoints on items like these; with more, about the two methods.
        seed_sd: standard deviation of the difference over the seeds; None with one.
    """

    vertical: str
    a: str
    b: str
    measure: str
    better: Literal["higher", "lower"]
    n_items: int
    n_clusters: int
    n_missing: int
    mean_a: float
    mean_b: float
    difference: float
    low: float
    high: float
    p: float
    p_adjusted: float
    test: Literal["bootstrap", "mcnemar", "two-way", "seeds"]
    mde: float
    verdict: Literal["better", "worse", "no change found"]
    claim: bool
    n_crossed: int = 0
    n_seeds: int = 1
    seed_sd: float | None = None
