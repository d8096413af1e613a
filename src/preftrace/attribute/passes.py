"""Shard workers of the influence passes. Each holds one batch of pair gradients at a time, never all of them.

ReferenceWorker   pairs            -> log pi_ref of both answers (the adapter off), once
QueryWorker       a vertical       -> sum of its items' gradients
NormsWorker       pairs            -> ||g_k||^2 on every block
DotsWorker        pairs, vectors   -> g_k . v on every block, ||g_k||^2 (and the gradients, where they are kept)
SumWorker         pairs, methods   -> sum_i c_i g_i over the shard, the pairs' part of H^-1 grad M
DotsAndSumsWorker pairs, both      -> the two at once, where lambda is known beforehand
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from preftrace import artifacts, models
from preftrace.attribute.capture import Capture
from preftrace.attribute.methods._base import Dots
from preftrace.attribute.objectives import OBJECTIVES, Objective
from preftrace.attribute.pair_model import PairModel, load_model
from preftrace.attribute.queries import Draw, QueryItem, read_query
from preftrace.engines._base import Shard, ShardOutput, shard_folder
from preftrace.registry import METHODS

Arrays = dict[str, np.ndarray]


class ReferenceWorker:
    """Log-probabilities of both answers with the adapter off: `reference.values` `(n, 2)`."""

    def __init__(self, **model: Any) -> None:
        self.pairs = PairModel(**model)

    def run(self, shard: Shard) -> ShardOutput:
        """One shard: `start`, `stop`."""
        rows = [side for row in self.pairs.rows(shard["start"], shard["stop"]) for side in row]
        with self.pairs.lm.model.disable_adapter():
            values = models.completion_logprobs(self.pairs.lm, rows, batch_tokens=self.pairs.batch_tokens)
        return {"reference": {"values": values.reshape(-1, 2)}}


class QueryWorker:
    """Sum over a few items of a vertical of the gradient of their part of M_v: `query`, name -> `(numel,)`.

    Args:
        checkpoint: fields of the `Checkpoint` whose parameters the query is a function of.
        evaluations: folder of the vertical's evaluation, and, where the query looks back, of the same before.
        loss: as in `PairModel`.
        format: prompt format.
        precision: as in `models.load`.
        draw: fields of the `Draw`.
        layers: as in `AttributeConfig`.
    """

    def __init__(
        self,
        checkpoint: Mapping[str, Any],
        evaluations: Sequence[str],
        loss: Mapping[str, Any],
        format: str,
        precision: str,
        draw: Mapping[str, Any],
        layers: Sequence[str] = (),
    ) -> None:
        self.lm, self.loss = load_model(checkpoint, loss["kind"], format, precision), loss
        self.layers, (folder, *before) = layers, map(Path, evaluations)
        self.query = read_query(folder, self.lm.tokenizer, format, Draw(**draw), *before)

    def run(self, shard: Shard) -> ShardOutput:
        """One shard: positions `items` in the query's items; computed as one batch."""
        items = [self.query.items[i] for i in shard["items"]]
        groups = [i for i, item in enumerate(items) for _ in item.rows]
        objective = self._objective(items, groups)
        with Capture(self.lm, self.layers) as capture:
            rows = [row for item in items for row in item.rows]
            gradients = capture.gradients(rows, groups, objective, self.query.temperature)
        return {"query": {name: value.sum(0).cpu().numpy() for name, value in gradients.items()}}

    def _objective(self, items: list[QueryItem], groups: list[int]) -> Objective:
        plain = OBJECTIVES[self.query.kind](groups, [w for item in items for w in item.weights])
        if self.query.kind != "paper" or self.loss["kind"] != "dpo":
            return plain
        rows = [row for item in items for row in item.rows]
        with self.lm.model.disable_adapter():
            reference = models.completion_logprobs(self.lm, rows, temperature=self.query.temperature)

        def objective(values: torch.Tensor) -> torch.Tensor:
            ref = torch.as_tensor(reference, dtype=values.dtype, device=values.device)
            return plain(self.loss["beta"] * (values - ref))

        return objective


class _GradientPass:
    """What the passes over pairs share: gradients of a shard, computed or read where an earlier pass kept them."""

    def __init__(self, model: dict[str, Any], reference: str | None, kept: str | None) -> None:
        self.model, self.kept = model, kept
        self.reference = None if reference is None else artifacts.read_tensors(Path(reference))["values"]
        self._pairs: PairModel | None = None

    def batches(self, shard: Shard) -> Iterator[tuple[list[int], Arrays]]:
        start, stop = shard["start"], shard["stop"]
        if self.kept is not None:
            yield from _read_batches(shard_folder(Path(self.kept), shard["index"]))
            return
        self._pairs = self._pairs or PairModel(**self.model)
        reference = None if self.reference is None else self.reference[start:stop]
        for batch, gradients in self._pairs.gradients(start, stop, reference):
            yield batch, {name: value.cpu().numpy() for name, value in gradients.items()}


class NormsWorker(_GradientPass):
    """Squared norms of every pair's gradient: `norms.norm2` `(n, L)`.

    Args:
        model: arguments of `PairModel`.
        reference: file of the reference log-probabilities, or None.
        kept: folder of an earlier pass that wrote the gradients, or None to compute them.
    """

    def run(self, shard: Shard) -> ShardOutput:
        """One shard: `index`, `start`, `stop`."""
        found: dict[int, np.ndarray] = {}
        for batch, gradients in self.batches(shard):
            found.update(zip(batch, _norm2(gradients), strict=True))
        return {"norms": {"norm2": np.stack([found[i] for i in sorted(found)])}}


class DotsWorker(_GradientPass):
    """Dot products of every pair's gradient with Q vectors: `dots.query` `(n, L, Q)`, `dots.norm2` `(n, L)`.

    Args:
        vectors: a safetensors file, block name -> `(Q, numel)`.
        keep: also write the gradients, block name -> `(n, numel)`.
        model: arguments of `PairModel`.
        reference: file of the reference log-probabilities, or None.
        kept: folder of an earlier pass that wrote the gradients, or None to compute them.
    """

    def __init__(self, vectors: str, keep: bool, **rest: Any) -> None:
        super().__init__(**rest)
        self.vectors, self.keep = artifacts.read_tensors(Path(vectors)), keep

    def run(self, shard: Shard) -> ShardOutput:
        """One shard: `index`, `start`, `stop`."""
        n = shard["stop"] - shard["start"]
        query, norm2 = _room(n, self.vectors)
        held: Arrays = {}
        batches: list[list[int]] = []
        for batch, gradients in self.batches(shard):
            batches.append(batch)
            query[batch], norm2[batch] = _query(gradients, self.vectors), _norm2(gradients)
            for name, g in gradients.items() if self.keep else ():
                held.setdefault(name, np.empty((n, g.shape[1]), g.dtype))[batch] = g
        output: dict[str, Arrays] = {"dots": {"query": query, "norm2": norm2}}
        if self.keep:
            sizes = np.array([len(batch) for batch in batches])
            output |= {"gradients": held, "batches": {"order": np.concatenate(batches), "sizes": sizes}}
        return output


class SumWorker(_GradientPass):
    """The pairs' part of H^-1 grad M over the shard: `sum`, block name -> `(methods x Q, numel)`.

    Args:
        methods: names of methods that need it.
        damping: as in `AttributeConfig`.
        dots: folder of the first pass.
        totals: safetensors file with `norm2` `(L,)` summed over the pairs with finite gradients, their
            number `pairs` `(1,)`, and `size` `(L,)`.
        model: arguments of `PairModel`.
        reference: file of the reference log-probabilities, or None.
        kept: folder of an earlier pass that wrote the gradients, or None to compute them.
    """

    def __init__(self, methods: list[str], damping: float | None, dots: str, totals: str, **rest: Any) -> None:
        super().__init__(**rest)
        self.methods, self.damping, self.dots = methods, damping, Path(dots)
        self.totals = artifacts.read_tensors(Path(totals))

    def run(self, shard: Shard) -> ShardOutput:
        """One shard: `index`, `start`, `stop`."""
        found = read_dots(self.dots, shard["index"])
        dots = dots_of(found["query"], found["norm2"], self.totals)
        weights = _weights(self.methods, dots, self.damping)
        sums: Arrays = {}
        for batch, gradients in self.batches(shard):
            _add(sums, gradients, weights[batch], dots.norm2[batch])
        return {"sum": sums}


class DotsAndSumsWorker(_GradientPass):
    """What `DotsWorker` and `SumWorker` give, from one computation of the gradients.

    Args:
        vectors: a safetensors file, block name -> `(Q, numel)`.
        methods: names of methods that combine pairs.
        damping: as in `AttributeConfig`.
        totals: as in `SumWorker`, of any pairs that stand for all of them.
        model: arguments of `PairModel`.
        reference: file of the reference log-probabilities, or None.
        kept: folder of an earlier pass that wrote the gradients, or None to compute them.
    """

    def __init__(self, vectors: str, methods: list[str], damping: float | None, totals: str, **rest: Any) -> None:
        super().__init__(**rest)
        self.vectors, self.totals = (artifacts.read_tensors(Path(path)) for path in (vectors, totals))
        self.methods, self.damping = methods, damping

    def run(self, shard: Shard) -> ShardOutput:
        """One shard: `index`, `start`, `stop`."""
        query, norm2 = _room(shard["stop"] - shard["start"], self.vectors)
        sums: Arrays = {}
        for batch, gradients in self.batches(shard):
            query[batch], norm2[batch] = _query(gradients, self.vectors), _norm2(gradients)
            dots = dots_of(query[batch], norm2[batch], self.totals)
            _add(sums, gradients, _weights(self.methods, dots, self.damping), dots.norm2)
        return {"dots": {"query": query, "norm2": norm2}, "sum": sums}


def _room(n: int, vectors: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """Arrays for the dot products `(n, L, Q)` and the norms `(n, L)` of n pairs."""
    return np.zeros((n, len(vectors), len(next(iter(vectors.values()))))), np.zeros((n, len(vectors)))


def _query(gradients: Arrays, vectors: Arrays) -> np.ndarray:
    """`(m, L, Q)` g_kl . v_lq, blocks by name."""
    return np.stack([gradients[name] @ vectors[name].T for name in sorted(vectors)], axis=1)


def _norm2(gradients: Arrays) -> np.ndarray:
    """`(m, L)` ||g_kl||^2 in float64, blocks by name."""
    # Of PyTorch, half the time of numpy's where a gradient's numbers are narrower than the sum.
    found = (torch.from_numpy(g) for _, g in sorted(gradients.items()))
    norms = [torch.linalg.vector_norm(g, dim=1, dtype=torch.float64) for g in found]
    return torch.stack(norms, dim=1).square().numpy()


def _weights(methods: Sequence[str], dots: Dots, damping: float | None) -> np.ndarray:
    """`(m, L, methods x Q)` coefficients of the pairs."""
    parts = [METHODS.load(name).combine(dots, damping).pairs for name in methods]
    return np.concatenate(parts, axis=2)


def _add(sums: Arrays, gradients: Arrays, weights: np.ndarray, norm2: np.ndarray) -> None:
    """Add weights `(m, L, W)` x gradients `(m, numel)` of the pairs that are finite, block name -> `(W, numel)`."""
    kept = np.isfinite(norm2).all(1)
    for column, name in enumerate(sorted(gradients)):
        part = weights[kept, column].T @ gradients[name][kept]
        sums[name] = sums[name] + part if name in sums else part


def _read_batches(folder: Path) -> Iterator[tuple[list[int], Arrays]]:
    """The kept gradients of a shard in the batches they were computed in, so that sums round the same way."""
    held = artifacts.read_tensors(folder / "gradients.safetensors")
    layout = artifacts.read_tensors(folder / "batches.safetensors")
    for batch in np.split(layout["order"], np.cumsum(layout["sizes"])[:-1]):
        yield batch.tolist(), {name: value[batch] for name, value in held.items()}


def read_dots(folder: Path, index: int) -> Arrays:
    """What `DotsWorker` found of one shard: `query` `(m, L, Q)`, `norm2` `(m, L)`."""
    return artifacts.read_tensors(shard_folder(folder, index) / "dots.safetensors")


def dots_of(query: np.ndarray, norm2: np.ndarray, totals: Mapping[str, np.ndarray]) -> Dots:
    """Some pairs' numbers as the methods take them, with the totals over all pairs."""
    return Dots(query, norm2, totals["norm2"], totals["size"], int(totals["pairs"][0]))
