"""Tokens shaded by their parts of a pair's score: from rows of tokens.parquet to runs of text with one shade each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from preftrace.report.html import CLIP, known
from preftrace.report.view import Row

LEVELS = 8
"""Depths of shade; a token whose part is below half a level has none."""
SIDES = ("prompt", "chosen", "rejected")


class Shade(NamedTuple):
    """A stretch of text with one shade.

    Attributes:
        text: of one token or of neighbours.
        level: from 0, no shade, to `LEVELS`, the pair's largest part.
        helps: whether its part raises trust.
    """

    text: str
    level: int
    helps: bool


class Shaded(NamedTuple):
    """One side's text, whole and clipped; `clipped` is None where the whole is short."""

    whole: list[Shade]
    clipped: list[Shade] | None
    length: int


def by_pair(rows: Iterable[Row]) -> dict[tuple[str, str, str], list[Row]]:
    """The tokens of each (pair, vertical, method), in order."""
    found: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row["pair_id"], row["vertical"], row["method"]), []).append(row)
    return found


def shade(rows: Sequence[Row]) -> Mapping[str, Shaded]:
    """The sides of one pair; a prompt is clipped to its end and an answer to its start, as plain texts are.

    Args:
        rows: its tokens for one vertical and method, side by side in order.
    """
    largest = max((abs(row["part"]) for row in rows if known(row["part"])), default=0.0)
    found = {}
    for side in SIDES:
        mine = [row for row in rows if row["side"] == side]
        if mine:
            whole = _strip(_runs(mine, largest))
            length = sum(len(run.text) for run in whole)
            clipped = _clip(whole, CLIP, from_end=side == "prompt") if length > CLIP else None
            found[side] = Shaded(whole, clipped, length)
    return found


def _runs(rows: Sequence[Row], largest: float) -> list[Shade]:
    """Neighbours of one shade become one run. A token without text, part of a character, counts with the next."""
    runs: list[Shade] = []
    waiting = 0.0
    for row in rows:
        part = waiting + (row["part"] if known(row["part"]) else 0.0)
        waiting = part if not row["token"] else 0.0
        if not row["token"]:
            continue
        level = min(round(LEVELS * abs(part) / largest), LEVELS) if largest > 0 else 0
        here = Shade(row["token"], level, level > 0 and part > 0)
        if runs and runs[-1][1:] == here[1:]:
            here = here._replace(text=runs.pop().text + here.text)
        runs.append(here)
    return runs


def _strip(runs: Sequence[Shade]) -> list[Shade]:
    """Without white space at the two ends."""
    kept = list(runs)
    while kept and not kept[0].text.strip():
        kept.pop(0)
    while kept and not kept[-1].text.strip():
        kept.pop()
    if kept:
        kept[0] = kept[0]._replace(text=kept[0].text.lstrip())
        kept[-1] = kept[-1]._replace(text=kept[-1].text.rstrip())
    return kept


def _clip(runs: Sequence[Shade], limit: int, from_end: bool) -> list[Shade]:
    """The last or first `limit` characters, with an ellipsis where it was cut."""
    kept: list[Shade] = []
    for run in reversed(runs) if from_end else runs:
        text = run.text[max(len(run.text) - limit, 0) :] if from_end else run.text[:limit]
        limit -= len(text)
        if text:
            kept.append(run._replace(text=text))
    cut = Shade("…", 0, False)
    return [cut, *reversed(kept)] if from_end else [*kept, cut]
