"""Building a store: one pass over the pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from preftrace import artifacts
from preftrace.attribute import quantise, store
from preftrace.attribute.influence import Job
from preftrace.attribute.inputs import prepare
from preftrace.attribute.pair_model import PairModel
from preftrace.attribute.projection import Projection
from preftrace.attribute.streaming import Passes
from preftrace.engines import engine_of
from preftrace.engines._base import Shard, ShardOutput

VERSION = 2
SIDES = ("left", "right")
SHARD = 64
"""Pairs in a part: what a kill can lose."""
FACTORS_LIMIT = 64 * 2**20
"""Bytes of all factors: where whole gradients would need more, none are kept (projected ones never do)."""


def build(job: Job) -> store.Store:
    """The store of a stage's pairs, made unless it is there.

    Raises:
        ArtifactError: the settings name a folder that holds a store of something else, or one that is no store.
    """
    spec = _spec(job)
    if job.config.store is not None:
        store.refuse(job.store, spec)
    return store.Store(artifacts.run_stage(job.store, spec, lambda work: _make(job, work)))


def _spec(job: Job) -> artifacts.StageSpec:
    source, pairs = job.source, artifacts.read_record(job.pairs)
    assert pairs is not None, f"{job.pairs} was read before"
    settings = {
        "loss": job.loss,
        "format": job.format,
        "precision": job.precision,
        "projection": job.config.projection,
        "store_dtype": job.config.store_dtype,
        "layers": list(job.config.layers),
        "seed": job.seed,
    }
    inputs = {"stage": artifacts.hash_json([source.identity, source.content]), "pairs": pairs.content}
    return artifacts.StageSpec(store.KIND, f"store/{source.folder.name}", VERSION, settings, inputs)


def _make(job: Job, work: Path) -> dict[str, Any]:
    pairs, model = prepare(job, work)
    return fill(Passes(model, len(pairs), job.config, work, job.source.folder.name, job.resources, job.seed))


def fill(passes: Passes) -> dict[str, Any]:
    """Write the parts of a store into the passes' folder; the summary of its record."""
    init = {
        "model": passes.model,
        "reference": passes.reference(),
        "projection": passes.config.projection,
        "seed": passes.seed,
        "store_dtype": passes.config.store_dtype,
    }
    shards = [{"start": at, "stop": min(at + SHARD, passes.pairs)} for at in range(0, passes.pairs, SHARD)]
    engine, title = engine_of(passes.resources), f"store of {passes.name}"
    parts = engine.map_shards(f"{__name__}:StoreWorker", init, shards, passes.work, passes.resources, title)
    shapes = artifacts.read_tensors(parts[0] / f"{store.SHAPES}.safetensors")
    factors = (parts[0] / f"{store.FACTORS}.safetensors").is_file()
    return {
        "pairs": passes.pairs,
        "parts": len(parts),
        "shapes": {name: shape.tolist() for name, shape in sorted(shapes.items())},
        "factors": factors,
    }


class StoreWorker:
    """Projected gradients of a shard of pairs, exact norms, and the moments of every matrix's two sides.

    Args:
        model: arguments of `PairModel`.
        reference: file of the reference log-probabilities, or None.
        projection: rank, as in `AttributeConfig`.
        seed: of the projection.
        store_dtype: of the rows.
    """

    def __init__(
        self, model: dict[str, Any], reference: str | None, projection: int, seed: int, store_dtype: quantise.Kind
    ) -> None:
        self.pairs, self.store_dtype = PairModel(**model), store_dtype
        self.reference = None if reference is None else artifacts.read_tensors(Path(reference))["values"]
        self.shapes = self.pairs.shapes()
        self.small = {name: Projection(projection, seed).shape(shape) for name, shape in self.shapes.items()}
        device = self.pairs.lm.device
        self.sides = {
            name: tuple(None if p is None else torch.from_numpy(p).to(device) for p in sides)
            for name, sides in ((n, Projection(projection, seed).sides(n, s)) for n, s in self.shapes.items())
        }
        needed = sum(4 * (a * a + b * b) for a, b in self.small.values())
        self.observe = self._observe if needed <= FACTORS_LIMIT else None
        self.moments: dict[str, torch.Tensor] = {}

    def run(self, shard: Shard) -> ShardOutput:
        """One shard: `start`, `stop`."""
        start, stop = shard["start"], shard["stop"]
        names = sorted(self.shapes)
        norm2 = np.zeros((stop - start, len(names)))
        rows = {name: np.empty((stop - start, a * b), np.float32) for name, (a, b) in self.small.items()}
        self.moments = {}
        reference = None if self.reference is None else self.reference[start:stop]
        for batch, gradients in self.pairs.gradients(start, stop, reference, self.observe):
            for column, name in enumerate(names):
                g = gradients[name]
                norm2[batch, column] = g.double().square().sum(1).cpu().numpy()
                rows[name][batch] = self._projected(name, g).cpu().numpy()
        return self._output(rows, norm2)

    def _projected(self, name: str, g: torch.Tensor) -> torch.Tensor:
        left, right = self.sides[name]
        found = g.float().reshape(-1, *self.shapes[name])
        found = found if right is None else found @ right
        found = found if left is None else left.T @ found
        return found.reshape(len(g), -1)

    def _observe(self, name: str, left: torch.Tensor, right: torch.Tensor) -> None:
        alive = (left != 0).any(-1)  # a token without gradient, such as padding, has no part in the moments
        for side, x, p in zip(SIDES, (left, right), self.sides[name], strict=True):
            kept = (x.float() if p is None else x.float() @ p)[alive]
            key, found = f"{name}/{side}", kept.T @ kept
            self.moments[key] = self.moments[key] + found if key in self.moments else found

    def _output(self, rows: dict[str, np.ndarray], norm2: np.ndarray) -> ShardOutput:
        parts = {name: quantise.encode(value, self.store_dtype) for name, value in rows.items()}
        output = {
            store.ROWS: {name: part["values"] for name, part in parts.items()},
            store.NORMS: {"norm2": norm2},
            store.SHAPES: {name: np.array(shape) for name, shape in self.shapes.items()},
        }
        if self.store_dtype == "int8":
            output[store.SCALES] = {name: part["scales"] for name, part in parts.items()}
        if self.observe is not None:
            zeros = {
                f"{name}/{side}": np.zeros((k, k), np.float32)
                for name, shape in self.small.items()
                for side, k in zip(SIDES, shape, strict=True)
            }
            output[store.FACTORS] = zeros | {key: value.cpu().numpy() for key, value in self.moments.items()}
        return output
