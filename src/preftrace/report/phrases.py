"""Comparisons in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from preftrace.report.calibration import Calibration
from preftrace.report.html import interval, known, number, p_value, plural, significant, stage_name
from preftrace.report.view import Row

CLASSES = {"better": "better", "worse": "worse", "no change found": "same"}


def change(row: Row) -> str:
    """What happened to a measure, such as `trust fell by 0.12 (95% interval 0.04 to 0.20)`."""
    name = "trust" if row["measure"] == "trust" else row["measure"].replace("_", " ")
    difference = row["difference"]
    if difference == 0:
        bounds = f" (95% interval of the change {interval(row['low'], row['high'])})" if known(row["low"]) else ""
        return f"{name} stayed at {number(row['mean_b'])}{bounds}"
    if not known(row["low"]):
        return f"{name} changed by {number(difference, sign=True)} (no interval: too few clusters of items)"
    if row["low"] <= 0 <= row["high"]:
        return f"{name} changed by {number(difference, sign=True)} (95% interval {interval(row['low'], row['high'])})"
    low, high = (row["low"], row["high"]) if difference > 0 else (-row["high"], -row["low"])
    size = f"{number(abs(difference))} (95% interval {interval(low, high)})"
    return f"{name} {'rose' if difference > 0 else 'fell'} by {size}"


TESTS = {
    "bootstrap": "cluster bootstrap",
    "two-way": "Student's t, clustered two ways",
    "mcnemar": "exact McNemar test",
    "seeds": "t test over training seeds",
}


def detectable(row: Row) -> str:
    """What the comparison could have seen."""
    mde = row["mde"]
    if math.isinf(mde) or mde > 1:
        return "there are too few items to have seen a change of any size"
    if math.isnan(mde):
        return "what could have been seen cannot be told"
    return f"a change of {number(mde)} or more would have been seen in 4 of 5 such studies"


def verdict(row: Row) -> str:
    """The verdict, and what could have been seen where it is that no change was found."""
    return row["verdict"] if row["verdict"] != "no change found" else f"no change found; {detectable(row)}"


def between(row: Row) -> str:
    """`DPO against base`."""
    return f"{stage_name(row['b'])} against {stage_name(row['a'])}"


def evidence(row: Row) -> str:
    """Adjusted p and the test it is from."""
    return f"adjusted p {p_value(row['p_adjusted'])}, {TESTS[row['test']]}"


def judged(held: Mapping[str, Any]) -> list[str]:
    """What a reward model's held-out pairs say: its accuracy and its margin, with their intervals."""
    low, high = held["reward_accuracy_interval"]
    chance = "above guessing" if low > 0.5 else "below guessing" if high < 0.5 else "not told apart from guessing"
    accuracy = (
        f"Of {plural(held['n'], 'held-out pair')} it gives the chosen answer the higher reward in "
        f"{number(held['reward_accuracy'])} (95% interval {interval(low, high)}), {chance}."
    )
    bounds = held.get("reward_margin_interval")
    return [accuracy, f"The mean margin is {significant(held['reward_margin'])} ({_bounds(bounds)})."]


def rewarded(held: Mapping[str, Any]) -> list[str]:
    """What held-out prompts say of a stage that learnt from a reward: before, after, and the paired change."""
    change, bounds = held["reward_change"], held.get("reward_change_interval")
    found = "no change found" if not bounds or bounds[0] <= 0 <= bounds[1] else "it rose" if change > 0 else "it fell"
    means = f"{significant(held['reward_before'])} before and {significant(held['reward'])} after"
    by = f"the change is {significant(change)} ({_bounds(bounds)}): {found}"
    size = f"{plural(held['n'], 'held-out prompt')}, {plural(held.get('answers', 1), 'answer')} each"
    return [f"On {size}, the mean reward was {means}; {by}."]


def surety(found: Calibration) -> list[str]:
    """How sure a reward model is, how right, and how far one is from the other."""
    whole, bins = found.whole, found.bins
    words = [
        f"It expects to be right in {number(whole.expected)} of {plural(whole.n, 'pair')} "
        f"and is right in {number(whole.share)}."
    ]
    if len(bins) > 1:
        words.append(f"Expected calibration error {number(found.error)}, over {len(bins)} bins.")
    else:
        words.append("There are too few pairs of different margins for a calibration chart.")
    words.append(f"Log loss {number(found.log_loss)} nats a pair (guessing: {number(math.log(2))}).")
    if found.lost:
        words.append(f"{plural(found.lost, 'pair')} without a reward left out.")
    return words


def _bounds(ends: Any) -> str:
    if not ends or not all(known(end) for end in ends):
        return "no interval: too few"
    return f"95% interval {significant(ends[0])} to {significant(ends[1])}"
