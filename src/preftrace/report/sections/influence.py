"""For every stage and vertical: the pairs that helped trust most, and those that harmed it most, by each method.

Baselines are not shown: the section on recovery compares them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from preftrace.report import html, shading
from preftrace.report.view import Row, RunView, pick

TITLE = "Pairs that helped and harmed"
ORDER = 30
SHOWN = 3


Tokens = Mapping[tuple[str, str, str], Sequence[Row]]
"""(pair, vertical, method) -> the pair's tokens with their parts of the score."""


def entry(run: RunView, row: Row, tokens: Tokens) -> dict[str, Any]:
    """A scored pair with its texts, shaded where its tokens are there; no texts where the pairs are not there."""
    pair = run.pairs.get(row["pair_id"], {})
    planted = json.loads(pair.get("meta") or "{}").get("planted")
    texts = {key: pair.get(key, "") for key in ("prompt", "chosen", "rejected")}
    shaded = shading.shade(tokens.get((row["pair_id"], row["vertical"], row["method"]), ()))
    sides = {"chosen": row.get("score_chosen"), "rejected": row.get("score_rejected")}
    parts = {side: part for side, part in sides.items() if html.known(part)}
    return {**texts, **row, "planted": planted, "flags": pair.get("flags") or [], "shaded": shaded, "parts": parts}


def ranking(run: RunView, method: str, rows: Sequence[Row], tokens: Tokens) -> dict[str, Any] | None:
    """The ends of one method's ranking; None where it could score no pair."""
    ordered = sorted((r for r in rows if not math.isnan(r["score"])), key=lambda r: (r["rank"], r["pair_id"]))
    if not ordered:
        return None
    helped = [entry(run, r, tokens) for r in ordered[:SHOWN] if r["score"] > 0]
    harmed = [entry(run, r, tokens) for r in ordered[::-1][:SHOWN] if r["score"] < 0]
    return {
        "method": method,
        "pairs": len(ordered),
        "missing": len(rows) - len(ordered),
        "helped": helped,
        "harmed": harmed,
    }


def block(run: RunView, stage: str) -> dict[str, Any]:
    """What the template shows of one stage."""
    record = run.attributed[stage]
    scores = run.table(f"attribute/{stage}/scores.parquet")
    tokens = shading.by_pair(run.table(f"attribute/{stage}/tokens.parquet"))
    queries = record.summary["queries"]
    verticals = []
    for vertical in dict.fromkeys(row["vertical"] for row in scores):
        rows = pick(scores, vertical=vertical)
        found = [ranking(run, m, pick(rows, method=m), tokens) for m in record.summary["methods"]]
        rankings = [r for r in found if r]
        verticals.append({"name": vertical, "query": queries.get(vertical, {}), "rankings": rankings})
    said = {name: record.summary.get(name) for name in ("through", "declared")}
    return {"stage": stage, **said, "verticals": verticals, "shaded": bool(tokens)}


def render(run: RunView) -> str:
    """HTML of the section."""
    if not run.attributed:
        return ""
    checked = any(run.table(f"attribute/{stage}/recovery.parquet") for stage in run.attributed)
    blocks = [block(run, stage) for stage in run.attributed]
    legend = any(b["shaded"] for b in blocks)
    return html.render("influence.html", blocks=blocks, checked=checked, legend=legend)
