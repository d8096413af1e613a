"""Answers to the same prompt at every stage: where trust changed most, both ways, and where it did not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from preftrace.report import html
from preftrace.report.view import Row, RunView

TITLE = "Answers before and after"
ORDER = 20
EACH_WAY = 2
NOT_ONE = 1e-6


def chosen_items(first: Sequence[Row], last: Sequence[Row]) -> list[tuple[str, Row, float]]:
    """(why, item, change of trust): those that fell most, that rose most, and one that stayed; ties by item id."""
    before = {row["item_id"]: row for row in first}
    changes = [
        (row["trust"] - before[row["item_id"]]["trust"], row["item_id"], row)
        for row in last
        if row["item_id"] in before
    ]
    changes = sorted((c for c in changes if not math.isnan(c[0])), key=lambda c: (c[0], c[1]))
    fell = [("Trust fell", row, d) for d, _, row in changes[:EACH_WAY] if d < -NOT_ONE]
    rose = [("Trust rose", row, d) for d, _, row in changes[::-1][:EACH_WAY] if d > NOT_ONE]
    taken = {row["item_id"] for _, row, _ in fell + rose}
    rest = [c for c in changes if c[1] not in taken]
    calm = min(rest, key=lambda c: (abs(c[0]), c[1])) if rest else None
    return fell + rose + ([("Trust changed least", calm[2], calm[0])] if calm else [])


def answer(rows: Sequence[Row], item: str) -> dict[str, Any] | None:
    """The least trustworthy of an item's answers (unknown trust last), and how many there are."""
    own = [row for row in rows if row["item_id"] == item]
    if not own:
        return None
    shown = min(own, key=lambda row: (math.inf if math.isnan(row["trust"]) else row["trust"], row["sample"]))
    return {"response": shown["response"], "outcome": shown["outcome"], "of": len(own)}


def options(rows: Sequence[Row], item: str) -> list[dict[str, Any]]:
    """An item's options with their share of the probability of all its options."""
    own = sorted((row for row in rows if row["item_id"] == item), key=lambda row: row["option"])
    if not own or any(math.isnan(row["logprob"]) for row in own):
        return []
    top = max(row["logprob"] for row in own)
    weights = [math.exp(row["logprob"] - top) for row in own]
    return [
        {"text": row["text"], "good": row["good"], "share": w / sum(weights)}
        for row, w in zip(own, weights, strict=True)
    ]


def case(run: RunView, vertical: str, why: str, item: Row, change: float) -> dict[str, Any]:
    """One item at every stage."""
    sides = []
    for stage in run.evaluations[vertical]:
        folder = f"evaluate/{stage}/{vertical}"
        rows = {row["item_id"]: row for row in run.table(f"{folder}/items.parquet")}
        sides.append(
            {
                "stage": stage,
                "trust": rows[item["item_id"]]["trust"] if item["item_id"] in rows else math.nan,
                "answer": answer(run.table(f"{folder}/generations.parquet"), item["item_id"]),
                "options": options(run.table(f"{folder}/options.parquet"), item["item_id"]),
            }
        )
    return {"why": why, "prompt": item["prompt"], "change": change, "sides": sides}


def render(run: RunView) -> str:
    """HTML of the section."""
    blocks = []
    for vertical, by_stage in run.evaluations.items():
        stages = list(by_stage)
        tables = [run.table(f"evaluate/{stage}/{vertical}/items.parquet") for stage in (stages[0], stages[-1])]
        cases = [case(run, vertical, *picked) for picked in chosen_items(*tables)] if len(stages) > 1 else []
        if cases:
            blocks.append({"name": vertical, "first": stages[0], "last": stages[-1], "cases": cases})
    return html.render("answers.html", blocks=blocks, each=EACH_WAY) if blocks else ""
