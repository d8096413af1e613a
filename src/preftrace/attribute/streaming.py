"""The passes over the pairs, in order: reference, dot products, sums, dot products again, scores.

    pass 1    a_kl = g_kl . V_l, ||g_kl||^2 on every block l                      identity is done
    pass 2    U = sum_i c_i g_i for the methods that combine pairs                (methods x Q x P)
    pass 3    u_kl = g_kl . U_l
    score_k = -sum_l (own_l a_kl - u_kl)

c_i needs a_i, ||g_i||^2 and lambda. Where lambda comes from a draw of pairs (`pilot.py`), passes 1 and 2 are one.

No pass holds more than one batch of gradients. On disk lie a few dozen partial sums, whatever the number of pairs,
and, where all of them fit in `cache_gb`, the gradients of pass 1 so that passes 2 and 3 need no model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from preftrace import artifacts
from preftrace.attribute import pilot
from preftrace.attribute.config import AttributeConfig
from preftrace.attribute.layers import by_layer, layer_names
from preftrace.attribute.methods._base import Combination
from preftrace.attribute.passes import Arrays, dots_of, read_dots
from preftrace.engines import Resources, engine_of
from preftrace.engines._base import Shard
from preftrace.errors import ModelError
from preftrace.registry import METHODS

WORKERS = "preftrace.attribute.passes"
SHARDS = 32
"""Shards of a pass, at most: what a kill can lose, and how many partial sums lie on disk."""
SMALLEST_SHARD = 64
REFERENCE = "_reference.safetensors"
"""File of `values` `(n, 2)`, log pi_ref of both answers of every pair; computed where it is not there."""
DIRECTIONS = "_directions.safetensors"
"""File of `method/block` `(Q, numel)` float32, H^-1 grad M: score_k = -sum over blocks of g_k . direction."""


class Scored(NamedTuple):
    """What the passes give.

    Attributes:
        scores: method -> `(n, Q)`, positive where the pair helps.
        damping: method -> what `pilot.describe` says of lambda.
        parameters: numbers in all blocks.
        missing: pairs whose gradient is not finite: their scores are NaN, and they take no part in the others'.
        layers: method -> `(n, K, Q)` float32, the K layers' parts of the scores.
        layer_names: of the K layers.
    """

    scores: dict[str, np.ndarray]
    damping: dict[str, dict[str, float]]
    parameters: int
    missing: int
    layers: Mapping[str, np.ndarray] = MappingProxyType({})
    layer_names: Sequence[str] = ()


class _First(NamedTuple):
    """What the passes before the last leave: the totals that gave lambda, those of all pairs, and sum_i c_i g_i."""

    used: Arrays
    exact: Arrays
    sums: Arrays


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
        seed: of the draw of pairs that gives lambda.
    """

    model: Mapping[str, Any]
    pairs: int
    config: AttributeConfig
    work: Path
    name: str
    resources: Resources
    seed: int = 0

    def score(self, vectors: Mapping[str, np.ndarray]) -> Scored:
        """Scores of every pair for every query; leaves the directions in `DIRECTIONS`.

        Args:
            vectors: block -> `(Q, numel)`, the queries' gradients.

        Raises:
            ModelError: no pair that lambda is computed from has a finite gradient.
        """
        blocks = sorted(vectors)
        sizes = np.array([vectors[block].shape[1] for block in blocks])
        anything = {"norm2": np.ones(len(sizes)), "size": sizes, "pairs": np.array([1])}
        summing = [m for m, c in self._combine(anything).items() if c.pairs is not None]
        drawn = self._drawn() if summing else []
        keep = bool(summing) and self.pairs * int(sizes.sum()) * 4 <= self.config.cache_gb * 2**30
        given = {"model": self.model, "reference": self.reference()}
        first = self._first(vectors, summing, drawn, given, keep)
        if summing:
            kept = str(self.work / "_dots") if keep else None
            init = {"vectors": self._write("_again_vectors", first.sums), **given, "kept": kept, "keep": False}
            self._map("DotsWorker", init, "_again", "scores")
        combined, exact = self._combine(first.used), self._combine(first.exact)
        self._write("_directions", _directions(vectors, combined, summing, first.sums))
        scores, layers = {}, {}
        for method, combination in combined.items():
            parts = self._parts(combination.own, summing.index(method) if method in summing else None)
            found = [(part.sum(1), by_layer(part, blocks)) for part in parts]
            scores[method], layers[method] = (np.concatenate(shards) for shards in zip(*found, strict=True))
        lambdas = {m: (c.damping, exact[m].damping) for m, c in combined.items()}
        number = int(first.used["pairs"][0]) if drawn else None
        damping = {m: pilot.describe(u, e, number) for m, (u, e) in lambdas.items() if u is not None and e is not None}
        missing = self.pairs - int(first.exact["pairs"][0])
        return Scored(scores, damping, int(sizes.sum()), missing, layers, layer_names(blocks))

    def shards(self) -> list[dict[str, int]]:
        """The partition of the pairs, the same in every pass."""
        size = max(SMALLEST_SHARD, math.ceil(self.pairs / SHARDS))
        starts = range(0, self.pairs, size)
        return [{"index": i, "start": start, "stop": min(start + size, self.pairs)} for i, start in enumerate(starts)]

    def reference(self) -> str | None:
        """File of the reference log-probabilities, computed where it is not there; None for losses without one."""
        if self.model["loss"]["kind"] != "dpo":
            return None
        if (self.work / REFERENCE).is_file():
            return str(self.work / REFERENCE)
        parts = self._map("ReferenceWorker", self.model, "_reference", "reference log-probs")
        values = [artifacts.read_tensors(part / "reference.safetensors")["values"] for part in parts]
        return self._write("_reference", {"values": np.concatenate(values)})

    def _drawn(self) -> list[dict[str, int]]:
        """The pairs that give lambda, as shards; none where all pairs do."""
        least = self.config.pilot
        return [] if least is None or self.pairs <= 2 * least else pilot.draw(self.pairs, least, self.seed)

    def _first(
        self,
        vectors: Mapping[str, np.ndarray],
        summing: Sequence[str],
        drawn: Sequence[Shard],
        given: Mapping[str, Any],
        keep: bool,
    ) -> _First:
        """Dot products of every pair, and the sums of the methods that combine pairs."""
        sizes = np.array([vectors[block].shape[1] for block in sorted(vectors)])
        written = self._write("_dots_vectors", vectors)
        own = {"methods": list(summing), "damping": self.config.damping}
        if drawn and not keep:
            norms = self._map("NormsWorker", {**given, "kept": None}, "_pilot", "pilot", drawn)
            used = pilot.add_up(sizes, (artifacts.read_tensors(p / "norms.safetensors")["norm2"] for p in norms))
            init = {**own, "vectors": written, "totals": self._totals(used), **given, "kept": None}
            sums = self._map("DotsAndSumsWorker", init, "_dots", "pair gradients")
            exact = pilot.add_up(sizes, self._norms())
        else:
            init = {"vectors": written, "keep": keep, **given, "kept": None}
            self._map("DotsWorker", init, "_dots", "pair gradients")
            exact = pilot.add_up(sizes, self._norms())
            # How much disk there is must not change the scores: lambda is the drawn pairs' here too.
            used = pilot.add_up(sizes, pilot.take(self._norms(), drawn)) if drawn else exact
            if not summing:
                return _First(used, exact, {})
            dots = str(self.work / "_dots")
            init = {**own, "dots": dots, "totals": self._totals(used), **given, "kept": dots if keep else None}
            sums = self._map("SumWorker", init, "_sums", "curvature")
        # A pair's coefficient is its part of a mean over as many pairs as gave lambda; the mean is over all of them.
        factor = int(used["pairs"][0]) / max(int(exact["pairs"][0]), 1)
        return _First(used, exact, {block: value * factor for block, value in _added(sums).items()})

    def _map(
        self, worker: str, init: Mapping[str, Any], folder: str, label: str, shards: Sequence[Shard] | None = None
    ) -> list[Path]:
        engine, out, title = engine_of(self.resources), self.work / folder, f"{label} of {self.name}"
        return engine.map_shards(f"{WORKERS}:{worker}", init, shards or self.shards(), out, self.resources, title)

    def _totals(self, used: Arrays) -> str:
        """File of the totals that give lambda."""
        if not used["pairs"][0]:
            raise ModelError(
                f"no gradient of the pairs that give lambda for {self.name} is finite; try another precision"
            )
        return self._write("_totals", used)

    def _norms(self) -> Iterator[np.ndarray]:
        """`(m, L)` of every shard, in order."""
        return (read_dots(self.work / "_dots", shard["index"])["norm2"] for shard in self.shards())

    def _combine(self, totals: Arrays) -> dict[str, Combination]:
        """What each method makes of the totals; of no pair in particular."""
        blocks = len(totals["size"])
        nobody = dots_of(np.zeros((0, blocks, 1)), np.zeros((0, blocks)), totals)
        return {m: METHODS.load(m).combine(nobody, self.config.damping) for m in self.config.methods}

    def _parts(self, own: np.ndarray, position: int | None) -> Iterator[np.ndarray]:
        """Every shard's scores block by block, `(m, L, Q)`, of a method and its position among those that sum."""
        for shard in self.shards():
            dots = read_dots(self.work / "_dots", shard["index"])
            parts = -own[:, None] * dots["query"]
            if position is not None:
                queries = parts.shape[2]
                summed = read_dots(self.work / "_again", shard["index"])["query"]
                parts += summed[:, :, position * queries : (position + 1) * queries]
            parts[~np.isfinite(dots["norm2"]).all(1)] = np.nan
            yield parts

    def _write(self, name: str, tensors: Mapping[str, np.ndarray]) -> str:
        path = self.work / f"{name}.safetensors"
        artifacts.write_tensors(path, tensors)
        return str(path)


def _added(parts: Sequence[Path]) -> Arrays:
    """Sums over the shards, in order."""
    total: Arrays = {}
    for part in parts:
        for block, value in artifacts.read_tensors(part / "sum.safetensors").items():
            total[block] = total.get(block, 0.0) + value
    return total


def _directions(
    vectors: Mapping[str, np.ndarray], combined: Mapping[str, Combination], summing: Sequence[str], sums: Arrays
) -> Arrays:
    """`method/block` -> `(Q, numel)` float32, own x grad M - the pairs' sum."""
    found = {}
    for method, combination in combined.items():
        for own, (block, vector) in zip(combination.own, sorted(vectors.items()), strict=True):
            direction = own * vector
            if method in summing:
                first = summing.index(method) * len(vector)
                direction = direction - sums[block][first : first + len(vector)]
            found[f"{method}/{block}"] = direction.astype(np.float32)
    return found
