"""Comparisons in words."""

from __future__ import annotations

import math

from preftrace.report.html import interval, known, number, p_value, stage_name
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
    test = "exact McNemar test" if row["test"] == "mcnemar" else "cluster bootstrap"
    return f"adjusted p {p_value(row['p_adjusted'])}, {test}"
