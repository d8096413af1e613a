"""Random: seeded standard normal numbers, what a score that knows nothing looks like.

Every stage and every vertical has draws of its own, which do not depend on what other verticals there are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from preftrace.attribute.baselines._base import Given
from preftrace.types import text_id

VERSION = 1


def score(given: Given) -> np.ndarray:
    """`(n, Q)` draws from N(0, 1)."""
    return draw(given.job.seed, given.job.record.folder.name, list(given.answers), len(given.pairs()))


def draw(seed: int, stage: str, verticals: Sequence[str], n: int) -> np.ndarray:
    """`(n, Q)` draws from N(0, 1), a column a vertical, the same for the same seed, stage and vertical."""
    sources = [np.random.default_rng([seed, int(text_id("random", stage, name), 16)]) for name in verticals]
    return np.stack([source.standard_normal(n) for source in sources], axis=1)
