"""What stages that learn from a reward share: the reward's settings, and when a step has gone wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field

from preftrace import rewards
from preftrace.align._config import StageConfig


class RLConfig(StageConfig):
    """How a stage learns from a reward. `epochs` counts passes over the prompts."""

    # Where the reward lies is no part of the identity: what it computes is, by `digests`.
    SPEED: ClassVar[frozenset[str]] = StageConfig.SPEED | {"reward"}
    RATES: ClassVar[dict[str, float]] = {"lora": 2e-4, "full": 2e-5}

    from_: str = Field("sft", alias="from", description="the stage whose model this one starts from; base: none")
    reward: str = Field(
        "reward",
        min_length=1,
        description="a reward stage of the study, stage:FOLDER of one, hf:MODEL[#LABEL], or python:FILE.py:FUNCTION",
    )
    rollouts: int = Field(16, ge=1, description="prompts answered in one step")
    max_new_tokens: int = Field(32, ge=1, description="most tokens of an answer")
    temperature: float = Field(1.0, gt=0, description="of the sampled distribution, which is the one that is trained")
    stop_kl: float = Field(100.0, gt=0, description="stop when the KL of a step is above this, in nats an answer")
    log_answers: int = Field(2, ge=0, description="answers of each step that are kept in answers.parquet")
    holdout_answers: int = Field(
        4, ge=1, description="answers to each held-out prompt, before and after, that its mean reward is over"
    )

    def needs(self) -> tuple[str, ...]:
        """The stage it starts from, and the reward stage."""
        return (self.from_,) if ":" in self.reward else (self.from_, self.reward)

    def located(self, folders: Mapping[str, Path]) -> Self:
        """With the folder of the reward stage in place of its name."""
        if self.reward not in folders:
            return self
        return self.model_copy(update={"reward": f"stage:{folders[self.reward]}"})

    def digests(self) -> dict[str, str]:
        """Of what computes the reward."""
        return {"reward": rewards.digest(self.reward)}


def fault(logs: Mapping[str, float], stop_kl: float, stop_ratio: float, hold: str, passes: str) -> str:
    """What is wrong with a step's numbers and which setting to change, or "" where nothing is.

    Args:
        logs: loss, grad_norm, reward, kl (nats an answer) and ratio.
        stop_kl: highest KL that is let pass.
        stop_ratio: highest mean ratio that is let pass.
        hold: name of the setting that holds the policy to its reference.
        passes: name of the setting that says how often the answers of a step are used.
    """
    wrong = [name for name in ("loss", "grad_norm", "reward", "kl", "ratio") if not math.isfinite(logs[name])]
    if wrong:
        return f"its {wrong[0].replace('_', ' ')} is {logs[wrong[0]]}; lower learning_rate or look at the reward"
    if logs["kl"] > stop_kl:
        return f"the KL to the reference is {logs['kl']:.3g} nats an answer; raise {hold} or lower learning_rate"
    if logs["ratio"] > stop_ratio:
        return f"the mean ratio is {logs['ratio']:.3g}; lower learning_rate or {passes}"
    return ""
