"""How many items for how small an effect, before anything is run, and how small an effect with so many items.

A comparison's minimum detectable effect is (t[1 - alpha/2] + t[power]) se (`statistics.minimum_detectable`). Ahead of a
run se comes from what is assumed or was measured: for G clusters of m items, differences of standard deviation s and a
correlation r of items of one cluster,

    se^2 = s^2 (1 + (m - 1) r) / (G m)        (Kish, Survey Sampling, 1965: the design effect)

0/1 items on their own are judged by McNemar's exact test, whose power is summed over all tables: it depends on the
discordance, the share of items that change either way, which bounds the effect.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, ValidationError, model_validator

from preftrace.config import Config, faults
from preftrace.errors import ConfigError, DataError
from preftrace.evaluate.comparison import TRUST
from preftrace.evaluate.layout import standard_error, ways
from preftrace.evaluate.pairing import Evaluation, find_evaluations, join, paired, read_evaluations
from preftrace.evaluate.statistics import Part, minimum_detectable

MOST = 10**7
"""More items than this are not planned for."""


class PlanConfig(Config):
    """What is asked of a comparison, and what its differences are like."""

    effect: float = Field(0.05, gt=0, description="true difference that is to be found, in the measure's unit")
    alpha: float = Field(0.05, gt=0, lt=1, description="level of the verdicts")
    power: float = Field(0.8, gt=0, lt=1, description="probability of finding the effect")
    tests: int = Field(1, ge=1, description="claims adjusted together: verticals x stage pairs")
    sd: float = Field(0.4, gt=0, description="standard deviation of the items' differences (b - a)")
    discordance: float | None = Field(
        None, gt=0, le=1, description="0/1 items: share that changes either way; in place of sd"
    )
    cluster_size: float = Field(1.0, ge=1, description="items in a cluster")
    correlation: float = Field(0.0, ge=0, le=1, description="correlation of the differences of items of one cluster")
    items: int | None = Field(None, ge=2, description="items that there are: what effect can they show?")
    seed_sd: float | None = Field(
        None, gt=0, description="standard deviation of the mean difference over training seeds: how many seeds?"
    )

    @model_validator(mode="after")
    def _effect_is_possible(self) -> PlanConfig:
        if self.discordance is not None and self.effect > self.discordance:
            raise ValueError(f"effect {self.effect} is more than discordance {self.discordance}: no more can change")
        return self

    @property
    def level(self) -> float:
        """The level of Holm's hardest step."""
        return self.alpha / self.tests


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What it takes to find the effect.

    Attributes:
        items: items needed; None where 10 million would not do.
        clusters: clusters that they are in.
        seeds: training seeds needed for a claim about the method, with `PlanConfig.items` items or endless ones; None
            where it was not asked, or no number of seeds would do with so few items.
        detectable: smallest effect that `PlanConfig.items` items show; None where they were not said.
        sd: standard deviation of the differences that was planned with.
        design_effect: how many times more items it takes than without clusters.
        test: the test that was planned for.
    """

    items: int | None
    clusters: int | None
    seeds: int | None
    detectable: float | None
    sd: float
    design_effect: float
    test: str


def plan(
    a: Path | str | None = None, b: Path | str | None = None, **options: Any
) -> dict[str, tuple[PlanConfig, Plan]]:
    """How many items, or seeds, a comparison needs for how small an effect.

    Args:
        a: evaluations before, as for `compare`, to measure the differences on; without them they are assumed.
        b: evaluations after.
        options: fields of `PlanConfig`, such as `effect`, `items`, `sd` and `discordance`.

    Returns:
        Vertical (`assumed` where nothing was measured) -> the settings planned with, and the plan.

    Raises:
        ConfigError: unknown or bad settings, or one evaluation alone.
        DataError: evaluations that cannot be compared.
    """
    try:
        config = PlanConfig(**options)
    except ValidationError as error:
        raise ConfigError(list(map(str, faults(error, PlanConfig)))) from error
    if (a is None) != (b is None):
        raise ConfigError(["name two evaluations to measure on, before and after, or none"])
    if a is None or b is None:
        return {"assumed": (config, plan_for(config))}
    found = read_evaluations({"a": find_evaluations(Path(a)), "b": find_evaluations(Path(b))})
    return measured_plans(found["a"], found["b"], config)


def plan_for(config: PlanConfig) -> Plan:
    """What it takes to find an effect, by the settings' assumptions."""
    design = 1 + (config.cluster_size - 1) * config.correlation
    exact = config.discordance is not None and design == 1
    sd = config.sd if config.discordance is None else math.sqrt(config.discordance - config.effect**2)
    by_cluster = sd * math.sqrt(design / config.cluster_size)

    def part(clusters: int) -> Part:
        return Part(by_cluster / math.sqrt(clusters), clusters - 1)

    def enough(clusters: int) -> bool:
        if exact:
            return mcnemar_power(clusters, config.discordance or 0.0, config.effect, config.level) >= config.power
        return minimum_detectable([part(clusters)], config.level, config.power) <= config.effect

    clusters = smallest(enough)
    size = 1.0 if exact else config.cluster_size
    own = None if config.items is None else max(2, round(config.items / size))
    return Plan(
        items=None if clusters is None else math.ceil(clusters * size),
        clusters=clusters,
        seeds=None if config.seed_sd is None else _seeds(config, [] if own is None else [part(own)]),
        detectable=None if own is None else _detectable(config, part(own), own, exact),
        sd=sd,
        design_effect=design,
        test="exact McNemar" if exact else "clustered t",
    )


def smallest(enough: Callable[[int], bool], most: int = MOST) -> int | None:
    """Smallest n >= 2 from which doubling and halving finds `enough`; None beyond `most`.

    An exact test's power is a saw: the n found has it, and n - 1 has not, but some smaller n may have it by luck.
    """
    low, high = 1, 2
    while not enough(high):
        low, high = high, 2 * high
        if high > most:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def mcnemar_power(n: int, discordance: float, effect: float, alpha: float) -> float:
    """Probability that McNemar's exact test finds a change of a rate by `effect` among n 0/1 items.

    Summed over the number of discordant items D ~ Binomial(n, discordance); of these (1 + effect / discordance) / 2 go
    up.
    """
    from scipy import stats

    spread = 8 * math.sqrt(n * discordance * (1 - discordance)) + 8
    least, most = max(0, math.floor(n * discordance - spread)), min(n, math.ceil(n * discordance + spread))
    changed = np.arange(least, most + 1)
    edge = stats.binom.ppf(alpha / 2, changed, 0.5)
    edge = np.where(2 * stats.binom.cdf(edge, changed, 0.5) > alpha, edge - 1, edge)
    up = (1 + effect / discordance) / 2
    found = stats.binom.cdf(edge, changed, up) + stats.binom.sf(changed - edge - 1, changed, up)
    return float(np.sum(stats.binom.pmf(changed, n, discordance) * np.where(edge < 0, 0.0, found)))


def _detectable(config: PlanConfig, part: Part, clusters: int, exact: bool) -> float | None:
    if not exact:
        return minimum_detectable([part], config.level, config.power)
    low, high = 0.0, config.discordance or 0.0
    if mcnemar_power(clusters, high, high, config.level) < config.power:
        return math.inf
    for _ in range(40):
        middle = (low + high) / 2
        found = mcnemar_power(clusters, config.discordance or 0.0, middle, config.level) >= config.power
        low, high = (low, middle) if found else (middle, high)
    return high


def _seeds(config: PlanConfig, items: list[Part]) -> int | None:
    spread = config.seed_sd or 0.0

    def enough(seeds: int) -> bool:
        parts = [Part(spread / math.sqrt(seeds), seeds - 1), *items]
        return minimum_detectable(parts, config.level, config.power) <= config.effect

    return smallest(enough, 10_000)


def measured(a: Evaluation, b: Evaluation, config: PlanConfig, where: str) -> PlanConfig:
    """The settings with what two finished evaluations of the claim showed in place of what was assumed.

    Two-way clusters count by the way that has fewer, as if the items grew with it.

    Raises:
        DataError: they cannot be compared, or show no spread to plan with.
    """
    claim = str(a.record.summary.get("claim", TRUST))
    values = paired(a.items, b.items, join(a, b, where), claim)
    change, by = values.b - values.a, ways(values.layout)
    if len(change) < 2 or by.fewest < 2 or not np.any(change != change[0]):
        raise DataError(f"{where}: {len(change)} items that change alike, or one cluster: no spread to plan with.")
    sd, size = float(change.std(ddof=1)), len(change) / by.fewest
    design = standard_error(change, by) ** 2 * len(change) / sd**2
    found: dict[str, Any] = {"sd": sd, "cluster_size": size, "correlation": 0.0, "discordance": None}
    found["items"] = config.items or len(change)
    if size > 1:
        found["correlation"] = min(max((design - 1) / (size - 1), 0.0), 1.0)
    binary = all(np.all((side == 0) | (side == 1)) for side in (values.a, values.b))
    share = float(np.mean(change != 0))
    if binary and size == 1:
        found["discordance"] = max(share, config.effect) if config.effect <= 1 else None
    return config.model_copy(update=found)


def measured_plans(
    before: Mapping[str, Evaluation], after: Mapping[str, Evaluation], config: PlanConfig
) -> dict[str, tuple[PlanConfig, Plan]]:
    """For every vertical that both have: what was measured, and what it takes to find the effect.

    Raises:
        DataError: no vertical in common, or a vertical that cannot be planned with.
    """
    shared = [vertical for vertical in before if vertical in after]
    if not shared:
        raise DataError("nothing to plan with: the two have no vertical in common.")
    found = {}
    for vertical in shared:
        settings = measured(before[vertical], after[vertical], config, vertical)
        found[vertical] = (settings, plan_for(settings))
    return found
