"""Leave-group-out: the pairs that help or harm a vertical most are left out, against random groups of like lengths."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from preftrace.attribute import fidelity
from preftrace.attribute.fidelity_config import FidelityConfig
from preftrace.attribute.fidelity_result import removal_schema
from preftrace.evaluate.statistics import by_cluster, cluster_bootstrap

if TYPE_CHECKING:
    import pyarrow as pa

    from preftrace.study.validate import Measured, Plan

SIDES = ("helpful", "harmful")


class Group(NamedTuple):
    """The pairs at one end of a method's scores of a vertical, and random ones to hold them against.

    Attributes:
        method: a method or a baseline.
        vertical: whose scores these are.
        side: `helpful` or `harmful`.
        left_out: positions of the group's pairs.
        controls: positions of the random groups' pairs.
    """

    method: str
    vertical: str
    side: str
    left_out: np.ndarray
    controls: list[np.ndarray]


def groups(
    scores: Mapping[str, np.ndarray],
    verticals: Sequence[str],
    lengths: np.ndarray,
    count: int,
    config: FidelityConfig,
) -> list[Group]:
    """Both ends of every method's scores of every vertical that has them.

    Args:
        scores: method -> `(n, V)`.
        verticals: names of the columns.
        lengths: `(n,)` tokens of the pairs.
        count: pairs in a group.
        config: how many controls, and the seed.
    """
    found = []
    for method, values in scores.items():
        for column, vertical in enumerate(verticals):
            if np.isfinite(values[:, column]).sum() < count:
                continue
            for side in SIDES:
                group = fidelity.extreme(values[:, column], count, side == "harmful")
                seed = [config.seed, zlib.crc32(f"{method}/{vertical}/{side}".encode())]
                controls = fidelity.matched(lengths, group, config.controls, seed)
                found.append(Group(method, vertical, side, group, controls))
    return found


def removal_table(plan: Plan, measured: Measured) -> pa.Table:
    """What leaving every group out did; columns as in `fidelity_result.removal_schema`."""
    import pyarrow as pa

    measures = sorted({measure for _, measure in measured.parts["all"]})
    rows = [_row(plan, measured, group, measure) for group in plan.groups for measure in measures]
    return pa.Table.from_pylist(rows, schema=removal_schema())


def _row(plan: Plan, measured: Measured, group: Group, measure: str) -> dict[str, Any]:
    column = plan.target.verticals.index(group.vertical)
    base = measured.value("all", group.vertical, measure)
    without = plan.without(group.left_out)
    others = np.array([measured.value(plan.without(c), group.vertical, measure) - base for c in group.controls])
    spread = fidelity.prediction_interval(others)
    change = measured.value(without, group.vertical, measure) - base
    low, high = _interval(plan, measured, without, (group.vertical, measure))
    scored = group.method not in plan.target.influence.summary.get("baselines", ()) and measure == "query"
    effect = -plan.scores[group.method][group.left_out, column].sum() / len(plan.pairs) if scored else np.nan
    return {
        **{"method": group.method, "vertical": group.vertical, "side": group.side, "measure": measure},
        **{"removed": len(group.left_out), "predicted": effect, "change": change, "low": low, "high": high},
        **{"random": spread.mean, "random_low": spread.low, "random_high": spread.high},
        **{"controls": len(group.controls), "outside": spread.outside(change)},
    }


def _interval(plan: Plan, measured: Measured, key: str, place: tuple[str, str]) -> tuple[float, float]:
    """95% interval of the change over the vertical's items, whose clusters are drawn again."""
    before, after = measured.parts["all"].get(place, {}), measured.parts[key].get(place, {})
    items = sorted(before.keys() & after.keys())
    if not items:
        return np.nan, np.nan
    # The measure is the sum of the items' parts, and the bootstrap's the mean over items.
    changes = np.array([(after[item] - before[item]) * len(items) for item in items])
    clusters = [measured.clusters[(*place, item)] for item in items]
    draw = np.random.default_rng(plan.config.seed)
    found = cluster_bootstrap(by_cluster(changes, clusters), draw, plan.config.resamples)
    return found.low, found.high
