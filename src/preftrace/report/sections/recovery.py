"""How well influence finds the planted pairs, against chance and against the baselines."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from preftrace.report import charts, html
from preftrace.report.html import known, number
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


def against(rows: list[Row], baselines: Collection[str]) -> str:
    """Whether the best method beats the best baseline by its AUC, in words; "" where there is nothing to compare."""
    scored = sorted((r for r in rows if known(r["auc"])), key=lambda r: -r["auc"])
    best = next((r for r in scored if r["method"] not in baselines), None)
    bar = next((r for r in scored if r["method"] in baselines), None)
    if best is None or bar is None:
        return ""
    numbers = f"AUC {number(best['auc'], 3)} for {best['method']}, {number(bar['auc'], 3)} for {bar['method']}"
    note = "The difference is not tested."
    if best["auc"] > bar["auc"]:
        return f"{best['method']} beats every baseline at finding the planted pairs: {numbers}. {note}"
    return f"No influence method beats the best baseline at finding the planted pairs: {numbers}. {note}"


def block(run: RunView, stage: str, rows: list[Row]) -> dict[str, Any]:
    """What the template shows of one stage: all planted pairs first, then each vertical's."""
    baselines = run.attributed[stage].summary.get("baselines", ())
    overall = pick(rows, vertical=ANY)
    bars = [charts.Bar(r["method"], r["auc"], float("nan"), float("nan")) for r in overall if known(r["auc"])]
    words = [(r, verdict(r)) for r in overall]
    detail = [(r, verdict(r)) for r in rows if r["vertical"] != ANY]
    chart = charts.dots(bars, "AUC, all planted pairs (dashed: chance)", (0.0, 1.0), reference=0.5) if bars else None
    compared = against(overall, baselines)
    shown = {"overall": words, "detail": detail, "chart": chart}
    return {"stage": stage, "baselines": baselines, "against": compared, **shown}


def render(run: RunView) -> str:
    """HTML of the section."""
    tables = {stage: run.table(f"attribute/{stage}/recovery.parquet") for stage in run.attributed}
    blocks = [block(run, stage, rows) for stage, rows in tables.items() if rows]
    return html.render("recovery.html", blocks=blocks) if blocks else ""
