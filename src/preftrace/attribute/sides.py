"""Scores of the chosen and of the rejected answer apart.

A pair's loss is a function of two values v_w and v_l (log-probabilities, or rewards), so that by the chain rule

    grad loss = dloss/dv_w grad v_w + dloss/dv_l grad v_l        score = score_chosen + score_rejected

and either term, times the direction, is the part of the score that comes through that answer. Here the prompt is
computed with each answer: a shared one would belong to both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from preftrace import artifacts
from preftrace.attribute.directions import DirectionPass, methods_with_directions
from preftrace.attribute.pair_model import SIDES
from preftrace.attribute.streaming import DIRECTIONS, Passes
from preftrace.engines import engine_of
from preftrace.engines._base import Shard, ShardOutput

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("score_chosen", "score_rejected")
WORKER = "preftrace.attribute.sides:SideWorker"


class SideWorker(DirectionPass):
    """Each answer's part of the scores: `sides.scores` `(n, s, M Q)`, chosen first; s is 1 where the loss has one."""

    def run(self, shard: Shard) -> ShardOutput:
        """One shard: `start`, `stop`."""
        start, stop = shard["start"], shard["stop"]
        sides, width = len(SIDES[self.pairs.loss["kind"]]), len(next(iter(self.blocks.values())))
        scores = np.zeros((stop - start, sides, width))
        for batch, gradients in self.pairs.gradients(start, stop, self.reference(start, stop), apart=True):
            for block, direction in self.blocks.items():
                part = (gradients[block] @ direction.to(gradients[block].dtype).T).double().cpu().numpy()
                scores[batch] -= part.reshape(sides, len(batch), width).swapaxes(0, 1)
        return {"sides": {"scores": scores}}


def side_scores(passes: Passes, methods: Sequence[str]) -> dict[str, np.ndarray]:
    """The parts of the scores that come through the chosen and through the rejected answer.

    Args:
        passes: the stage's, after its scores are made.
        methods: names.

    Returns:
        Method -> `(n, Q, 2)`, NaN for an answer that the loss does not look at. Methods without directions are left
        out.
    """
    path = passes.work / DIRECTIONS
    known = methods_with_directions(path, methods)
    if not known:
        return {}
    init = {"model": passes.model, "reference": passes.reference(), "directions": str(path), "methods": known}
    engine, out = engine_of(passes.resources), passes.work / "_sides"
    parts = engine.map_shards(WORKER, init, passes.shards(), out, passes.resources, f"answers apart of {passes.name}")
    scores = np.concatenate([artifacts.read_tensors(part / "sides.safetensors")["scores"] for part in parts])
    n, sides, width = scores.shape
    both = np.full((n, 2, width), np.nan)
    both[:, :sides] = scores
    each = both.reshape(n, 2, len(known), -1).transpose(2, 0, 3, 1)
    return dict(zip(known, each, strict=True))


def add_sides(table: pa.Table, verticals: Sequence[str], sides: Mapping[str, np.ndarray]) -> pa.Table:
    """`scores_table`'s rows with the columns `score_chosen` and `score_rejected`, NaN where there are none.

    Args:
        table: rows of all pairs, in the order of the pairs, for every method and vertical.
        verticals: Q names.
        sides: method -> `(n, Q, 2)`.
    """
    import pyarrow as pa

    method, vertical = (np.array(table[name].to_pylist(), dtype=object) for name in ("method", "vertical"))
    found = np.full((table.num_rows, 2), np.nan)
    for name, values in sides.items():
        for column, v in enumerate(verticals):
            found[(method == name) & (vertical == v)] = values[:, column]
    found[np.isnan(table["score"].to_numpy())] = np.nan
    for name, column_values in zip(COLUMNS, found.T, strict=True):
        table = table.append_column(name, pa.array(column_values))
    return table
