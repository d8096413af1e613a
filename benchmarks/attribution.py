"""Pair gradients of the DPO loss against their floor, influence from them, and how exact both are. On the CPU.

    python benchmarks/attribution.py --pairs FILE                    # prints a table
    python benchmarks/attribution.py --pairs FILE --json found.json  # and writes all numbers

FILE holds preference pairs, such as HH transcripts; the first 64 whose answers fit 256 tokens are used, prompts cut
from the left. The model is the starter's (SmolLM2-135M), float32, with LoRA r=8 on all linear modules, A and B random.

**The floor**: forward and backward pass of PEFT's model over the same pairs, each as two rows [prompt + chosen] and
[prompt + rejected], plain batches sorted by length, full logits, at the batch size that is best for it, found first.
**The pass**: every pair's gradient, its dot products with five queries and its squared norm, matrix by matrix, as the
influence stage computes them. Both have the reference's log-probabilities beforehand. They take turns in one process
after one of each that is not counted; `ratio_to_floor` is median pass / median floor, `five_over_one` the pass with
five queries over the pass with one, `bf16_over_float32` the pass in bfloat16 over that in float32, with the lowest rank
correlation of its dot products. `max_rel_err` is the largest relative error (Frobenius norm) of any matrix of any pair
against autograd.

**Scores** (`_scores.py`): DataInf of five queries by the streaming passes and through a store, both with the loading of
the model, against the loop as its authors write it, which has it loaded: `speedup_streaming`, `speedup_store`;
`second_query_share` is five other queries over the finished store, over the building of it.
**Growth** (`_growth.py`): on a small model, the peak memory of 1,600 pairs over that of 400, less 1, in both modes, and
an int8 store's bytes over a bf16 one's, with the share of 100 pairs of highest score that they have in common.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import _growth
import _scores
import torch
from _machine import circumstances, clocked, write
from _pairs import QUERIES, Ground
from scipy.stats import spearmanr

from preftrace import models, progress
from preftrace.attribute.capture import Capture
from preftrace.models.packing import packed_length

SIZES = (1, 2, 4, 8)
KEYS = (
    "ratio_to_floor",
    "five_over_one",
    "bf16_over_float32",
    "bf16_spearman",
    "max_rel_err",
    "speedup_streaming",
    "speedup_store",
    "second_query_share",
    "streaming_max_rel_err",
    "store_spearman",
    "rss_growth_streaming",
    "rss_growth_store",
    "int8_bytes_ratio",
    "int8_top100_overlap",
)


def floor(ground: Ground, size: int) -> None:
    """Forward and backward of all pairs, as one writes it with PEFT."""
    trained = ground.trained().values()
    for weight in trained:
        weight.requires_grad_(True)
    order = sorted(range(len(ground.rows)), key=lambda i: -packed_length(ground.rows[i]))
    for at in range(0, len(order), size):
        batch = order[at : at + size]
        rows = [ground.rows[i][side] for side in (0, 1) for i in batch]
        ground.objective(batch)(ground.plain(rows)).sum().backward()
    for weight in trained:
        weight.requires_grad_(False)
        weight.grad = None


def largest_error(ground: Ground, pairs: int) -> float:
    """Of the first pairs' gradients, matrix by matrix, against autograd on the pair alone."""
    named, worst = ground.trained(), 0.0
    for i in range(min(pairs, len(ground.rows))):
        with Capture(ground.lm) as capture:
            found = capture.gradients(list(ground.rows[i]), [0, 0], ground.objective([i]))
        for weight in named.values():
            weight.requires_grad_(True)
        loss = ground.objective([i])(ground.plain(ground.rows[i])).sum()
        for name, exact in zip(named, torch.autograd.grad(loss, list(named.values())), strict=True):
            worst = max(worst, float((found[name][0] - exact.flatten()).norm() / exact.norm()))
        for weight in named.values():
            weight.requires_grad_(False)
    return worst


def gradients(asked: argparse.Namespace, ground: Ground) -> dict[str, Any]:
    """Floors and passes in turns."""
    sizes = asked.sizes
    tried = {size: clocked(lambda size=size: floor(ground, size))[0] for size in (sizes[0], *sizes)}
    best = min(tried, key=lambda size: tried[size])
    low = models.load(ground.checkpoint, device="cpu", precision="bfloat16")
    tokens = asked.batch_tokens
    turns = {
        "floor": lambda: floor(ground, best),
        "five": lambda: ground.dots(tokens),
        "one": lambda: ground.dots(tokens, 1),
        "bf16": lambda: ground.dots(tokens, lm=low),
    }
    ground.dots(tokens)
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    found: dict[str, Any] = {}
    for _ in range(asked.rounds):
        for name, turn in turns.items():
            took, found[name] = clocked(turn)
            seconds[name].append(took)
    middle = {side: statistics.median(taken) for side, taken in seconds.items()}
    pairs = len(ground.rows)
    return {
        "ratio_to_floor": middle["five"] / middle["floor"],
        "five_over_one": middle["five"] / middle["one"],
        "bf16_over_float32": middle["bf16"] / middle["five"],
        "bf16_spearman": agreement(found["bf16"], found["five"]),
        "max_rel_err": largest_error(ground, pairs),
        "pairs_per_second": {"floor": pairs / middle["floor"], "pass": pairs / middle["five"]},
        "seconds_of_all_rounds": seconds,
        "floor_batch_sizes_tried": tried,
        "pairs": pairs,
        "tokens": {
            "floor": sum(len(side.prompt_ids) + len(side.answer_ids) for row in ground.rows for side in row),
            "pass": sum(packed_length(row) for row in ground.rows),
        },
        "batch_tokens": asked.batch_tokens,
    }


def agreement(one: Any, other: Any) -> float:
    """The lowest rank correlation of a query's dot products, summed over matrices."""
    return min(float(spearmanr(one[..., q].sum(1), other[..., q].sum(1))[0]) for q in range(QUERIES))


def show(found: dict[str, Any]) -> None:
    """Print the table."""
    for side in ("floor", "pass") if "tokens" in found else ():
        print(f"{side:6}{found['tokens'][side]:8} tokens{found['pairs_per_second'][side]:8.2f} pairs a second")
    for key in KEYS:
        if key in found:
            print(f"{key:22} {found[key]:.3g}")


def main(words: Sequence[str]) -> int:
    """The script."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write all numbers to this file")
    parser.add_argument("--pairs", type=Path, help="file of preference pairs (the starter's own)")
    parser.add_argument("--model", default="starter", help="starter, a Hub id or a folder")
    parser.add_argument("--count", type=int, default=64, help="pairs")
    parser.add_argument("--rounds", type=int, default=3, help="floors and passes that are timed")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="batch sizes of the floor that are tried")
    parser.add_argument("--batch-tokens", type=int, default=768, help="as in attribute.batch_tokens")
    parser.add_argument("--parts", nargs="+", choices=("gradients", "scores", "growth"), help="of the benchmark (all)")
    parser.add_argument("--peak-of", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args(words)
    progress.quiet = True
    if asked.peak_of:
        print(_growth.peak(asked.peak_of[0], int(asked.peak_of[1])))
        return 0
    asked.source = "starter" if asked.pairs is None else "hh"
    asked.pairs = None if asked.pairs is None else str(asked.pairs)
    found = circumstances(__file__, words) | measure(asked, asked.parts or ("gradients", "scores", "growth"))
    show(found)
    write(found, asked.json)
    return 0


def measure(asked: argparse.Namespace, parts: Sequence[str]) -> dict[str, Any]:
    """All numbers of the parts that are asked for."""
    found: dict[str, Any] = {}
    if "growth" in parts:
        found |= _growth.measured(__file__)
    if "gradients" in parts or "scores" in parts:
        ground = Ground(asked)
        found |= gradients(asked, ground) if "gradients" in parts else {}
        found |= _scores.compared(ground, asked.batch_tokens) if "scores" in parts else {}
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
