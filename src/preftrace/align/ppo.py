"""Proximal policy optimisation of a language model against a reward (arXiv 1707.06347; for answers: arXiv 1909.08593).

One step:
1. draw an answer to each of `rollouts` prompts, from the very distribution that the ratio assumes (no top-k, no top-p);
2. score the answers; log pi, log pi_ref (the adapter off) and values of every answer token, without gradients;
3. token rewards (KL to the reference at every token, the score at the last), advantages, whitened;
4. `ppo_epochs` passes over the answers in minibatches: clipped policy loss + `value_coef` x clipped value loss.

One backbone does everything: the policy is its adapter, the reference is the adapter off, the value a scalar head on
the policy's hidden states. Departures from the papers and from TRL's former trainer:
1. The value is a weighted mean, not a sum, of the layer-normed hidden state (no norm parameters), so that one step of
   Adam moves it by about its learning rate on any backbone. Its bias, which moves all values alike, has a tenth of
   that rate. It starts at zero: the first advantages are returns.
2. Log-probabilities are those of the training forward pass, temperature included, never those of generation.
3. Every draw has its own seed made from (seed, step, row): nothing has to be restored when a killed run goes on.
4. Losses are means over the tokens of a whole minibatch, however it is split into passes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from preftrace.align import _rl

if TYPE_CHECKING:
    from preftrace import models
    from preftrace.align._job import Job
    from preftrace.align._train import Trained

VERSION = 5
POLICY = True
LOSS = "clipped policy surrogate on whitened advantages + value_coef x clipped value loss, means over tokens"


class Config(_rl.RLConfig):
    """Settings of PPO. `epochs` counts passes over the prompts; `batch_size` is answers in one pass of the model."""

    ppo_epochs: int = Field(2, ge=1, description="passes over the answers of one step")
    kl_coef: float = Field(0.05, ge=0, description="strength of the hold to the reference")
    kl_target: float | None = Field(None, gt=0, description="KL in nats an answer that kl_coef is steered to (none)")
    kl_form: Literal["k1", "k3"] = Field("k1", description="k1: log ratio, unbiased; k3: never negative")
    gamma: float = Field(1.0, gt=0, le=1, description="discount from token to token")
    lam: float = Field(0.95, ge=0, le=1, description="of the advantage estimate: 0 one step, 1 the whole return")
    clip: float = Field(0.2, gt=0, description="how far the ratio may move before its gradient stops")
    value_clip: float = Field(0.2, gt=0, description="how far a value may move in one step")
    value_coef: float = Field(0.1, ge=0, description="weight of the value loss")
    value_learning_rate: float = Field(
        0.1, gt=0, description="of the value head: about how far one update can move a value (scores have deviation 1)"
    )
    whiten: bool = Field(True, description="shift and scale advantages to mean 0 and variance 1")
    scale_reward: bool = Field(True, description="divide scores by their running standard deviation")
    reward_clip: float = Field(10.0, gt=0, description="scaled scores are held within this")
    eos_penalty: float = Field(0.0, ge=0, description="taken off the scaled score of an answer without an end token")
    stop_ratio: float = Field(10.0, gt=1, description="stop when a minibatch's mean ratio is above this")


def train(job: Job, lm: models.LanguageModel) -> Trained:
    """Train on the prompts of the training pairs; see `preftrace.align`. Writes `answers.parquet` and the value head.

    Raises:
        ConfigError: `adapter.method` is full, or the reward cannot be found.
        UserError: the training diverged; the message says which setting to change.
    """
    from preftrace.align import _ppo_run

    return _ppo_run.train(job, lm)


def fault(logs: dict[str, float], config: Config) -> str:
    """What is wrong with a step's numbers and which setting to change, or "" where nothing is."""
    return _rl.fault(logs, config.stop_kl, config.stop_ratio, "kl_coef", "ppo_epochs")


def rate(config: Config, step: int, steps: int) -> float:
    """Share of the highest learning rate at a step (counted from 0): it rises over the warm-up, then falls or stays."""
    rising = int(config.warmup * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    done = (step - rising) / max(steps - rising, 1)
    return {"linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}.get(config.scheduler, 1.0)


def running_deviation(moments: tuple[float, float, float], scores: Any) -> tuple[tuple[float, float, float], float]:
    """Count, mean and summed squares after more scores, and the standard deviation (1 where it is 0).

    Chan et al. (1979), "Updating formulae and a pairwise algorithm for computing sample variances".
    """
    count, mean, squares = moments
    n, own = len(scores), float(scores.mean())
    gap, total = own - mean, count + n
    squares += float(((scores - own) ** 2).sum()) + gap**2 * count * n / total
    after = (total, mean + gap * n / total, squares)
    return after, deviation(after)


def deviation(moments: tuple[float, float, float]) -> float:
    """The standard deviation (ddof 1) that count, mean and summed squares make; 1 where it is 0 or unknown."""
    count, _, squares = moments
    return math.sqrt(squares / (count - 1)) if count > 1 and squares > 0 else 1.0
