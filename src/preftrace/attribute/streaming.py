"""The passes over the pairs, in order: reference, dot products, sums, dot products again, scores.

    pass 1    a_kl = g_kl . V_l, ||g_kl||^2 on every block l                      identity is done
    pass 2    U = sum_i c_i g_i for the methods that combine pairs                (methods x Q x P)
    pass 3    u_kl = g_kl . U_l
    score_k = -sum_l (own_l a_kl - u_kl)

No pass holds more than one batch of gradients. On disk lie a few dozen partial sums, whatever the number of pairs,
and, where all of them fit in `cache_gb`, the gradients of pass 1 so that passes 2 and 3 need no model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from preftrace import artifacts
from preftrace.attribute.config import AttributeConfig
from preftrace.attribute.methods._base import Combination
from preftrace.attribute.passes import read_dots
from preftrace.engines import Resources, engine_of
from preftrace.registry import METHODS

WORKERS = "preftrace.attribute.passes"
SHARDS = 32
"""Shards of a pass, at most: what a kill can lose, and how many partial sums lie on disk."""
SMALLEST_SHARD = 8
REFERENCE = "_reference.safetensors"
"""File of `values` `(n, 2)`, log pi_ref of both answers of every pair; computed where it is not there."""


class Scored(NamedTuple):
    """What the passes give.

    Attributes:
        scores: method -> `(n, Q)`, positive where the pair helps.
        damping: method -> median lambda, number of blocks, and of those left out for having no gradient.
        parameters: numbers in all blocks.
        missing: pairs whose gradient is not finite: their scores are NaN, and they take no part in the others'.
    """

    scores: dict[str, np.ndarray]
    damping: dict[str, dict[str, float]]
    parameters: int
    missing: int


@dataclass(frozen=True, slots=True)
class Passes:
    """The passes over the pairs of one stage.

    Attributes:
        model: arguments of `pair_model.PairModel`.
        pairs: how many pairs there are.
        config: settings.
        work: folder of the working files.
        name: the stage's, for the progress bars.
        resources: speed only.
    """

    model: Mapping[str, Any]
    pairs: int
    config: AttributeConfig
    work: Path
    name: str
    resources: Resources

    def score(self, vectors: Mapping[str, np.ndarray]) -> Scored:
        """Scores of every pair for every query.

        Args:
            vectors: block -> `(Q, numel)`, the queries' gradients.
        """
        sizes = np.array([vectors[block].shape[1] for block in sorted(vectors)])
        keep = self.pairs * int(sizes.sum()) * 4 <= self.config.cache_gb * 2**30
        rest = {"model": self.model, "reference": self.reference(), "kept": None}
        dots = self._dots("_dots", "pair gradients", vectors, {**rest, "keep": keep})
        totals = self._totals(sizes, dots)
        combined = {
            m: METHODS.load(m).combine(read_dots(dots, 0, totals), self.config.damping) for m in self.config.methods
        }
        summing = [m for m, c in combined.items() if c.pairs is not None]
        again = None
        if summing:
            kept = rest | {"kept": str(dots) if keep else None}
            again = self._dots("_again", "scores", self._sums(summing, dots, kept), {**kept, "keep": False})
        scores = {m: self._scores(m, c, summing, dots, again) for m, c in combined.items()}
        damping = {m: _damping(c.damping) for m, c in combined.items() if c.damping is not None}
        return Scored(scores, damping, int(sizes.sum()), self.pairs - int(totals["pairs"][0]))

    def shards(self) -> list[dict[str, int]]:
        """The partition of the pairs, the same in every pass."""
        size = max(SMALLEST_SHARD, math.ceil(self.pairs / SHARDS))
        starts = range(0, self.pairs, size)
        return [{"index": i, "start": start, "stop": min(start + size, self.pairs)} for i, start in enumerate(starts)]

    def _map(self, worker: str, init: Mapping[str, Any], folder: str, label: str) -> list[Path]:
        title = f"{label} of {self.name}"
        engine, out = engine_of(self.resources), self.work / folder
        return engine.map_shards(f"{WORKERS}:{worker}", init, self.shards(), out, self.resources, title)

    def reference(self) -> str | None:
        """File of the reference log-probabilities, computed where it is not there; None for losses without one."""
        if self.model["loss"]["kind"] != "dpo":
            return None
        if (self.work / REFERENCE).is_file():
            return str(self.work / REFERENCE)
        parts = self._map("ReferenceWorker", self.model, "_reference", "reference log-probs")
        values = [artifacts.read_tensors(part / "reference.safetensors")["values"] for part in parts]
        return self._write("_reference", {"values": np.concatenate(values)})

    def _dots(self, folder: str, label: str, vectors: Mapping[str, np.ndarray], rest: Mapping[str, Any]) -> Path:
        self._map("DotsWorker", {"vectors": self._write(f"{folder}_vectors", vectors), **rest}, folder, label)
        return self.work / folder

    def _totals(self, sizes: np.ndarray, dots: Path) -> dict[str, np.ndarray]:
        totals = {"norm2": np.zeros(len(sizes)), "size": sizes, "pairs": np.array([0])}
        for shard in self.shards():
            norm2 = read_dots(dots, shard["index"], totals).norm2
            finite = np.isfinite(norm2).all(1)
            totals["norm2"] += norm2[finite].sum(0)
            totals["pairs"] += finite.sum()
        self._write("_totals", totals)
        return totals

    def _sums(self, methods: Sequence[str], dots: Path, kept: Mapping[str, Any]) -> dict[str, np.ndarray]:
        own = {"methods": list(methods), "damping": self.config.damping, "dots": str(dots)}
        init = {**own, "totals": str(self.work / "_totals.safetensors"), **kept}
        total: dict[str, np.ndarray] = {}
        for part in self._map("SumWorker", init, "_sums", "curvature"):
            for block, value in artifacts.read_tensors(part / "sum.safetensors").items():
                total[block] = total.get(block, 0.0) + value
        return total

    def _scores(
        self, method: str, combination: Combination, summing: Sequence[str], dots: Path, again: Path | None
    ) -> np.ndarray:
        parts = []
        totals = artifacts.read_tensors(self.work / "_totals.safetensors")
        for shard in self.shards():
            query = read_dots(dots, shard["index"], totals).query
            direct = np.einsum("l,nlq->nq", combination.own, query)
            if again is not None and method in summing:
                first = summing.index(method) * query.shape[2]
                summed = read_dots(again, shard["index"], totals).query[:, :, first : first + query.shape[2]]
                direct = direct - summed.sum(1)
            parts.append(-direct)
        return np.concatenate(parts)

    def _write(self, name: str, tensors: Mapping[str, np.ndarray]) -> str:
        path = self.work / f"{name}.safetensors"
        artifacts.write_tensors(path, tensors)
        return str(path)


def _damping(lam: np.ndarray) -> dict[str, float]:
    return {"median": float(np.median(lam)), "blocks": len(lam), "blocks_left_out": int((lam <= 0).sum())}
