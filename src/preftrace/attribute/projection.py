"""Seeded random projection of a matrix's gradient on both sides (LoGra, Choe et al. 2024, arXiv 2405.13954).

G (a x b) becomes P^T G R with entries of P and R +1 or -1, over the square root of `rank`: inner products keep their
expectation (Achlioptas 2003, "Database-friendly random projections"). A side that is not longer than `rank` stays as it
is: of an adapter's matrix the r side does, so that only its long side is shortened.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

Shape = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Projection:
    """What projects the gradients of one store.

    Attributes:
        rank: longest side of a projected matrix; 0: gradients stay as they are.
        seed: of the signs, with the matrix's name.
    """

    rank: int
    seed: int

    def shape(self, shape: Shape) -> Shape:
        """Of the projected matrix."""
        a, b = (min(side, self.rank) if self.rank else side for side in shape)
        return a, b

    def sides(self, name: str, shape: Shape) -> tuple[np.ndarray | None, np.ndarray | None]:
        """P `(a, rank)` and R `(b, rank)` of a matrix, float32; None for a side that stays."""
        left, right = (self._signs(name, i, side) for i, side in enumerate(shape))
        return left, right

    def _signs(self, name: str, side: int, length: int) -> np.ndarray | None:
        if not self.rank or length <= self.rank:
            return None
        draw = np.random.default_rng([self.seed, zlib.crc32(name.encode()), side])
        signs = draw.integers(0, 2, (length, self.rank), dtype=np.int8) * 2.0 - 1
        return np.asarray(signs / np.sqrt(self.rank), np.float32)

    def apply(self, name: str, rows: np.ndarray, shape: Shape) -> np.ndarray:
        """Rows `(n, a b)` projected, `(n, a' b')`."""
        left, right = self.sides(name, shape)
        found = rows.reshape(-1, *shape)
        found = found if right is None else found @ right
        found = found if left is None else left.T @ found
        return found.reshape(len(rows), -1)

    def lift(self, name: str, vectors: np.ndarray, shape: Shape) -> np.ndarray:
        """Vectors `(Q, a' b')` of projected matrices as those `(Q, a b)` of whole ones with the same inner products."""
        left, right = self.sides(name, shape)
        found = vectors.reshape(-1, *self.shape(shape))
        found = found if left is None else left @ found
        found = found if right is None else found @ right.T
        return found.reshape(len(vectors), -1)
