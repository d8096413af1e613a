"""Every vertical at every stage: charts, values, outcomes, and the comparisons in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from preftrace.report import charts, html, phrases
from preftrace.report.html import known, stage_name
from preftrace.report.view import Row, RunView
from preftrace.types import StageRecord

TITLE = "Trust by vertical"
ORDER = 10


def chart(by_stage: Mapping[str, StageRecord], measure: str | None) -> Markup | None:
    """Dots with intervals over the stages: of trust (None), or of one metric; None where no value is known."""
    values = {
        s: r.summary["trust"] if measure is None else r.summary["metrics"].get(measure) for s, r in by_stage.items()
    }
    bars = [
        charts.Bar(stage_name(s), *(v[k] if known(v[k]) else math.nan for k in ("value", "low", "high")))
        for s, v in values.items()
        if v and known(v["value"])
    ]
    if not bars:
        return None
    inside = all(0 <= x <= 1 for bar in bars for x in bar[1:] if known(x))
    return charts.dots(bars, axis(by_stage, measure), (0.0, 1.0) if inside else None)


def axis(by_stage: Mapping[str, StageRecord], measure: str | None) -> str:
    """What the chart's axis says."""
    if measure is None:
        return "trust (higher is better)"
    described = metrics(by_stage)[measure]
    return f"{described['label']} ({described['better']} is better)"


def metrics(by_stage: Mapping[str, StageRecord]) -> dict[str, Mapping[str, Any]]:
    """The vertical's own metrics by name, the headline first."""
    return {name: metric for record in by_stage.values() for name, metric in record.summary["metrics"].items()}


def scorers(by_stage: Mapping[str, StageRecord]) -> list[str]:
    """Who scored the answers."""
    found = [record.summary.get("scorer") for record in by_stage.values()]
    return list(dict.fromkeys(f"{s['name']} ({s['revision']})" for s in found if s))


def block(run: RunView, vertical: str) -> dict[str, Any]:
    """What the template shows of one vertical."""
    by_stage = run.evaluations[vertical]
    described = metrics(by_stage)
    rows: list[Row] = [r for r in run.comparisons if r["vertical"] == vertical]
    drawn = [chart(by_stage, None), *(chart(by_stage, name) for name in list(described)[:1])]
    return {
        "name": vertical,
        "stages": by_stage,
        "metrics": described,
        "charts": [c for c in drawn if c is not None],
        "claims": [r for r in rows if r["measure"] == "trust"],
        "drill": [r for r in rows if r["measure"] != "trust"],
        "answered": any(sum(record.summary["outcomes"].values()) for record in by_stage.values()),
        "scorers": scorers(by_stage),
    }


def render(run: RunView) -> str:
    """HTML of the section."""
    if not run.evaluations:
        return ""
    return html.render("verticals.html", blocks=[block(run, v) for v in run.evaluations], say=phrases)
