"""What `preftrace validate` found: whether scores predict training again, by LDS and by leaving groups of pairs out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from preftrace.report import charts, html
from preftrace.report.html import interval, known, number, plural, stage_name
from preftrace.report.view import Row, RunView, pick
from preftrace.types import StageRecord

TITLE = "Do the scores predict training again?"
ORDER = 45
MEAN, ANY, QUERY = "mean", "any", "query"
EXPECTED = {"helpful": -1, "harmful": 1}
"""Side -> which way the query should go without its pairs."""


def contest(summary: Mapping[str, Any]) -> str:
    """Whether the best influence method beats the best baseline by its mean LDS; "" where there are no subsets."""
    found = summary["contest"]
    if not found:
        untold = "Influence is held against no baseline here: one side has no LDS over the same verticals."
        return untold if summary["subsets"] else ""
    bounds = interval(found["low"], found["high"], 3)
    by = f"the difference of LDS is {number(found['difference'], 3, sign=True)} (95% interval {bounds})"
    if not found["difference"] > 0:
        return f"No influence method beats the baselines: {found['method']} against {found['baseline']}, {by}."
    if found["low"] > 0:
        return f"{found['method']} beats every baseline: against {found['baseline']}, the best of them, {by}."
    ahead = f"{found['method']} is ahead of {found['baseline']}, the best baseline, but not clearly"
    return f"{ahead}: {by}. Influence is not shown to beat the baselines."


def told(row: Row) -> str:
    """What an LDS and its interval say."""
    if not all(known(row[key]) for key in ("lds", "low", "high")):
        return "cannot be told"
    if row["low"] > 0:
        return "better than chance"
    return "worse than chance" if row["high"] < 0 else "not told apart from chance"


def left_out(row: Row) -> str:
    """What leaving a group out did, against random groups of like lengths."""
    if not all(known(row[key]) for key in ("change", "random_low", "random_high")):
        return "cannot be told"
    if not row["outside"]:
        return "no more than a random group would do"
    right = (row["change"] - row["random"]) * EXPECTED[row["side"]] > 0
    return "as the scores say, beyond random groups" if right else "the other way, beyond random groups"


def agreements(rows: Sequence[Row]) -> list[tuple[Row, str]]:
    """LDS rows with their words, best first in each vertical and measure, the mean over the verticals first."""
    places = list(dict.fromkeys((row["measure"], row["vertical"]) for row in rows))
    places.sort(key=lambda place: (place[0] != QUERY, place[1] != MEAN))
    found = []
    for measure, vertical in places:
        there = pick(rows, measure=measure, vertical=vertical)
        found += sorted(there, key=lambda row: -row["lds"] if known(row["lds"]) else float("inf"))
    return [(row, told(row)) for row in found]


def groups(rows: Sequence[Row]) -> str:
    """How many of the groups moved the query as the scores say, in a sentence; "" where none was left out."""
    own = [left_out(row) for row in rows if row["measure"] == QUERY]
    if not own:
        return ""
    beyond, other = (sum(words.startswith(start) for words in own) for start in ("as the scores", "the other way"))
    against = f", and {other} the other way" if other else ""
    moved = f"{beyond} moved the query as the scores say{against}, beyond random groups"
    return f"Of {plural(len(own), 'group')} of pairs left out, {moved}."


def block(run: RunView, record: StageRecord) -> dict[str, Any]:
    """What the template shows of one stage."""
    summary = record.summary
    tables = {name: run.table(f"validate/{summary['stage']}/{name}.parquet") for name in ("lds", "removal", "recovery")}
    lds = agreements(tables["lds"])
    head = [(row, words) for row, words in lds if (row["vertical"], row["measure"]) == (MEAN, QUERY)]
    bars = [charts.Bar(row["method"], row["lds"], row["low"], row["high"]) for row, _ in head if known(row["lds"])]
    return {
        "stage": summary["stage"],
        "summary": summary,
        "through": "" if summary["trained_again"] == summary["stage"] else stage_name(summary["trained_again"]),
        "contest": contest(summary),
        "chart": charts.dots(bars, "LDS, mean over verticals (dashed: chance)", None, reference=0.0) if bars else None,
        "lds": head,
        "detail": [entry for entry in lds if entry not in head],
        "removal": [(row, left_out(row)) for row in tables["removal"]],
        "groups": groups(tables["removal"]),
        "recovery": pick(tables["recovery"], vertical=ANY),
    }


def render(run: RunView) -> str:
    """HTML of the section."""
    records = [run.record(f"validate/{stage}") for stage in run.stages]
    blocks = [block(run, record) for record in records if record is not None]
    return html.render("fidelity.html", blocks=blocks) if blocks else ""
