"""How fast answers are sampled, against transformers' `generate` called prompt by prompt. On the CPU.

    python benchmarks/generation.py --items rtp_toxic.jsonl               # prints a table; minutes on two cores
    python benchmarks/generation.py --items rtp_toxic.jsonl --json g.json # and writes all numbers

Both sides draw `samples` answers of `max_new_tokens` at the temperature of the toxicity vertical, from the full
distribution, in float32, after the same prompts: those of the file's first items, as the vertical reads them. The end
tokens are taken away for both, so that both draw equally many tokens. **Ours** is what an evaluation does: its batches
of items of like length, `models.sample`, seeds for each item and sample. **Plain** is one call of `generate` for each
prompt, with `do_sample` and `num_return_sequences`, answers decoded. They take turns in one process after one small
batch of each that is not counted; `speedup` is median tokens a second of ours over those of plain.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from _machine import circumstances, clocked, never_ending, write

from preftrace import models
from preftrace.evaluate import configure, load, runner
from preftrace.types import Checkpoint, Sampling, prompt_from_json

Batch = tuple[list[str], list[list[int]]]
"""Prompts, and a seed for each of their samples."""


def ours(lm: models.LanguageModel, batches: Sequence[Batch], sampling: Sampling) -> int:
    """The tokens that are drawn as an evaluation draws them."""
    drawn = [models.sample(lm, prompts, sampling, seeds) for prompts, seeds in batches]
    return sum(len(answer.ids) for batch in drawn for answers in batch for answer in answers)


def plain(lm: models.LanguageModel, batches: Sequence[Batch], sampling: Sampling) -> int:
    """The tokens that are drawn prompt by prompt."""
    tokens = 0
    for prompts, seeds in batches:
        for prompt, own in zip(prompts, seeds, strict=True):
            ids = torch.tensor([lm.tokenizer(prompt)["input_ids"]])
            torch.manual_seed(own[0])
            output = lm.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                do_sample=True,
                temperature=sampling.temperature,
                top_k=0,
                top_p=1.0,
                num_return_sequences=sampling.samples,
                max_new_tokens=sampling.max_new_tokens,
                pad_token_id=lm.pad_id,
            )
            lm.tokenizer.batch_decode(output[:, ids.shape[1] :], skip_special_tokens=True)
            tokens += output[:, ids.shape[1] :].numel()
    return tokens


def compare(asked: argparse.Namespace) -> dict[str, Any]:
    """Both sides in turns."""
    lm = models.load(Checkpoint(asked.model), merge=True, device="cpu", precision="float32")
    never_ending(lm)
    given = {"source": "rtp", "path": str(asked.items)} if asked.items else {}
    sizes = {"samples": asked.samples, "max_new_tokens": asked.max_new_tokens, "batch_size": asked.batch_size}
    sizes = {name: size for name, size in sizes.items() if size is not None}
    config = configure("toxicity", {**given, "limit": asked.count, **sizes})
    vertical = load("toxicity")
    sampling = config.sampling
    assert sampling is not None, "toxicity draws"
    shards = runner.shards(vertical.items(config, 0), config.batch_size, sampling.samples, 0)
    batches = [
        ([str(prompt_from_json(item["prompt"])) for item in shard["items"]], [item["seeds"] for item in shard["items"]])
        for shard in shards
    ]
    sides = {"ours": ours, "plain": plain}
    runs: dict[str, list[float]] = {side: [] for side in sides}
    tokens = {}
    for draw in sides.values():
        draw(lm, [(batches[0][0][:2], batches[0][1][:2])], sampling)
    for _ in range(asked.rounds):
        for side, draw in sides.items():
            seconds, tokens[side] = clocked(lambda draw=draw: draw(lm, batches, sampling))
            runs[side].append(tokens[side] / seconds)
    middle = {side: statistics.median(found) for side, found in runs.items()}
    return {
        "speedup": middle["ours"] / middle["plain"],
        "speedup_of_maxima": max(runs["ours"]) / max(runs["plain"]),
        "tokens_per_second": middle,
        "tokens_per_second_of_all_rounds": runs,
        "tokens": tokens,
        "prompts": sum(len(prompts) for prompts, _ in batches),
        "prompt_tokens": sum(len(lm.tokenizer(prompt)["input_ids"]) for prompts, _ in batches for prompt in prompts),
        "batches": len(batches),
        "settings": {
            "samples": sampling.samples,
            "max_new_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "batch_size": config.batch_size,
        },
    }


def show(found: dict[str, Any]) -> None:
    """Print the table."""
    print(f"{found['prompts']} prompts of {found['prompt_tokens']} tokens, {found['settings']['samples']} answers each")
    for side, speed in found["tokens_per_second"].items():
        print(f"{side:6}{speed:10.1f} tokens a second")
    print(f"speedup {found['speedup']:.2f}")


def settings(words: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write all numbers to this file")
    parser.add_argument("--items", type=Path, help="file of RealToxicityPrompts rows (the starter's own prompts)")
    parser.add_argument("--model", default="starter", help="starter, a Hub id or a folder")
    parser.add_argument("--count", type=int, default=32, help="prompts")
    parser.add_argument("--rounds", type=int, default=3, help="how often each side is timed")
    parser.add_argument("--samples", type=int, help="answers to each prompt (the vertical's default)")
    parser.add_argument("--max-new-tokens", type=int, default=50, help="tokens of an answer")
    parser.add_argument("--batch-size", type=int, help="prompts in one of our batches (the vertical's default)")
    return parser.parse_args(words)


def main(words: Sequence[str]) -> int:
    """The script."""
    asked = settings(words)
    found = circumstances(__file__, words) | compare(asked)
    show(found)
    write(found, asked.json)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
