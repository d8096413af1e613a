"""One measure of one vertical at two stages, of two checkpoints or of several seeds: what can be said of its change."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from preftrace.errors import DataError
from preftrace.evaluate import rates, seeds, statistics
from preftrace.evaluate.comparison import TRUST, CompareConfig, Comparison
from preftrace.evaluate.layout import Ways, concatenate, estimate, freedom, ways
from preftrace.evaluate.pairing import Evaluation, Paired, join, paired
from preftrace.evaluate.statistics import Estimate, Floats, Part


class Cell(NamedTuple):
    """A row whose p is not adjusted yet, and what its minimum detectable effect needs.

    Attributes:
        row: the comparison so far.
        parts: standard errors that the difference's is made of; none where it cannot be told.
        groups: clusters that limit what can be said.
        bounded: whether all values lie within [0, 1].
    """

    row: Comparison
    parts: tuple[Part, ...]
    groups: int
    bounded: bool


class Place(NamedTuple):
    """Which vertical at which two stages."""

    vertical: str
    a: str
    b: str


def cells(place: Place, replicates: Sequence[tuple[Evaluation, Evaluation]], config: CompareConfig) -> list[Cell]:
    """The claim first, then the vertical's other measures.

    Args:
        place: what is compared.
        replicates: before and after, once for each seed.
        config: how.

    Raises:
        DataError: they cannot be compared, or have no value of the claim in common.
    """
    wheres = [_where(place, left, right) for left, right in replicates]
    joined = [join(*pair, where) for pair, where in zip(replicates, wheres, strict=True)]
    if len(replicates) > 1:
        seeds.check_distinct([(left.record, right.record) for left, right in replicates])
    evaluations = [evaluation for pair in replicates for evaluation in pair]
    claim = str(evaluations[0].record.summary.get("claim", TRUST))
    measures = _measures(claim, evaluations, wheres[0])
    found = []
    for measure, better in measures.items():
        if any(measure not in e.items.column_names for e in evaluations):
            continue
        values = [paired(a.items, b.items, on, measure) for (a, b), on in zip(replicates, joined, strict=True)]
        for one, where in zip(values, wheres, strict=True):
            if len(one.a) == 0 and measure == claim:
                raise DataError(f"{where} have no item with a {claim} score in common ({one.missing} missing).")
        if all(len(one.a) for one in values):
            found.append(_cell(_Key(*place, measure, better), values, measure == claim, config))
    return found


def _measures(claim: str, evaluations: Sequence[Evaluation], where: str) -> dict[str, Literal["higher", "lower"]]:
    """The claim, then the other measures, with their better direction."""
    lacking = [e.record.folder for e in evaluations if claim not in e.items.column_names]
    if lacking:
        raise DataError(f"{where}: {lacking[0]} has no {claim}, which the comparison is about. Measure both alike.")
    found: dict[str, Literal["higher", "lower"]] = {}
    for name, metric in [pair for e in evaluations for pair in e.record.summary["metrics"].items()]:
        if found.setdefault(name, metric["better"]) != metric["better"]:
            raise DataError(
                f"{where} do not agree on which direction of {name} is better. Keep the results_*.json of lm-eval "
                "beside both logs."
            )
    return {claim: found.pop(claim, "higher"), **found}


def _where(place: Place, left: Evaluation, right: Evaluation) -> str:
    return f"{place.vertical}: {place.a} ({left.record.folder}) and {place.b} ({right.record.folder})"


class _Key(NamedTuple):
    vertical: str
    a: str
    b: str
    measure: str
    better: Literal["higher", "lower"]

    def generator(self, seed: int) -> np.random.Generator:
        """Each cell draws on its own, so that a further vertical or stage changes no other cell."""
        return np.random.default_rng([seed, zlib.crc32("\x1f".join(self[:4]).encode("utf-8", "surrogatepass"))])


class _Found(NamedTuple):
    estimate: Estimate
    test: Literal["bootstrap", "mcnemar", "two-way", "seeds"]
    parts: tuple[Part, ...]
    seed_sd: float | None = None


def _cell(key: _Key, values: Sequence[Paired], claim: bool, config: CompareConfig) -> Cell:
    both = np.concatenate([side for one in values for side in (one.a, one.b)])
    bounded = bool(np.all((both >= 0) & (both <= 1)))
    by = ways(concatenate([one.layout for one in values]))
    if len(values) > 1:
        over = seeds.over_seeds([one.b - one.a for one in values], by, config.level)
        found = _Found(over.estimate, "seeds", over.parts, over.spread)
    else:
        found = _within(values[0], by, bounded, key.generator(config.seed), config)
    first, second = by.counts
    row = Comparison(
        **key._asdict(),
        n_items=max(len(one.a) for one in values),
        n_clusters=first,
        n_crossed=second,
        n_missing=sum(one.missing for one in values),
        mean_a=float(np.mean([one.a.mean() for one in values])),
        mean_b=float(np.mean([one.b.mean() for one in values])),
        difference=found.estimate.difference,
        low=max(found.estimate.low, -1.0) if bounded else found.estimate.low,
        high=min(found.estimate.high, 1.0) if bounded else found.estimate.high,
        p=found.estimate.p,
        p_adjusted=math.nan,
        test=found.test,
        mde=math.nan,
        verdict="no change found",
        claim=claim,
        n_seeds=len(values),
        seed_sd=found.seed_sd,
    )
    return Cell(row, found.parts, by.fewest, bounded)


def _within(values: Paired, by: Ways, bounded: bool, generator: np.random.Generator, config: CompareConfig) -> _Found:
    """Two checkpoints on items like these."""
    change = values.b - values.a
    groups = by.fewest
    if not by.second and groups == len(change) > 1 and _binary(values.a) and _binary(values.b):
        exact = rates.mcnemar(_table(values), config.level)
        found = _Found(exact, "mcnemar", (Part(exact.error, groups - 1),))
    else:
        drawn = estimate(change, by, generator, config.resamples, config.level)
        found = _Found(drawn, "two-way" if by.second else "bootstrap", (Part(drawn.error, freedom(change, by)),))
    if bounded and not np.any(change) and groups > 1:
        bound = statistics.no_change_bound(groups, config.level)
        return found._replace(estimate=found.estimate._replace(low=-bound, high=bound))
    return found


def _binary(values: Floats) -> bool:
    return bool(np.all((values == 0) | (values == 1)))


def _table(values: Paired) -> rates.Table:
    kinds = ((1, 1), (0, 1), (1, 0), (0, 0))
    return rates.Table(*(int(np.count_nonzero((values.a == a) & (values.b == b))) for a, b in kinds))
