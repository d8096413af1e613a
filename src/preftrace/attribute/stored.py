"""Scores from a store: the methods' H^-1 grad M of every matrix, and its rows' products with them. Loads no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from preftrace.attribute.layers import layer_names, layer_of
from preftrace.attribute.store import Store
from preftrace.attribute.streaming import Scored
from preftrace.registry import METHODS


@dataclass
class _Sums:
    """What adds up over matrices for one method."""

    scores: np.ndarray
    layers: np.ndarray
    damping: list[float] = field(default_factory=list)


def score(
    store: Store,
    vectors: Mapping[str, np.ndarray],
    methods: Sequence[str],
    damping: float | None,
    directions: dict[str, np.ndarray] | None = None,
) -> Scored:
    """Scores of every pair for every query.

    Args:
        store: the pairs' gradients.
        vectors: matrix -> `(Q, numel)`, the queries' gradients.
        methods: names.
        damping: as in `AttributeConfig`.
        directions: where given, gets `method/matrix` -> `(Q, numel)` float32 H^-1 grad M in the whole basis: its
            product with a whole gradient is that of the projected ones.
    """
    names = sorted(store.shapes)
    layers = layer_names(names)
    n, queries = len(store.norm2), len(vectors[names[0]])
    blank = np.full((n, queries), np.nan), np.full((n, len(layers), queries), np.nan, np.float32)
    sums = {method: _Sums(blank[0].copy(), blank[1].copy()) for method in methods}
    for found in sums.values():
        found.scores[store.finite], found.layers[store.finite] = 0.0, 0.0
    for name in names:
        block = store.block(name, vectors[name])
        for method, found in sums.items():
            inverse = METHODS.load(method).invert(block, damping)
            part = -(block.rows @ inverse.vectors.T)
            found.scores[store.finite] += part
            found.layers[store.finite, layers.index(layer_of(name))] += part
            found.damping += [] if inverse.damping is None else [inverse.damping]
            if directions is not None:
                lifted = store.projection.lift(name, inverse.vectors, store.shapes[name])
                directions[f"{method}/{name}"] = lifted.astype(np.float32)
    return Scored(
        scores={method: found.scores for method, found in sums.items()},
        damping={m: _damping(np.array(f.damping)) for m, f in sums.items() if f.damping},
        parameters=sum(a * b for a, b in store.shapes.values()),
        missing=int((~store.finite).sum()),
        layers={method: found.layers for method, found in sums.items()},
        layer_names=layers,
    )


def _damping(lam: np.ndarray) -> dict[str, float]:
    return {"median": float(np.median(lam)), "blocks": len(lam), "blocks_left_out": int((lam <= 0).sum())}
