"""Lambda from a draw of pairs, so that the pass that takes dot products can form the sums as well. Pure functions.

A pair's coefficient in DataInf's closed form needs its own dot products and norm, and lambda: the one number that waits
for all pairs. lambda is a mean over pairs, which a few hundred of them give to a few percent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from preftrace.engines._base import Shard

RUNS = 32
"""Runs of neighbouring pairs in the draw, about; many short ones, since neighbours may be of one source."""
SHORTEST = 8


def draw(pairs: int, least: int, seed: int) -> list[dict[str, int]]:
    """Runs of neighbouring pairs that hold at least `least` of them, drawn by `seed`, as shards in order.

    Args:
        pairs: how many there are.
        least: how many are wanted; all pairs where there are fewer.
        seed: of the draw.
    """
    size = max(SHORTEST, math.ceil(least / RUNS))
    runs = [(start, min(start + size, pairs)) for start in range(0, pairs, size)]
    drawn: list[tuple[int, int]] = []
    for i in np.random.default_rng(seed).permutation(len(runs)):
        if sum(stop - start for start, stop in drawn) < least:
            drawn.append(runs[i])
    return [{"index": i, "start": start, "stop": stop} for i, (start, stop) in enumerate(sorted(drawn))]


def add_up(sizes: np.ndarray, norms: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
    """What `Dots` holds of all pairs: `norm2` `(L,)`, `size` `(L,)`, `pairs` `(1,)`, of those with finite gradients.

    Args:
        sizes: `(L,)` numbers in each block.
        norms: `(m, L)` of each shard.
    """
    totals = {"norm2": np.zeros(len(sizes)), "size": sizes, "pairs": np.array([0])}
    for norm2 in norms:
        finite = np.isfinite(norm2).all(1)
        totals["norm2"] += norm2[finite].sum(0)
        totals["pairs"] += finite.sum()
    return totals


def take(norms: Iterable[np.ndarray], drawn: Sequence[Shard]) -> Iterator[np.ndarray]:
    """The drawn pairs' rows of norms that come shard by shard, `(m, L)`, in the order of the pairs."""
    start = 0
    for norm2 in norms:
        for run in drawn:
            yield norm2[max(run["start"] - start, 0) : max(run["stop"] - start, 0)]
        start += len(norm2)


def describe(used: np.ndarray, exact: np.ndarray, drawn: int | None) -> dict[str, float]:
    """What the record says of lambda.

    Args:
        used: `(L,)` lambda of each block; 0 where a block has no gradient and is left out.
        exact: `(L,)` of all pairs.
        drawn: pairs that gave the lambda that was used; None where all did.

    Returns:
        Its median, the number of blocks and of those left out; where pairs were drawn also the exact median, the number
        of pairs, and the largest error over the blocks, |used / exact - 1|.
    """
    found = {"median": float(np.median(used)), "blocks": len(used), "blocks_left_out": int((used <= 0).sum())}
    if drawn is None:
        return found
    some = exact > 0
    error = float(np.abs(used[some] / exact[some] - 1).max(initial=0.0))
    return found | {"exact_median": float(np.median(exact)), "pilot_pairs": drawn, "largest_error": error}
