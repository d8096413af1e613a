"""The directions H^-1 grad M that the scores were made with, for passes that take a score apart.

score_k = -sum over blocks of g_k . direction, so that any part of the gradient g_k (an answer's, a token's) gives that
part of the score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from preftrace import artifacts
from preftrace.attribute.pair_model import PairModel


def read_directions(path: Path, methods: Sequence[str]) -> dict[str, np.ndarray]:
    """Directions of some methods, in their order.

    Args:
        path: a file of `method/block` `(Q, numel)`, as `Passes.score` leaves it.
        methods: M names that are in it.

    Returns:
        Block -> `(M Q, numel)`, all queries of the first method first.
    """
    held = artifacts.read_tensors(path)
    blocks = [name.removeprefix(f"{methods[0]}/") for name in held if name.startswith(f"{methods[0]}/")]
    return {block: np.concatenate([held[f"{method}/{block}"] for method in methods]) for block in blocks}


def methods_with_directions(path: Path, methods: Sequence[str]) -> list[str]:
    """Those of the methods that the file has directions of, in their order; none where there is no file."""
    from safetensors import safe_open

    if not path.is_file():
        return []
    with safe_open(path, "numpy") as file:
        there = {name.partition("/")[0] for name in file.keys()}  # noqa: SIM118
    return [method for method in methods if method in there]


class DirectionPass:
    """What the workers over pairs and directions share.

    Args:
        model: arguments of `PairModel`.
        reference: file of the reference log-probabilities, or None.
        directions: file of the directions.
        methods: those that are looked at.
    """

    def __init__(
        self, model: Mapping[str, Any], reference: str | None, directions: str, methods: Sequence[str]
    ) -> None:
        self.pairs = PairModel(**model)
        self._reference = None if reference is None else artifacts.read_tensors(Path(reference))["values"]
        found = read_directions(Path(directions), methods)
        self.blocks = {block: torch.from_numpy(value).to(self.pairs.lm.device) for block, value in found.items()}

    def reference(self, start: int, stop: int) -> np.ndarray | None:
        """`(stop - start, 2)` log pi_ref of the pairs' answers; None for losses without a reference."""
        return None if self._reference is None else self._reference[start:stop]
