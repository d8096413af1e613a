"""REINFORCE leave-one-out: align to a reward without a value model (arXiv 2402.14740), through TRL.

One step:
1. draw `num_generations` answers to each of `rollouts` prompts from the full distribution at `temperature`;
2. return of an answer: its reward - `beta` x KL, KL = sum over its tokens of log pi - log pi_ref (the adapter off);
   less `eos_penalty` where it has no end token;
3. advantage: the return less the mean return of the *other* answers to the same prompt;
4. `num_iterations` passes over the answers: -min(ratio A, clip(ratio, 1 - clip, 1 + clip) A), mean over answers, where
   ratio = pi(answer) / pi(answer when drawn), a ratio of whole answers and not of tokens.

TRL does all of it. What is ours:
1. The prompts are those of PPO: the same tokens in the same order, never tokenised a second time.
2. Every step's draws are made from (seed, step): nothing has to be restored when a killed run goes on.
3. The reward sees whether the model ended its answer, as a reward model saw it in its training.
4. A row that is padded on the left counts its positions from its first token, in training as in generation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from preftrace.align import _rl

if TYPE_CHECKING:
    from preftrace import models
    from preftrace.align._job import Job
    from preftrace.align._train import Trained

VERSION = 2
POLICY = True
LOSS = "clipped ratio of whole answers x leave-one-out advantage of (reward - beta x KL), negative, mean over answers"


class Config(_rl.RLConfig):
    """Settings of RLOO. `epochs` counts passes over the prompts; `batch_size` is answers in one pass of the model."""

    rollouts: int = Field(4, ge=1, description="prompts answered in one step")
    num_generations: int = Field(4, ge=2, description="answers to each prompt; each is compared with the others")
    num_iterations: int = Field(1, ge=1, description="passes over the answers of one step")
    beta: float = Field(0.05, ge=0, description="strength of the hold to the reference: reward units for a nat of KL")
    clip: float = Field(0.2, gt=0, description="how far an answer's ratio may move before its gradient stops")
    normalise_advantages: bool = Field(
        False, description="shift and scale a step's advantages to mean 0 and variance 1"
    )
    eos_penalty: float = Field(0.0, ge=0, description="taken off the reward of an answer without an end token")
    stop_ratio: float = Field(10.0, gt=1, description="stop when a pass's mean ratio of answers is above this")

    @model_validator(mode="after")
    def _whole_batches(self) -> Self:
        answers, batch = self.rollouts * self.num_generations, self.batch_size * self.gradient_accumulation
        if answers % batch:
            raise ValueError(
                f"a step has rollouts x num_generations = {answers} answers, which batch_size x gradient_accumulation ="
                f" {batch} does not divide; set batch_size to a divisor of {answers}"
            )
        return self

    def updates(self) -> int:
        """How often the weights change in one step."""
        answers, batch = self.rollouts * self.num_generations, self.batch_size * self.gradient_accumulation
        return answers // batch * self.num_iterations


def train(job: Job, lm: models.LanguageModel) -> Trained:
    """Train on the prompts of the training pairs; see `preftrace.align`. Writes `answers.parquet`.

    Raises:
        ConfigError: `adapter.method` is full, the adapter is on the output head, or the reward cannot be found.
        UserError: the training diverged; the message says which setting to change.
    """
    from preftrace.align import _rloo_run

    return _rloo_run.train(job, lm)


def fault(logs: dict[str, float], config: Config) -> str:
    """What is wrong with a step's numbers and which setting to change, or "" where nothing is."""
    return _rl.fault(logs, config.stop_kl, config.stop_ratio, "beta", "num_iterations")
