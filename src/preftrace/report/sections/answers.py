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


def shares(rows: Sequence[Row], item: str) -> dict[int, float]:
    """Option -> its share of the probability of all of an item's options; empty where one is missing."""
    own = {row["option"]: row["logprob"] for row in rows if row["item_id"] == item}
    if not own or any(math.isnan(value) for value in own.values()):
        return {}
    top = max(own.values())
    weights = {option: math.exp(value - top) for option, value in own.items()}
    return {option: weight / sum(weights.values()) for option, weight in weights.items()}


def options(tables: Sequence[Sequence[Row]], item: str) -> list[dict[str, Any]]:
    """An item's options, each with its share at every stage (NaN where not known)."""
    by_stage = [shares(rows, item) for rows in tables]
    texts = {row["option"]: row for rows in tables for row in rows if row["item_id"] == item}
    return [
        {"text": row["text"], "good": row["good"], "shares": [found.get(option, math.nan) for found in by_stage]}
        for option, row in sorted(texts.items())
    ]


def case(run: RunView, vertical: str, why: str, item: Row, change: float) -> dict[str, Any]:
    """One item at every stage."""
    key, sides, chances = item["item_id"], [], []
    for stage in run.evaluations[vertical]:
        folder = f"evaluate/{stage}/{vertical}"
        trust = [row["trust"] for row in run.table(f"{folder}/items.parquet") if row["item_id"] == key]
        found = answer(run.table(f"{folder}/generations.parquet"), key)
        sides.append({"stage": stage, "trust": trust[0] if trust else math.nan, "answer": found})
        chances.append(run.table(f"{folder}/options.parquet"))
    return {
        "why": why,
        "prompt": item["prompt"],
        "change": change,
        "sides": sides,
        "answered": any(side["answer"] for side in sides),
        "options": options(chances, key),
    }


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
