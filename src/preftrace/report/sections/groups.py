"""Where a vertical asks about groups on topics: who the model agrees about, at every stage."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from preftrace.report import charts, html
from preftrace.report.html import clean, known
from preftrace.report.view import Row, RunView

TITLE = "Agreement by group and topic"
ORDER = 15
MEASURE = "agreement_index"

Cells = dict[tuple[str, str], float]


def cells(rows: Sequence[Row]) -> Cells:
    """(group, topic) -> mean agreement of its items, of those that have one; their groups and topics made visible."""
    found: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        target = json.loads(row["target"])
        if known(row.get(MEASURE)) and "group" in target and "topic" in target:
            key = clean(str(target["group"])), clean(str(target["topic"]))
            found.setdefault(key, []).append(row[MEASURE])
    return {key: math.fsum(values) / len(values) for key, values in sorted(found.items())}


def above_others(of: Mapping[tuple[str, str], float], group: str) -> float:
    """Mean over topics of the group's agreement less the mean of the other groups' on that topic; NaN: no others."""
    excess = []
    for (own, topic), value in of.items():
        others = [v for (g, t), v in of.items() if t == topic and g != group]
        if own == group and others:
            excess.append(value - math.fsum(others) / len(others))
    return math.fsum(excess) / len(excess) if excess else math.nan


def group_rows(by_stage: Mapping[str, Cells]) -> list[dict[str, Any]]:
    """One row for each group: agreement, and that above the other groups, by stage."""
    groups = sorted({group for of in by_stage.values() for group, _ in of})
    return [
        {
            "group": group,
            "agreement": {s: _mean([v for (g, _), v in of.items() if g == group]) for s, of in by_stage.items()},
            "above": {s: above_others(of, group) for s, of in by_stage.items()},
        }
        for group in groups
    ]


def block(run: RunView, vertical: str) -> dict[str, Any] | None:
    """What the template shows of one vertical; None where it does not ask about groups."""
    tables = {s: run.table(f"evaluate/{s}/{vertical}/items.parquet") for s in run.evaluations[vertical]}
    by_stage = {s: found for s, rows in tables.items() if (found := cells(rows))}
    if not by_stage:
        return None
    maps = [(s, charts.heat(of, html.stage_name(s))) for s, of in by_stage.items()]
    return {"name": vertical, "maps": maps, "groups": group_rows(by_stage), "stages": list(by_stage)}


def render(run: RunView) -> str:
    """HTML of the section."""
    blocks = [found for vertical in run.evaluations if (found := block(run, vertical))]
    return html.render("groups.html", blocks=blocks) if blocks else ""


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
