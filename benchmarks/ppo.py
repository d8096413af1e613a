"""One PPO step against its floor, and its memory against that of PPO with a separate value model. On the CPU.

    python benchmarks/ppo.py                    # prints a table; about five minutes on two cores
    python benchmarks/ppo.py --json ppo.json    # and writes all numbers

**The step** is the ppo stage's own (`align/_ppo_run.py`), with `ppo.Config`'s defaults, LoRA r=8 on all linear modules,
float32, prompts of the starter pairs, and the answers' lengths as the reward. **The floor** is what a step cannot do
without, each part as plain transformers and PEFT code does it, over the same prompts and as many answer tokens:

- generate: one batched `generate` that samples, with the adapter on;
- forward: log-probabilities under the policy and under the reference (the adapter off), from full logits;
- update: a forward and a backward pass over all answers for each of `ppo_epochs`.

Each part of the floor but `generate` runs at the batch size that is best for it, which is found first; its rows are
sorted by length. The model's end tokens are taken away for both sides, so that all answers are equally long. Steps and
floors take turns in one process after one of each that is not counted; `ratio_to_floor` is median step / median floor.

**Memory** is the highest resident size (MiB) of a process that loads the model and does one step. In
`separate_value_peak_rss_mib` the process also holds what a separate value model costs at least: a second backbone with
its own LoRA adapter, head and AdamW. Its no-gradient pass and its updates come after the policy's of the same step, in
batches of the same size, so that their activations never add up. (The step trains its own small head in both.)
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from _machine import circumstances, clocked, never_ending, number_of_a_process, peak_rss_mib, timed, write

from preftrace import models, preferences
from preftrace.align import _ppo_run, ppo
from preftrace.align._job import Job
from preftrace.align._ppo_policy import Policy, State
from preftrace.config import AdapterConfig
from preftrace.models import adapters
from preftrace.models.prompts import Encoded
from preftrace.rewards import Answer
from preftrace.types import Checkpoint

SIZES = (1, 2, 4, 8, 16)
PARTS = ("generate", "forward", "update", "rest")
STEPS = 1000
"""How long the training is that the steps are taken from: it sets the learning rate only."""
Seconds = dict[str, float]


class Bench:
    """A policy, its prompts, and steps and floors of it.

    Args:
        asked: the command line's settings.
        folder: for working files; nothing is written there by a step.
    """

    def __init__(self, asked: argparse.Namespace, folder: Path) -> None:
        sizes = {name: getattr(asked, name) for name in ("rollouts", "max_new_tokens", "batch_size")}
        self.config = ppo.Config(**{name: size for name, size in sizes.items() if size is not None})
        self.start = Checkpoint(asked.model)
        self.job = Job(
            kind="ppo",
            config=self.config,
            checkpoint=self.start,
            pairs=folder,
            adapter=AdapterConfig(),
            work=folder,
            final=folder / "ppo",
            format="raw",
            seed=0,
        )
        lm = models.load(self.start, merge=True, device="cpu", precision="float32")
        never_ending(lm)
        self.policy, self.state = Policy(self.job, lm), State(kl_coef=self.config.kl_coef)
        found: dict[str, Any] = {}
        for pair in preferences.read_pairs(preferences.PreferencesConfig(source="starter")):
            found.setdefault(models.render(pair.prompt, lm.tokenizer, "raw"), pair)
        texts = list(found)[: self.config.rollouts]
        self.prompts = [(found[text], Encoded(tuple(lm.tokenizer(text)["input_ids"]), (), False)) for text in texts]

    def step(self) -> Seconds:
        """One PPO step."""
        seconds = dict.fromkeys(PARTS, 0.0)
        with contextlib.ExitStack() as stack:
            for home, name, part in (
                (models, "sample_ids", "generate"),
                (_ppo_run, "_batched", "forward"),
                (_ppo_run, "_update", "update"),
            ):
                stack.enter_context(timed(home, name, seconds, part))
            work = (self.job, self.policy, self.state, self.state.step, STEPS, self.prompts, length)
            seconds["rest"] = clocked(lambda: _ppo_run._step(*work))[0] - sum(seconds.values())
        return seconds

    def floor(self, sizes: dict[str, int]) -> Seconds:
        """What a step cannot do without, with batches of the given sizes."""
        seconds = dict.fromkeys(PARTS, 0.0)
        seconds["generate"], rows = clocked(self.generate)
        seconds["forward"] = clocked(lambda: self.forward(rows, sizes["forward"]))[0]
        with self.policy.lm.model.disable_adapter():
            seconds["forward"] += clocked(lambda: self.forward(rows, sizes["forward"]))[0]
        for _ in range(self.config.ppo_epochs):
            seconds["update"] += clocked(lambda: self.backward(rows, sizes["update"]))[0]
        return seconds

    def best_sizes(self) -> tuple[dict[str, int], dict[str, dict[str, float]]]:
        """The batch size that is fastest for each part of the floor, and the seconds of all that were tried."""
        rows = self.generate()
        tried = [size for size in SIZES if size <= len(rows)]
        seen: dict[str, dict[str, float]] = {"forward": {}, "update": {}}
        for size in (tried[0], *tried):  # the first is a warm-up
            seen["forward"][str(size)] = clocked(lambda size=size: self.forward(rows, size))[0]
            seen["update"][str(size)] = clocked(lambda size=size: self.backward(rows, size))[0]
        return {part: int(min(found, key=lambda size: found[size])) for part, found in seen.items()}, seen

    def generate(self) -> list[list[int]]:
        """Rows of a prompt and an answer each, sorted by length; the answer is the last `max_new_tokens`."""
        lm, new = self.policy.lm, self.config.max_new_tokens
        prompts = [list(row.prompt_ids) for _, row in self.prompts]
        width = max(len(prompt) for prompt in prompts)
        output = lm.model.generate(
            input_ids=torch.tensor([[lm.pad_id] * (width - len(p)) + p for p in prompts]),
            attention_mask=torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts]),
            do_sample=True,
            top_k=0,
            top_p=1.0,
            max_new_tokens=new,
            min_new_tokens=new,
            pad_token_id=lm.pad_id,
        )
        rows = [p + answer for p, answer in zip(prompts, output[:, width:].tolist(), strict=True)]
        return sorted(rows, key=len)

    def forward(self, rows: Sequence[list[int]], size: int) -> None:
        """Log-probabilities of all answers."""
        with torch.no_grad():
            for at in range(0, len(rows), size):
                self.logps(rows[at : at + size])

    def backward(self, rows: Sequence[list[int]], size: int) -> None:
        """Gradients of the mean log-probability of all answers."""
        for at in range(0, len(rows), size):
            self.logps(rows[at : at + size]).mean().backward()
        self.policy.optimizer.zero_grad()

    def logps(self, rows: Sequence[list[int]]) -> torch.Tensor:
        """Of the answer tokens, `(n, max_new_tokens)`, as one writes it without care for the output head."""
        ids, mask = padded(rows, self.policy.lm.pad_id)
        logits = self.policy.lm.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        logps = logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
        last = torch.tensor([[len(row) - 1] for row in rows]) - torch.arange(self.config.max_new_tokens, 0, -1)
        return logps.gather(1, last)


class SeparateValue:
    """A value model of its own: backbone, adapter, head and optimiser; see the module's docstring."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        lm = models.load(bench.start, merge=True, device="cpu", precision="float32")
        self.model = adapters.attach(lm.model, bench.job.adapter, 1).eval()
        self.head = torch.nn.Linear(self.model.get_output_embeddings().in_features, 1)
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW([*trained, *self.head.parameters()], lr=1e-4)

    def passes(self) -> None:
        """The values of all answers without gradients, then `ppo_epochs` of updates."""
        config, new = self.bench.config, [0] * self.bench.config.max_new_tokens
        rows = [[*row.prompt_ids, *new] for _, row in self.bench.prompts]
        parts = [rows[at : at + config.batch_size] for at in range(0, len(rows), config.batch_size)]
        with torch.no_grad():
            for part in parts:
                self.values(part)
        for part in parts * config.ppo_epochs:
            self.values(part).square().mean().backward()
            self.optimizer.step()
            self.optimizer.zero_grad()

    def values(self, rows: Sequence[list[int]]) -> torch.Tensor:
        """Of every token, `(n, t)`; the transformer alone, without the output head."""
        ids, mask = padded(rows, self.bench.policy.lm.pad_id)
        core = self.model.get_base_model().base_model
        return self.head(core(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state)[..., 0]


def padded(rows: Sequence[list[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and mask, `(n, t)`, padded on the right."""
    width = max(map(len, rows))
    ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows])
    return ids, torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])


def length(answers: Sequence[Answer]) -> list[float]:
    """The reward: characters of an answer."""
    return [float(len(answer.text)) for answer in answers]


def compare(asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Steps and floors in turns."""
    bench = Bench(asked, folder)
    sizes, tried = bench.best_sizes()
    bench.step()
    bench.floor(sizes)
    runs: dict[str, list[Seconds]] = {"step": [], "floor": []}
    for _ in range(asked.rounds):
        runs["step"].append(bench.step())
        runs["floor"].append(bench.floor(sizes))
    totals = {side: [sum(run.values()) for run in found] for side, found in runs.items()}
    middle = {side: statistics.median(found) for side, found in totals.items()}
    return {
        "ratio_to_floor": middle["step"] / middle["floor"],
        "ratio_of_minima": min(totals["step"]) / min(totals["floor"]),
        "seconds": middle,
        "seconds_by_part": {
            side: {part: statistics.median(run[part] for run in found) for part in PARTS}
            for side, found in runs.items()
        },
        "seconds_of_all_rounds": totals,
        "floor_batch_sizes": sizes,
        "floor_batch_sizes_tried": tried,
        "answers": len(bench.prompts),
        "prompt_tokens": sum(len(row.prompt_ids) for _, row in bench.prompts),
        "settings": {**bench.config.identity(), "learning_rate": bench.config.rate(bench.job.adapter)},
        "adapter": bench.job.adapter.identity(),
    }


def step_in_memory(asked: argparse.Namespace, folder: Path) -> float:
    """Do one step in this process, with a separate value model or without; its peak memory."""
    bench = Bench(asked, folder)
    separate = SeparateValue(bench) if asked.memory == "separate" else None
    bench.step()
    if separate is not None:
        separate.passes()
    return peak_rss_mib()


def show(found: dict[str, Any]) -> None:
    """Print the table."""
    parts = found["seconds_by_part"]
    print(f"{found['answers']} answers, {found['prompt_tokens']} prompt tokens; seconds, medians")
    print(f"{'':10}{'step':>8}{'floor':>8}{'ratio':>8}")
    for part in PARTS:
        step, floor = parts["step"][part], parts["floor"][part]
        print(f"{part:10}{step:8.2f}{floor:8.2f}" + (f"{step / floor:8.2f}" if floor else ""))
    print(f"{'all':10}{found['seconds']['step']:8.2f}{found['seconds']['floor']:8.2f}{found['ratio_to_floor']:8.2f}")
    sizes = ", ".join(f"{part} {size}" for part, size in found["floor_batch_sizes"].items())
    print(f"the floor's best batch sizes: {sizes}")
    ours, separate = found["peak_rss_mib"], found["separate_value_peak_rss_mib"]
    print(f"peak memory: {ours:.0f} MiB; with a separate value model {separate:.0f} MiB ({separate / ours:.2f} times)")


def settings(words: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write all numbers to this file")
    parser.add_argument("--model", default="starter", help="starter, a Hub id or a folder")
    parser.add_argument("--rounds", type=int, default=5, help="steps and floors that are timed")
    parser.add_argument("--rollouts", type=int, help="answers of a step (the stage's default)")
    parser.add_argument("--max-new-tokens", type=int, help="tokens of an answer (the stage's default)")
    parser.add_argument("--batch-size", type=int, help="answers in one pass of the step (the stage's default)")
    parser.add_argument("--memory", choices=("shared", "separate"), help="print the peak memory of one step only")
    return parser.parse_args(words)


def main(words: Sequence[str]) -> int:
    """The script."""
    asked = settings(words)
    with tempfile.TemporaryDirectory() as folder:
        if asked.memory:
            print(step_in_memory(asked, Path(folder)))
            return 0
        found = circumstances(__file__, words) | compare(asked, Path(folder))
    found["peak_rss_mib"] = number_of_a_process(__file__, [*words, "--memory", "shared"])
    found["separate_value_peak_rss_mib"] = number_of_a_process(__file__, [*words, "--memory", "separate"])
    show(found)
    write(found, asked.json)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
