"""Shard workers of the influence passes. Each holds one batch of pair gradients at a time, never all of them.

ReferenceWorker   pairs            -> log pi_ref of both answers (the adapter off), once
QueryWorker       a vertical       -> sum of its items' gradients
DotsWorker        pairs, vectors   -> g_k . v on every block, ||g_k||^2 (and the gradients, where they are kept)
SumWorker         pairs, methods   -> sum_i c_i g_i over the shard, the pairs' part of H^-1 grad M
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from preftrace import artifacts, models
from preftrace.attribute.capture import Capture, Gradients
from preftrace.attribute.methods._base import Dots
from preftrace.attribute.queries import OBJECTIVES, Draw, read_query
from preftrace.engines._base import Shard, ShardOutput, shard_folder
from preftrace.models.logprobs import length_batches
from preftrace.models.losses import dpo_loss, sft_loss
from preftrace.models.prompts import Encoded
from preftrace.registry import METHODS
from preftrace.types import Checkpoint, prompt_from_json

Arrays = dict[str, np.ndarray]


class PairModel:
    """A stage's model, its pairs as tokens, and its loss.

    Args:
        checkpoint: fields of the stage's `Checkpoint`.
        pairs: a Parquet file with the columns id, prompt_json, chosen, rejected: the pairs that were trained on.
        loss: `kind` (`sft` or `dpo`), `max_length`, and for dpo `beta`.
        format: prompt format.
        precision: as in `models.load`.
        batch_tokens: padded tokens of one pass.
    """

    def __init__(
        self,
        checkpoint: Mapping[str, Any],
        pairs: str,
        loss: Mapping[str, Any],
        format: str,
        precision: str = "auto",
        batch_tokens: int = 1024,
    ) -> None:
        chain = Checkpoint(checkpoint["model"], tuple(checkpoint["adapters"]))
        self.lm = models.load(chain, format, precision=precision)
        self.loss, self.batch_tokens = loss, batch_tokens
        self.rows = [self._encode(pair) for pair in artifacts.read_table(Path(pairs)).to_pylist()]

    def _encode(self, pair: Mapping[str, Any]) -> tuple[Encoded, ...]:
        """The answers that the loss looks at, with the prompt that they were trained with."""
        answers = [pair["chosen"]] if self.loss["kind"] == "sft" else [pair["chosen"], pair["rejected"]]
        prompt = prompt_from_json(pair["prompt_json"])
        return models.encode_answers(self.lm.tokenizer, prompt, answers, self.lm.format, self.loss["max_length"])

    def gradients(self, start: int, stop: int, reference: np.ndarray | None) -> Iterator[tuple[list[int], Gradients]]:
        """Per-pair gradients of pairs start..stop, in batches of like length: (positions from start, gradients)."""
        sides = 1 if self.loss["kind"] == "sft" else 2
        lengths = [sum(len(r.prompt_ids) + len(r.answer_ids) for r in row) for row in self.rows[start:stop]]
        with Capture(self.lm) as capture:
            for batch in length_batches(lengths, self.batch_tokens):
                rows = [self.rows[start + i][side] for side in range(sides) for i in batch]
                objective = self._objective(rows, None if reference is None else reference[batch])
                yield batch, capture.gradients(rows, [*range(len(batch))] * sides, objective)

    def _objective(self, rows: list[Encoded], reference: np.ndarray | None) -> Any:
        if reference is None:
            tokens = torch.tensor([len(row.answer_ids) for row in rows], device=self.lm.device)
            return lambda logprobs: sft_loss(logprobs, tokens)
        n, beta = len(reference), self.loss["beta"]

        def objective(logprobs: torch.Tensor) -> torch.Tensor:
            ref = torch.as_tensor(reference, dtype=logprobs.dtype, device=logprobs.device)
            return dpo_loss(logprobs[:n], logprobs[n:], ref[:, 0], ref[:, 1], beta)

        return objective


class ReferenceWorker:
    """Log-probabilities of both answers with the adapter off: `reference.values` `(n, 2)`."""

    def __init__(self, **model: Any) -> None:
        self.pairs = PairModel(**model)

    def run(self, shard: Shard) -> ShardOutput:
        """One shard: `start`, `stop`."""
        rows = [side for row in self.pairs.rows[shard["start"] : shard["stop"]] for side in row]
        with self.pairs.lm.model.disable_adapter():
            values = models.completion_logprobs(self.pairs.lm, rows, batch_tokens=self.pairs.batch_tokens)
        return {"reference": {"values": values.reshape(-1, 2)}}


class QueryWorker:
    """Sum over a few items of a vertical of the gradient of their part of M_v: `query`, name -> `(numel,)`."""

    def __init__(
        self,
        checkpoint: Mapping[str, Any],
        evaluation: str,
        format: str,
        precision: str,
        draw: Mapping[str, Any],
    ) -> None:
        chain = Checkpoint(checkpoint["model"], tuple(checkpoint["adapters"]))
        self.lm = models.load(chain, format, precision=precision)
        self.query = read_query(Path(evaluation), self.lm.tokenizer, format, Draw(**draw))

    def run(self, shard: Shard) -> ShardOutput:
        """One shard: positions `items` in the query's items; computed as one batch."""
        items = [self.query.items[i] for i in shard["items"]]
        groups = [i for i, item in enumerate(items) for _ in item.rows]
        objective = OBJECTIVES[self.query.kind](groups, [w for item in items for w in item.weights])
        with Capture(self.lm) as capture:
            rows = [row for item in items for row in item.rows]
            gradients = capture.gradients(rows, groups, objective, self.query.temperature)
        return {"query": {name: value.sum(0).cpu().numpy() for name, value in gradients.items()}}


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
        n, blocks = shard["stop"] - shard["start"], sorted(self.vectors)
        queries = len(self.vectors[blocks[0]])
        query, norm2 = np.zeros((n, len(blocks), queries)), np.zeros((n, len(blocks)))
        held: Arrays = {}
        batches: list[list[int]] = []
        for batch, gradients in self.batches(shard):
            batches.append(batch)
            for column, name in enumerate(blocks):
                g = gradients[name]
                query[batch, column] = g @ self.vectors[name].T
                norm2[batch, column] = np.einsum("nd,nd->n", g, g, dtype=np.float64)
                if self.keep:
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

    def __init__(self, methods: list[str], damping: float, dots: str, totals: str, **rest: Any) -> None:
        super().__init__(**rest)
        self.methods, self.damping, self.dots = methods, damping, Path(dots)
        self.totals = artifacts.read_tensors(Path(totals))

    def run(self, shard: Shard) -> ShardOutput:
        """One shard: `index`, `start`, `stop`."""
        dots = read_dots(self.dots, shard["index"], self.totals)
        parts = [METHODS.load(name).combine(dots, self.damping).pairs for name in self.methods]
        weights = np.concatenate(parts, axis=2)
        finite = np.isfinite(dots.norm2).all(1)
        sums: Arrays = {}
        for batch, gradients in self.batches(shard):
            kept = finite[batch]
            for column, name in enumerate(sorted(gradients)):
                part = weights[batch, column][kept].T @ gradients[name][kept]
                sums[name] = sums[name] + part if name in sums else part
        return {"sum": sums}


def _read_batches(folder: Path) -> Iterator[tuple[list[int], Arrays]]:
    """The kept gradients of a shard in the batches they were computed in, so that sums round the same way."""
    held = artifacts.read_tensors(folder / "gradients.safetensors")
    layout = artifacts.read_tensors(folder / "batches.safetensors")
    for batch in np.split(layout["order"], np.cumsum(layout["sizes"])[:-1]):
        yield batch.tolist(), {name: value[batch] for name, value in held.items()}


def read_dots(folder: Path, index: int, totals: Mapping[str, np.ndarray]) -> Dots:
    """The first pass's numbers of one shard, with the totals over all pairs."""
    dots = artifacts.read_tensors(shard_folder(folder, index) / "dots.safetensors")
    return Dots(dots["query"], dots["norm2"], totals["norm2"], totals["size"], int(totals["pairs"][0]))
