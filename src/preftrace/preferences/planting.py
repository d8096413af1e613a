"""Faults of a known place: pairs whose chosen and rejected answers are swapped, to measure whether they are found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from preftrace.types import Pair, text_id

PLANTED, FLIP = "planted", "flip"
"""Key of a pair's meta, and what it says of a pair that was swapped here."""


def plant(pairs: Sequence[Pair], share: float, seed: int) -> list[Pair]:
    """The pairs, round(share x n) of them with their answers swapped and `meta.planted` set to `flip`.

    Those with the lowest hashes of seed and id are taken, so that pairs that are added move few. Pairs that are planted
    already, or whose answers are equal, are left as they are. A swapped pair keeps the id that it was read with: it is
    found under it in the data without planting.

    Args:
        pairs: the pairs that are trained on.
        share: of all of them, in [0, 1).
        seed: the study's.
    """
    free = [pair.id for pair in pairs if not pair.meta.get(PLANTED) and pair.chosen != pair.rejected]
    taken = set(sorted(free, key=lambda i: text_id(str(seed), "plant", i))[: round(share * len(pairs))])
    return [_swapped(pair) if pair.id in taken else pair for pair in pairs]


def _swapped(pair: Pair) -> Pair:
    return replace(pair, chosen=pair.rejected, rejected=pair.chosen, meta={**pair.meta, PLANTED: FLIP})
