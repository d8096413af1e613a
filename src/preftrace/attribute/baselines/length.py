"""Length: the shorter the chosen answer, and the longer the rejected one, the more the pair helps.

score_k = tokens(rejected) - tokens(chosen); minus the tokens of the chosen answer where the loss looks at no other.
Longer answers have more room for harm, and larger gradients. The same for every vertical.
"""

from __future__ import annotations

import numpy as np

from preftrace import artifacts
from preftrace.attribute.baselines._base import Given, contrast

VERSION = 1


def score(given: Given) -> np.ndarray:
    """`(n, Q)` tokens, as the stage's training counted them, end token included."""
    table = artifacts.read_table(given.job.source.folder / "tokens.parquet").to_pylist()
    tokens = {row["pair_id"]: [row[f"{side}_tokens"] for side in given.sides] for row in table if row["used"]}
    counts = np.array([tokens[pair["id"]] for pair in given.pairs()], dtype=float)
    return np.repeat(-contrast(counts.T)[:, None], len(given.answers), axis=1)
