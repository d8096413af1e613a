"""Pair gradients of the DPO loss against their floor, and how exact they are. On the CPU.

    python benchmarks/attribution.py --pairs FILE                    # prints a table
    python benchmarks/attribution.py --pairs FILE --json found.json  # and writes all numbers

FILE holds preference pairs, such as HH transcripts; the first 64 whose answers fit 256 tokens are used, prompts cut
from the left. The model is the starter's (SmolLM2-135M), float32, with LoRA r=8 on all linear modules, A and B random.

**The floor**: forward and backward pass of PEFT's model over the same pairs, each as two rows [prompt + chosen] and
[prompt + rejected], plain batches sorted by length, full logits, at the batch size that is best for it, found first.
**The pass**: every pair's gradient, its dot products with five queries and its squared norm, matrix by matrix, as the
influence stage computes them. Both have the reference's log-probabilities beforehand. They take turns in one process
after one of each that is not counted; `ratio_to_floor` is median pass / median floor, `five_over_one` the pass with
five queries over the pass with one. `max_rel_err` is the largest relative error (Frobenius norm) of any matrix of the
first pairs against autograd.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _machine import circumstances, clocked, write

from preftrace import models, preferences
from preftrace.attribute.capture import Capture
from preftrace.config import AdapterConfig
from preftrace.models import adapters
from preftrace.models.logprobs import length_batches
from preftrace.models.lora import lora_layers
from preftrace.models.losses import dpo_loss
from preftrace.models.packing import packed_length
from preftrace.models.prompts import Encoded
from preftrace.types import Checkpoint

BETA, QUERIES, MAX_LENGTH = 0.1, 5, 256
SIZES = (1, 2, 4, 8)
CHECKED = 3
"""Pairs whose gradients are compared with autograd's."""


class Bench:
    """The model, the pairs as rows, and both sides of the comparison."""

    def __init__(self, asked: argparse.Namespace) -> None:
        lm = models.load(Checkpoint(asked.model), merge=True, device="cpu", precision="float32")
        self.lm = replace(lm, model=adapters.attach(lm.model, AdapterConfig(), 0).eval())
        draw = torch.Generator().manual_seed(0)
        for layer in lora_layers(self.lm):
            layer.b.data.copy_(0.01 * torch.randn(layer.b.shape, generator=draw))
        settings = preferences.PreferencesConfig(source=asked.source, path=asked.pairs)
        self.rows: list[tuple[Encoded, ...]] = []
        for pair in preferences.read_pairs(settings):
            row = models.encode_answers(lm.tokenizer, pair.prompt, [pair.chosen, pair.rejected], "raw", MAX_LENGTH)
            if max(len(side.prompt_ids) + len(side.answer_ids) for side in row) <= MAX_LENGTH:
                self.rows.append(row)
            if len(self.rows) == asked.count:
                break
        flat = [side for row in self.rows for side in row]
        with self.lm.model.disable_adapter():
            self.reference = models.completion_logprobs(self.lm, flat).reshape(-1, 2)
        with Capture(self.lm) as capture:
            shapes = capture.shapes
        rng = np.random.default_rng(0)
        self.queries = {
            name: rng.standard_normal((QUERIES, int(np.prod(shape))), dtype=np.float32)
            for name, shape in shapes.items()
        }

    def objective(self, batch: Sequence[int]) -> Any:
        """From the log-probabilities of chosen answers, then rejected ones, to the pairs' losses."""
        reference, n = torch.as_tensor(self.reference[list(batch)]), len(batch)

        def losses(values: torch.Tensor) -> torch.Tensor:
            ref = reference.to(values.dtype)
            return dpo_loss(values[:n], values[n:], ref[:, 0], ref[:, 1], BETA)

        return losses

    def dots(self, tokens: int, queries: int = QUERIES) -> np.ndarray:
        """Every pair's dot products `(n, L, Q + 1)`; the last is its squared norm."""
        vectors = {name: value[:queries] for name, value in self.queries.items()}
        found = np.zeros((len(self.rows), len(vectors), queries + 1))
        with Capture(self.lm) as capture:
            for batch in length_batches([packed_length(row) for row in self.rows], tokens):
                rows = [self.rows[i][side] for side in (0, 1) for i in batch]
                gradients = capture.gradients(rows, [*range(len(batch))] * 2, self.objective(batch))
                for column, name in enumerate(sorted(vectors)):
                    g = gradients[name].numpy()
                    found[batch, column, :queries] = g @ vectors[name].T
                    found[batch, column, queries] = np.einsum("nd,nd->n", g, g, dtype=np.float64)
        return found

    def floor(self, size: int) -> None:
        """Forward and backward of all pairs, as one writes it with PEFT."""
        trained = [p for layer in lora_layers(self.lm) for p in (layer.a, layer.b)]
        for weight in trained:
            weight.requires_grad_(True)
        order = sorted(range(len(self.rows)), key=lambda i: -packed_length(self.rows[i]))
        for at in range(0, len(order), size):
            batch = order[at : at + size]
            rows = [self.rows[i][side] for side in (0, 1) for i in batch]
            self.objective(batch)(self.plain(rows)).sum().backward()
        for weight in trained:
            weight.requires_grad_(False)
            weight.grad = None

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

    def largest_error(self) -> float:
        """Of the first pairs' gradients, matrix by matrix, against autograd on the pair alone."""
        named = {f"{la.name}.lora_{s}.weight": w for la in lora_layers(self.lm) for s, w in (("A", la.a), ("B", la.b))}
        batch = [*range(min(CHECKED, len(self.rows)))]
        rows = [self.rows[i][side] for side in (0, 1) for i in batch]
        with Capture(self.lm) as capture:
            found = capture.gradients(rows, batch * 2, self.objective(batch))
        worst = 0.0
        for weight in named.values():
            weight.requires_grad_(True)
        for i in batch:
            loss = self.objective([i])(self.plain(self.rows[i])).sum()
            for name, exact in zip(named, torch.autograd.grad(loss, list(named.values())), strict=True):
                error = (found[name][i] - exact.flatten()).norm() / exact.norm()
                worst = max(worst, float(error))
        for weight in named.values():
            weight.requires_grad_(False)
        return worst


def measure(asked: argparse.Namespace) -> dict[str, Any]:
    """Floors and passes in turns."""
    bench = Bench(asked)
    tried = {size: clocked(lambda size=size: bench.floor(size))[0] for size in (SIZES[0], *SIZES)}
    best = min(tried, key=lambda size: tried[size])
    bench.dots(asked.batch_tokens)
    seconds: dict[str, list[float]] = {"floor": [], "five": [], "one": []}
    for _ in range(asked.rounds):
        seconds["floor"].append(clocked(lambda: bench.floor(best))[0])
        seconds["five"].append(clocked(lambda: bench.dots(asked.batch_tokens))[0])
        seconds["one"].append(clocked(lambda: bench.dots(asked.batch_tokens, 1))[0])
    middle = {side: statistics.median(found) for side, found in seconds.items()}
    pairs = len(bench.rows)
    return {
        "ratio_to_floor": middle["five"] / middle["floor"],
        "five_over_one": middle["five"] / middle["one"],
        "max_rel_err": bench.largest_error(),
        "pairs_per_second": {"floor": pairs / middle["floor"], "pass": pairs / middle["five"]},
        "seconds_of_all_rounds": seconds,
        "floor_batch_sizes_tried": tried,
        "pairs": pairs,
        "tokens": {
            "floor": sum(len(side.prompt_ids) + len(side.answer_ids) for row in bench.rows for side in row),
            "pass": sum(packed_length(row) for row in bench.rows),
        },
        "batch_tokens": asked.batch_tokens,
    }


def show(found: dict[str, Any]) -> None:
    """Print the table."""
    for side in ("floor", "pass"):
        print(f"{side:6}{found['tokens'][side]:8} tokens{found['pairs_per_second'][side]:8.2f} pairs a second")
    for key in ("ratio_to_floor", "five_over_one", "max_rel_err"):
        print(f"{key:16} {found[key]:.3g}")


def main(words: Sequence[str]) -> int:
    """The script."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write all numbers to this file")
    parser.add_argument("--pairs", type=Path, help="file of preference pairs (the starter's own)")
    parser.add_argument("--model", default="starter", help="starter, a Hub id or a folder")
    parser.add_argument("--count", type=int, default=64, help="pairs")
    parser.add_argument("--rounds", type=int, default=3, help="floors and passes that are timed")
    parser.add_argument("--batch-tokens", type=int, default=1024, help="as in attribute.batch_tokens")
    asked = parser.parse_args(words)
    asked.source = "starter" if asked.pairs is None else "hh"
    asked.pairs = None if asked.pairs is None else str(asked.pairs)
    found = circumstances(__file__, words) | measure(asked)
    show(found)
    write(found, asked.json)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
