"""Influence averaged over the checkpoints of a training: identity's pass at each of them, then one weighted mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from preftrace import artifacts, models
from preftrace.attribute.config import AttributeConfig
from preftrace.attribute.influence import Job
from preftrace.attribute.methods.ensemble import weights
from preftrace.attribute.streaming import REFERENCE, Passes
from preftrace.attribute.trail import needs_checkpoints
from preftrace.types import Checkpoint

FOLDER = "_ensemble"
METHOD = "identity"
"""What is averaged."""

Directions = Callable[[Checkpoint, Path], Mapping[str, np.ndarray]]
"""From a model and a folder for working files to the queries' gradients there, block -> `(Q, numel)`."""


def at_end(config: AttributeConfig) -> AttributeConfig:
    """Settings of the finished model's own passes: those methods that look at no other."""
    own = tuple(method for method in config.methods if not needs_checkpoints(method))
    return config.model_copy(update={"methods": own or (METHOD,)})


def average(
    job: Job, model: Mapping[str, Any], pairs: int, work: Path, directions: Directions, end: np.ndarray | None = None
) -> np.ndarray:
    """Weighted mean over the kept checkpoints and the finished model of -grad M . grad loss, `(n, Q)`.

    Each checkpoint's working files lie in a folder of its own, so that a killed run goes on where it was. A checkpoint
    that only steps of rate 0 led to has no part in it and is passed over.

    Args:
        job: the stage; its source has kept checkpoints.
        model: arguments of `PairModel` of the finished model.
        pairs: n.
        work: folder of the working files, where DPO's reference log-probabilities are, if they are known.
        directions: the queries' gradients, the same blocks and queries at every checkpoint.
        end: the finished model's term, where it is known already.
    """
    kept = models.read_kept(job.source.folder)
    # The gradients are needed once, so that none is kept on disk.
    config = job.config.model_copy(update={"methods": (METHOD,), "cache_gb": 0.0})

    def term(step: int, checkpoint: Checkpoint) -> np.ndarray:
        if step == kept[-1].step and end is not None:
            return end
        folder, name = work / FOLDER / str(step), f"{job.record.folder.name}, step {step}"
        _share_reference(work, folder)
        there = {**model, "checkpoint": asdict(checkpoint)}
        passes = Passes(there, pairs, config, folder, name, job.resources)
        return passes.score(directions(checkpoint, folder)).scores[METHOD]

    shares = zip(weights([k.rates for k in kept]), kept, strict=True)
    terms = [share * term(k.step, k.checkpoint) for share, k in shares if share > 0]
    total: np.ndarray = np.sum(terms, axis=0)
    return total


def _share_reference(work: Path, folder: Path) -> None:
    """DPO's reference is the model with its adapter off: the same at every checkpoint."""
    if (work / REFERENCE).is_file() and not (folder / REFERENCE).is_file():
        artifacts.write_tensors(folder / REFERENCE, artifacts.read_tensors(work / REFERENCE))
