"""Do the intervals and tests of `preftrace compare` hold what they say? Studies are simulated whose truth is known.

    python benchmarks/intervals.py                            # prints a table; 1,000 studies
    python benchmarks/intervals.py --json intervals.json      # and writes all numbers

**The model.** An item's trust at a stage is Phi(eta), or a 0/1 draw of that probability; eta adds up normal effects of
the stage, the item, its cluster (and its second cluster), and of each of these with the stage. The mean of Phi(eta) is
Phi(mu / sqrt(1 + variance of eta)), so that the true difference of two stages is known without simulation.

**Coverage.** Each study draws its own true change for each design and is compared by `compare_found`, all of it: the
pairing, the choice of the test, the interval. Asked: 93 to 97% of the intervals hold the truth.

**False positives.** Studies of five verticals and three stages in which no stage changes anything; 15 claims each,
adjusted by Holm. Asked: at most 6% of the studies find anything.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from _machine import circumstances, write

from preftrace.evaluate.compare import CompareConfig, Evaluation, compare_found
from preftrace.types import StageRecord

ITEM, CLUSTER, MU = 0.5, 0.4, 0.3
STAGE_ITEM = 0.5
CHANGE = 0.3


class Design(NamedTuple):
    """What a vertical's items are like.

    Attributes:
        binary: whether trust is 0 or 1.
        clusters: first clusters.
        others: second clusters, which cross them; 0: one way.
        size: items in a cluster (Poisson around it, at least 1), or in a cell of two ways; 1: exactly one.
        moves: standard deviation of the stage's effect on a cluster, and on a second cluster.
        items: items spread at random over the cells, in place of `size` in each.
    """

    binary: bool
    clusters: int
    others: int = 0
    size: int = 5
    moves: tuple[float, float] = (0.3, 0.3)
    items: int | None = None

    @property
    def name(self) -> str:
        """As it is shown."""
        kind = "0/1" if self.binary else "continuous"
        if not self.others:
            return f"{kind}, {self.clusters} clusters of {'1' if self.size == 1 else f'about {self.size}'}"
        held = f"{self.items} items" if self.items else f"{self.size} a cell"
        moved = {(True, True): "both move", (True, False): "one moves", (False, False): "neither moves"}
        return f"{kind}, {self.clusters} x {self.others}, {held}, {moved[self.moves[0] > 0, self.moves[1] > 0]}"


ONE_WAY = [Design(binary, g, size=size) for binary in (False, True) for size in (1, 5) for g in (10, 20, 50, 200)]
TWO_WAY = [
    Design(binary, g, h, size, moves, items)
    for binary in (False, True)
    for moves in ((0.3, 0.3), (0.3, 0.0), (0.0, 0.0))
    for g, h, size, items in ((10, 10, 3, None), (16, 24, 3, None), (30, 20, 1, 300), (200, 10, 1, None))
]
NULL = [
    Design(False, 40),
    Design(True, 100, size=1),
    Design(True, 30),
    Design(False, 16, 24, 3),
    Design(True, 10, 20, 3),
]


class Items(NamedTuple):
    """Labels of the items, and the variance of eta."""

    first: np.ndarray
    second: np.ndarray
    variance: float


def layout(design: Design, rng: np.random.Generator) -> Items:
    """Which item is in which clusters."""
    g, h, size = design.clusters, design.others, design.size
    noise = ITEM**2 + CLUSTER**2 + STAGE_ITEM**2 + design.moves[0] ** 2
    if not h:
        counts = np.ones(g, int) if size == 1 else 1 + rng.poisson(size - 1, g)
        return Items(np.repeat(np.arange(g), counts), np.zeros(counts.sum(), int), noise)
    noise += CLUSTER**2 + design.moves[1] ** 2
    if design.items:
        return Items(rng.integers(0, g, design.items), rng.integers(0, h, design.items), noise)
    cell = np.repeat(np.arange(g * h), size)
    return Items(cell // h, cell % h, noise)


def stages(design: Design, changes: Sequence[float], rng: np.random.Generator) -> tuple[list[Evaluation], list[float]]:
    """Evaluations of the same items at several stages, and the true mean of each.

    Args:
        design: what the items are like.
        changes: what each stage adds to eta.
        rng: draws everything.
    """
    from scipy import special

    items = layout(design, rng)
    n = len(items.first)
    base = MU + ITEM * rng.normal(size=n) + CLUSTER * rng.normal(size=design.clusters)[items.first]
    if design.others:
        base += CLUSTER * rng.normal(size=design.others)[items.second]
    found = []
    for number, change in enumerate(changes):
        eta = base + change + STAGE_ITEM * rng.normal(size=n)
        eta += design.moves[0] * rng.normal(size=design.clusters)[items.first]
        if design.others:
            eta += design.moves[1] * rng.normal(size=design.others)[items.second]
        trust = special.ndtr(eta)
        found.append(evaluation(design, items, (rng.random(n) < trust) * 1.0 if design.binary else trust, number))
    return found, [float(special.ndtr((MU + change) / math.sqrt(1 + items.variance))) for change in changes]


def evaluation(design: Design, items: Items, trust: np.ndarray, number: int) -> Evaluation:
    """A finished evaluation that is nowhere on disk."""
    names = [f"i{k}" for k in range(len(trust))]
    columns = {"item_id": names, "prompt": names, "cluster": [f"c{k}" for k in items.first], "trust": trust}
    if design.others:
        columns["crossed"] = [f"d{k}" for k in items.second]
    record = StageRecord(
        kind="evaluate",
        name=design.name,
        version=1,
        identity="",
        config={},
        inputs={"model": str(number)},
        outputs={},
        content="",
        summary={"metrics": {}, "scorer": None},
        created="",
        seconds=0,
        versions={},
        folder=Path(design.name),
    )
    return Evaluation(record, pa.table(columns))


def coverage(design: Design, studies: int, resamples: int, seed: int = 0) -> float:
    """Share of studies whose 95% interval holds the true difference."""
    rng = np.random.default_rng([seed, *design.name.encode()])
    held = 0
    for study in range(studies):
        both, means = stages(design, (0.0, rng.normal(0, CHANGE)), rng)
        config = CompareConfig(resamples=resamples, seed=study)
        (row,) = compare_found([{name: {"v": one} for name, one in zip("ab", both, strict=True)}], config)
        held += row.low <= means[1] - means[0] <= row.high
    return held / studies


def false_positives(designs: Sequence[Design], studies: int, resamples: int, seed: int = 0) -> tuple[float, float]:
    """Share of studies without any change that find one after Holm; and share of claims that do so before it."""
    rng = np.random.default_rng(seed)
    any_found = alone = 0
    for study in range(studies):
        drawn = [stages(design, (0.0, 0.0, 0.0), rng)[0] for design in designs]
        found = {s: {f"v{v}": one[k] for v, one in enumerate(drawn)} for k, s in enumerate(("base", "sft", "dpo"))}
        rows = compare_found([found], CompareConfig(resamples=resamples, seed=study))
        any_found += any(row.verdict != "no change found" for row in rows)
        alone += sum(row.p <= 0.05 for row in rows)
    return any_found / studies, alone / (studies * len(designs) * 3)


def main(words: Sequence[str] | None = None) -> int:
    """Simulate, print the table, and write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="file for all numbers")
    parser.add_argument("--studies", type=int, default=1000, help="studies of each design")
    parser.add_argument("--resamples", type=int, default=999, help="bootstrap resamples of each comparison")
    parser.add_argument("--only", type=int, help="first designs only")
    parser.add_argument("--seed", type=int, default=0)
    words = sys.argv[1:] if words is None else words
    asked = parser.parse_args(words)
    held = {}
    for design in [*ONE_WAY, *TWO_WAY][: asked.only]:
        held[design.name] = coverage(design, asked.studies, asked.resamples, asked.seed)
        print(f"{design.name:58s}{held[design.name]:7.3f}", flush=True)
    family, alone = false_positives(NULL, asked.studies, asked.resamples, asked.seed)
    print(f"{'false positives after Holm, of studies':58s}{family:7.3f}")
    print(f"{'false positives before it, of claims':58s}{alone:7.3f}")
    result = {
        "coverage": held,
        "coverage_least": min(held.values()),
        "coverage_most": max(held.values()),
        "false_positives_after_holm": family,
        "false_positives_of_claims": alone,
        "studies": asked.studies,
        "resamples": asked.resamples,
        **circumstances(__file__, words),
    }
    write(result, asked.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
