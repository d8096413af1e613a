"""How well influence finds the planted pairs, against chance."""

from __future__ import annotations

from typing import Any

from preftrace.report import charts, html
from preftrace.report.html import known
from preftrace.report.view import Row, RunView, pick

TITLE = "Does influence find bad pairs?"
ORDER = 40
ANY = "any"
LEVEL = 0.05


def verdict(row: Row) -> str:
    """Whether the method beats chance, in words."""
    if not known(row["auc"]) or not known(row["p"]):
        return "cannot be told"
    if row["p"] < LEVEL and row["auc"] > row["random_auc"]:
        return "better than chance"
    return "no better than chance"


def block(run: RunView, stage: str, rows: list[Row]) -> dict[str, Any]:
    """What the template shows of one stage: all planted pairs first, then each vertical's."""
    overall = pick(rows, vertical=ANY)
    bars = [charts.Bar(r["method"], r["auc"], float("nan"), float("nan")) for r in overall if known(r["auc"])]
    words = [(r, verdict(r)) for r in overall]
    detail = [(r, verdict(r)) for r in rows if r["vertical"] != ANY]
    chart = charts.dots(bars, "AUC, all planted pairs (dashed: chance)", (0.0, 1.0), reference=0.5) if bars else None
    return {"stage": stage, "overall": words, "detail": detail, "chart": chart}


def render(run: RunView) -> str:
    """HTML of the section."""
    tables = {stage: run.table(f"attribute/{stage}/recovery.parquet") for stage in run.attributed}
    blocks = [block(run, stage, rows) for stage, rows in tables.items() if rows]
    return html.render("recovery.html", blocks=blocks) if blocks else ""
