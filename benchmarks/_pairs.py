"""The ground of the benchmarks of attribution: a model with a random adapter, real pairs, five queries."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from preftrace import artifacts, models, preferences
from preftrace.attribute.capture import Capture
from preftrace.attribute.config import AttributeConfig
from preftrace.attribute.streaming import REFERENCE, Passes
from preftrace.config import AdapterConfig
from preftrace.engines import Resources
from preftrace.models import adapters
from preftrace.models.logprobs import length_batches
from preftrace.models.lora import lora_layers
from preftrace.models.losses import dpo_loss
from preftrace.models.packing import packed_length
from preftrace.models.prompts import Encoded
from preftrace.types import Checkpoint, Pair

BETA, QUERIES, MAX_LENGTH = 0.1, 5, 256
OTHERS = 4
"""Further pairs whose gradients make one query."""


class Ground:
    """The model, the pairs as rows with the reference's log-probabilities, and the queries.

    Args:
        asked: model, source and pairs (a file of them, or None), and count; 20 pairs more make the queries.
    """

    def __init__(self, asked: argparse.Namespace) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="preftrace-bench-"))
        lm = models.load(Checkpoint(asked.model), merge=True, device="cpu", precision="float32")
        lm = replace(lm, model=adapters.attach(lm.model, AdapterConfig(), 0).eval())
        draw = torch.Generator().manual_seed(0)
        for layer in lora_layers(lm):
            layer.b.data.copy_(0.01 * torch.randn(layer.b.shape, generator=draw))
        adapters.save_adapter(lm.model, self.home / "adapter")
        self.lm, self.checkpoint = lm, Checkpoint(asked.model, (str(self.home / "adapter"),))
        self.pairs: list[Pair] = []
        self.rows: list[tuple[Encoded, ...]] = []
        settings = preferences.PreferencesConfig(source=asked.source, path=asked.pairs)
        for pair in preferences.read_pairs(settings):
            row = models.encode_answers(lm.tokenizer, pair.prompt, [pair.chosen, pair.rejected], "raw", MAX_LENGTH)
            if max(len(side.prompt_ids) + len(side.answer_ids) for side in row) <= MAX_LENGTH:
                self.rows.append(row)
                self.pairs.append(pair)
            if len(self.rows) == asked.count + QUERIES * OTHERS:
                break
        flat = [side for row in self.rows for side in row]
        with lm.model.disable_adapter():
            self.reference = models.completion_logprobs(lm, flat).reshape(-1, 2)
        self.queries = self._queries()
        kept = len(self.rows) - QUERIES * OTHERS
        self.pairs, self.rows, self.reference = self.pairs[:kept], self.rows[:kept], self.reference[:kept]

    def _queries(self) -> dict[str, np.ndarray]:
        """Matrix -> `(5, numel)`, the sums of the gradients of a few of the last pairs each."""
        found: dict[str, list[np.ndarray]] = {}
        last = range(len(self.rows) - QUERIES * OTHERS, len(self.rows))
        with Capture(self.lm) as capture:
            for at in range(0, len(last), OTHERS):
                batch = [*last[at : at + OTHERS]]
                rows = [self.rows[i][side] for side in (0, 1) for i in batch]
                gradients = capture.gradients(rows, [*range(len(batch))] * 2, self.objective(batch))
                for name, g in gradients.items():
                    found.setdefault(name, []).append(g.sum(0).numpy())
        return {name: np.stack(rows) for name, rows in sorted(found.items())}

    def objective(self, batch: Sequence[int]) -> Any:
        """From the log-probabilities of chosen answers, then rejected ones, to the pairs' losses."""
        reference, n = torch.as_tensor(self.reference[list(batch)]), len(batch)

        def losses(values: torch.Tensor) -> torch.Tensor:
            ref = reference.to(values.dtype)
            return dpo_loss(values[:n], values[n:], ref[:, 0], ref[:, 1], BETA)

        return losses

    def dots(self, tokens: int, queries: int = QUERIES, lm: Any = None) -> np.ndarray:
        """Every pair's dot products `(n, L, Q + 1)`; the last is its squared norm."""
        vectors = {name: value[:queries] for name, value in self.queries.items()}
        found = np.zeros((len(self.rows), len(vectors), queries + 1))
        with Capture(lm or self.lm) as capture:
            for batch in length_batches([packed_length(row) for row in self.rows], tokens):
                rows = [self.rows[i][side] for side in (0, 1) for i in batch]
                gradients = capture.gradients(rows, [*range(len(batch))] * 2, self.objective(batch))
                for column, name in enumerate(sorted(vectors)):
                    g = gradients[name]
                    found[batch, column, :queries] = g.numpy() @ vectors[name].T
                    found[batch, column, queries] = torch.linalg.vector_norm(g, dim=1, dtype=torch.float64).square()
        return found

    def plain(self, rows: Sequence[Encoded]) -> torch.Tensor:
        """Log-probability of every row's answer, from full logits."""
        width = max(len(row.prompt_ids) + len(row.answer_ids) for row in rows)
        ids = torch.full((len(rows), width), self.lm.pad_id)
        mask, answer = torch.zeros_like(ids), torch.zeros_like(ids)
        for i, row in enumerate(rows):
            whole = row.prompt_ids + row.answer_ids
            ids[i, : len(whole)] = torch.tensor(whole)
            mask[i, : len(whole)] = 1
            answer[i, len(row.prompt_ids) : len(whole)] = 1
        logits = self.lm.model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
        flat = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        return -(flat.reshape(len(rows), -1) * answer[:, 1:]).sum(1)

    def trained(self) -> dict[str, torch.nn.Parameter]:
        """The adapter's matrices under the names of the passes."""
        layers = lora_layers(self.lm)
        return {f"{la.name}.lora_{s}.weight": w for la in layers for s, w in (("A", la.a), ("B", la.b))}

    def passes(self, work: Path, **settings: Any) -> Passes:
        """The influence stage's passes over the pairs, in a folder of their own."""
        return passes_of(self.checkpoint, self.pairs, self.reference, work, **settings)


def random_queries(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray]:
    """Matrix -> `(5, numel)`."""
    rng = np.random.default_rng(seed)
    return {n: rng.standard_normal((QUERIES, int(np.prod(s))), dtype=np.float32) for n, s in sorted(shapes.items())}


def passes_of(
    checkpoint: Checkpoint, pairs: Sequence[Pair], reference: np.ndarray | None, work: Path, **settings: Any
) -> Passes:
    """Passes over pairs under the DPO loss; settings are those of `AttributeConfig`."""
    artifacts.write_table(work / "_pairs.parquet", preferences.pairs_to_table(list(pairs)))
    if reference is not None:
        artifacts.write_tensors(work / REFERENCE, {"values": reference})
    model = {
        "checkpoint": asdict(checkpoint),
        "pairs": str(work / "_pairs.parquet"),
        "loss": {"kind": "dpo", "max_length": MAX_LENGTH, "beta": BETA},
        "format": "raw",
        "precision": "float32",
        "batch_tokens": settings.get("batch_tokens", 1024),
    }
    return Passes(model, len(pairs), AttributeConfig(**settings), work, "bench", Resources(), 0)
